//! TLS: certificate and key from files, read again on demand.

use std::{path::PathBuf, sync::Arc, sync::Mutex};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio_rustls::TlsAcceptor;

/// Where certificates are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The server's certificate and those between it and its root, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Roots of certificates that clients must have; none if clients need none.
    pub client_roots: Vec<PathBuf>,
    pub minimum: Version,
}

/// The oldest version that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Tls12,
    Tls13,
}

/// What new connections are made with.
pub struct Tls {
    files: Files,
    current: Mutex<TlsAcceptor>,
}

impl Tls {
    pub fn open(files: Files) -> Result<Self, String> {
        let current = Mutex::new(load(&files)?);
        Ok(Self { files, current })
    }

    pub fn acceptor(&self) -> TlsAcceptor {
        self.current.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Reads the files again; bad ones leave all as it was. Connections that stand are not touched.
    pub fn reload(&self) {
        match load(&self.files) {
            Ok(acceptor) => {
                *self.current.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = acceptor;
                tracing::info!(certificate = %self.files.certificate.display(), "certificate read again");
            }
            Err(problem) => tracing::error!(problem, "the certificate stays as it was"),
        }
    }
}

fn certificates(path: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let fail = |problem: String| format!("{}: {problem}", path.display());
    let all: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| fail(format!("{error:?}")))?.collect();
    let all = all.map_err(|error| fail(format!("no certificate in PEM: {error:?}")))?;
    if all.is_empty() { Err(fail("there is no certificate in it".into())) } else { Ok(all) }
}

fn load(files: &Files) -> Result<TlsAcceptor, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| format!("{}: no private key in PEM: {error:?}", files.key.display()))?;
    let versions: &[_] = match files.minimum {
        Version::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        Version::Tls13 => &[&rustls::version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(|error| error.to_string())?;
    let builder = if files.client_roots.is_empty() {
        builder.with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        for path in &files.client_roots {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
            }
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        builder.with_client_cert_verifier(verifier.map_err(|error| error.to_string())?)
    };
    let mut config =
        builder.with_single_cert(chain, key).map_err(|error| format!("{}: {error}", files.certificate.display()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
