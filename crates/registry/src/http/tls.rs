//! TLS: certificate and key from files, read again on demand.

use std::{path::PathBuf, sync::Arc, sync::Mutex};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio_rustls::TlsAcceptor;

/// What the configuration says of TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The server's certificate and those between it and its root, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Root certificates for client certificates, PEM; empty if clients show none.
    pub client_roots: Vec<PathBuf>,
    /// Whether a client must show a certificate, where there are roots for them.
    pub clients: Clients,
    /// The oldest version that is spoken.
    pub minimum: Version,
    /// Names of the cipher suites that are offered; empty for all.
    pub cipher_suites: Vec<String>,
    /// Protocols for ALPN, the preferred one first.
    pub protocols: Vec<&'static str>,
}

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// They must.
    MustProve,
    /// They need not; a certificate that is shown must be good.
    MayProve,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// The name of a cipher suite as Go has it: rustls writes `TLS13_` where the standard has `TLS_`.
fn suite_name(suite: &rustls::SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1)
}

/// Names of all cipher suites that can be offered.
pub fn cipher_suites() -> Vec<String> {
    rustls::crypto::aws_lc_rs::default_provider().cipher_suites.iter().map(suite_name).collect()
}

/// The TLS configuration for new connections.
pub struct Tls {
    files: Files,
    current: Mutex<TlsAcceptor>,
}

impl Tls {
    /// Reads the files, which must be valid.
    pub fn open(files: Files) -> Result<Self, String> {
        let current = Mutex::new(load(&files)?);
        Ok(Self { files, current })
    }

    /// Returns the configuration for a new connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.current.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Reads the files again; invalid ones change nothing. Open connections keep their certificate.
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
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    if !files.cipher_suites.is_empty() {
        provider.cipher_suites.retain(|suite| files.cipher_suites.contains(&suite_name(suite)));
    }
    let provider: Arc<CryptoProvider> = Arc::new(provider);
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
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = match files.clients {
            Clients::MustProve => verifier,
            Clients::MayProve => verifier.allow_unauthenticated(),
        };
        let verifier = verifier.build();
        builder.with_client_cert_verifier(verifier.map_err(|error| error.to_string())?)
    };
    let mut config =
        builder.with_single_cert(chain, key).map_err(|error| format!("{}: {error}", files.certificate.display()))?;
    config.alpn_protocols = files.protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(TlsAcceptor::from(Arc::new(config)))
}
