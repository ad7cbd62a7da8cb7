//! Services of object stores.
//!
//! | service | redirects | parts of a blob |
//! | --- | --- | --- |
//! | S3, OSS | signed with the key | the service's own |
//! | Google Cloud Storage | signed with a service account's private key | as S3's |
//! | Azure | none, bytes leave through the registry: URLs that are signed here would let clients write and delete too | blocks |
//! | Swift | with the container's key for temporary URLs | objects below `.segments`, which are removed with their blob |
//!
//! A request that the service refuses as temporary, whose connection breaks, or that is not answered in time is sent again a few times
//! with growing waits.

use std::time::Duration;

use opendal::{
    Operator,
    layers::{RetryEvent, RetryLayer, TimeoutLayer},
    services::{Azblob, Gcs as GcsBuilder, Oss as OssBuilder, S3 as S3Builder, Swift as SwiftBuilder},
};

use super::{object::Bucket, swift};

/// A service and the registry's location on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// Amazon S3 and compatible services.
    S3(S3),
    /// Azure Blob Storage.
    Azure(Azure),
    /// Google Cloud Storage.
    Gcs(Gcs),
    /// OpenStack Swift.
    Swift(Swift),
    /// Alibaba Cloud OSS.
    Oss(Oss),
}

/// Where a URL names the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As the first part of the path.
    Path,
    /// As a part of the host's name.
    Host,
}

/// A bucket of S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3 {
    /// Name of the bucket.
    pub bucket: String,
    /// The region of the bucket.
    pub region: String,
    /// URL of a server other than the vendor's.
    pub endpoint: Option<String>,
    /// Prefix of all keys.
    pub root: String,
    /// Key and secret; those of the environment if not given.
    pub keys: Option<(String, String)>,
    /// The form of URLs.
    pub style: Style,
}

/// A container of Azure's blobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Azure {
    /// Name of the account.
    pub account: String,
    /// The key in base64; an identity of the environment if not given.
    pub key: Option<String>,
    /// Name of the container.
    pub container: String,
    /// URL of the service.
    pub endpoint: String,
    /// Prefix of all keys.
    pub root: String,
}

/// A bucket of Google Cloud Storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gcs {
    /// Name of the bucket.
    pub bucket: String,
    /// Who asks.
    pub credentials: GcsCredentials,
    /// Of a server other than the vendor's own.
    pub endpoint: Option<String>,
    /// Prefix of all keys.
    pub root: String,
}

/// Credentials for Google Cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GcsCredentials {
    /// Those of the environment or of the machine's metadata.
    Environment,
    /// The JSON of a service account or of another identity, in a file.
    File(String),
    /// That JSON itself, in base64.
    Inline(String),
}

/// A container of OpenStack Swift.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swift {
    /// The login.
    pub login: swift::Login,
    /// Name of the container.
    pub container: String,
    /// Prefix of all keys.
    pub root: String,
    /// The container's key for temporary URLs, if it has one.
    pub url_key: Option<String>,
}

/// A bucket of Alibaba's OSS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oss {
    /// Name of the bucket.
    pub bucket: String,
    /// URL of the service.
    pub endpoint: String,
    /// Prefix of all keys.
    pub root: String,
    /// ID and secret; those of the environment if not given.
    pub keys: Option<(String, String)>,
    /// The form of URLs.
    pub style: Style,
    /// Whether the service encrypts what it stores.
    pub encryption: Encryption,
}

/// How a service encrypts what it stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// As the bucket says.
    Bucket,
    /// With a key of the service.
    Aes256,
    /// With this key of the vendor's key service.
    Key(String),
}

/// How often a request is sent again, and the wait before the first time; each further wait is twice as long, and a part of it is drawn.
const AGAIN: usize = 4;
const WAIT: Duration = Duration::from_millis(200);
/// Within which a service answers: what it knows of an object, and any request that moves bytes or lists, a part of a blob at a time.
const ANSWER: Duration = Duration::from_secs(20);
const TRANSFER: Duration = Duration::from_secs(60);

/// Makes ready to use `service`; asks nobody, but for Swift, where it logs in. Must be called as [`super::object::Objects::new`].
pub fn bucket(service: &Service, runtime: &tokio::runtime::Handle) -> Result<Bucket, String> {
    // The first call alone counts.
    opendal::install_default();
    let made = match service {
        Service::S3(s3) => s3_operator(s3),
        Service::Azure(azure) => azure_operator(azure),
        Service::Gcs(gcs) => gcs_operator(gcs),
        Service::Swift(swift) => return swift_bucket(swift, runtime),
        Service::Oss(oss) => oss_operator(oss),
    };
    let signs = !matches!(service, Service::Azure(_));
    Ok(Bucket { operator: patient(made.map_err(|error| error.to_string())?), segments: None, signs })
}

fn patient(operator: Operator) -> Operator {
    let again = RetryLayer::new().with_max_times(AGAIN).with_min_delay(WAIT).with_jitter();
    let limited = operator.layer(TimeoutLayer::new().with_timeout(ANSWER).with_io_timeout(TRANSFER));
    limited.layer(again.with_notify(|event: RetryEvent<'_>| {
        tracing::warn!(operation = %event.op, error = %event.err, wait = ?event.retry_after, "the object store is asked again");
    }))
}

fn s3_operator(s3: &S3) -> opendal::Result<Operator> {
    let mut builder = S3Builder::default().bucket(&s3.bucket).region(&s3.region).root(&s3.root);
    if let Some(endpoint) = &s3.endpoint {
        builder = builder.endpoint(endpoint);
    }
    if let Some((key, secret)) = &s3.keys {
        builder = builder.access_key_id(key).secret_access_key(secret).disable_config_load();
    }
    if s3.style == Style::Host {
        builder = builder.enable_virtual_host_style();
    }
    Operator::new(builder)
}

fn azure_operator(azure: &Azure) -> opendal::Result<Operator> {
    let builder = Azblob::default().container(&azure.container).endpoint(&azure.endpoint).root(&azure.root);
    let builder = builder.account_name(&azure.account);
    Operator::new(match &azure.key {
        Some(key) => builder.account_key(key),
        None => builder,
    })
}

fn gcs_operator(gcs: &Gcs) -> opendal::Result<Operator> {
    let mut builder = GcsBuilder::default().bucket(&gcs.bucket).root(&gcs.root);
    if let Some(endpoint) = &gcs.endpoint {
        builder = builder.endpoint(endpoint);
    }
    Operator::new(match &gcs.credentials {
        GcsCredentials::Environment => builder,
        GcsCredentials::File(path) => builder.credential_path(path).disable_config_load().disable_vm_metadata(),
        GcsCredentials::Inline(json) => builder.credential(json).disable_config_load().disable_vm_metadata(),
    })
}

fn oss_operator(oss: &Oss) -> opendal::Result<Operator> {
    let mut builder = OssBuilder::default().bucket(&oss.bucket).endpoint(&oss.endpoint).root(&oss.root);
    builder = builder.addressing_style(if oss.style == Style::Path { "path" } else { "virtual" });
    if let Some((id, secret)) = &oss.keys {
        builder = builder.access_key_id(id).access_key_secret(secret);
    }
    Operator::new(match &oss.encryption {
        Encryption::Bucket => builder,
        Encryption::Aes256 => builder.server_side_encryption("AES256"),
        Encryption::Key(key) => builder.server_side_encryption("KMS").server_side_encryption_key_id(key),
    })
}

fn swift_bucket(swift: &Swift, runtime: &tokio::runtime::Handle) -> Result<Bucket, String> {
    let (transport, endpoint) = runtime.block_on(swift::Transport::login(swift.login.clone()))?;
    let transport = opendal::HttpTransporter::new(transport);
    let at = |root: &str| {
        // The token stands in for the one that the transport puts in its place.
        let builder = SwiftBuilder::default().endpoint(&endpoint).container(&swift.container).root(root).token("-");
        let builder = match &swift.url_key {
            Some(key) => builder.temp_url_key(key),
            None => builder,
        };
        let operator = Operator::new(builder).map_err(|error| error.to_string())?;
        let context = operator.context().with_http_transport(transport.clone());
        Ok::<_, String>(patient(operator.with_context(context)))
    };
    let root = swift.root.trim_matches('/');
    let segments = at(format!(".segments/{root}").trim_end_matches('/'))?;
    Ok(Bucket { operator: at(root)?, segments: Some(segments), signs: swift.url_key.is_some() })
}
