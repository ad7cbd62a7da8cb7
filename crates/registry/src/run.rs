//! A running server: listeners, garbage collection, and the purge of uploads.

use std::{net::SocketAddr, sync::Arc, sync::atomic::Ordering::Relaxed, time::Duration};

use tokio::{runtime::Handle, sync::watch, task::JoinHandle};

use crate::{
    auth::{
        Access, Realm,
        htpasswd::Htpasswd,
        issuer::{Issuer, Pair},
        policy::Policies,
        token::Verifier,
    },
    config::{Auth, Config, Place},
    error::Error,
    gc::{self, Options, Report, Run},
    http::{Server, debug, handle::Service, rate::Limiter, tls::Tls},
    metrics::Metrics,
    notify::Notifier,
    quota::Quotas,
    storage::{
        Reach, Storage,
        filesystem::Filesystem,
        object::{Before, Objects},
        services,
    },
    store::Store,
    upload::{self, Uploads},
};

/// The reason why a server did not start.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(String);

impl StartError {
    fn of(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// A server that runs until [`Running::stop`].
pub struct Running {
    address: SocketAddr,
    debug: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    service: Arc<Service>,
    tls: Option<Arc<Tls>>,
}

/// Opens a storage. The caller is on a runtime's thread that may block.
pub fn open_storage(place: &Place, before: Before) -> Result<Arc<dyn Storage>, StartError> {
    match place {
        Place::Directory(root) => Ok(Arc::new(Filesystem::open(root).map_err(StartError::of)?)),
        Place::Objects { service, part } => {
            let runtime = Handle::current();
            let bucket = services::bucket(service, &runtime).map_err(StartError::of)?;
            Ok(Arc::new(Objects::new(bucket, runtime, *part, before)))
        }
    }
}

/// Opens repositories and uploads for a server, which counts uploads that an earlier server began.
fn open_served(config: &Config) -> Result<(Arc<Store>, Arc<Uploads>), StartError> {
    let (store, uploads) = open_store(config, Before::Unknown)?;
    match store.storage().reach() {
        Reach::Local => uploads.find().map_err(StartError::of)?,
        // Listing an object store takes minutes; the server answers clients meanwhile.
        Reach::Remote => {
            let found = uploads.clone();
            tokio::task::spawn_blocking(move || {
                found
                    .find()
                    .unwrap_or_else(|error| tracing::error!(%error, "uploads of an earlier server are not counted"));
            });
        }
    }
    Ok((store, uploads))
}

/// Opens repositories and uploads without a server. The caller is as for [`open_storage`].
pub fn open_store(config: &Config, before: Before) -> Result<(Arc<Store>, Arc<Uploads>), StartError> {
    let storage = open_storage(&config.place, before)?;
    let quotas = Quotas::load(config.quotas.clone(), &*storage).map_err(StartError::of)?;
    let store = Arc::new(Store::new(storage, config.rules.clone(), quotas));
    let uploads = Uploads::new(store.clone(), config.limits);
    Ok((store, uploads))
}

/// Collects garbage, whether or not a server runs. The caller is as for [`open_storage`].
pub fn collect(config: &Config, options: &Options) -> Result<Report, StartError> {
    let (store, uploads) = open_store(config, Before::Nothing)?;
    gc::collect(&store, &uploads, options).map_err(StartError::of)
}

fn access(config: &Config) -> Result<Access, String> {
    let policies = Arc::new(Policies::new(config.policies.clone()));
    match &config.auth {
        Auth::Open => Ok(Access::Open),
        Auth::Htpasswd { realm, path } => {
            Ok(Access::Basic { realm: realm.clone(), users: Htpasswd::open(path)?, policies })
        }
        Auth::Outside { realm, service, issuer, algorithms, keys } => {
            let verifier = Verifier::open(issuer, service, algorithms.clone(), keys.clone())?;
            Ok(Access::Bearer { realm: realm.clone(), service: service.clone(), verifier, issuer: None })
        }
        Auth::Own { path, service, lifetime, key } => {
            let pair = Pair::load(key.as_deref())?;
            let (issuer, verifier) = Issuer::new(service, service, *lifetime, pair, Htpasswd::open(path)?, policies);
            let issuer = Some(Box::new(issuer));
            Ok(Access::Bearer { realm: Realm::Path("/token".into()), service: service.clone(), verifier, issuer })
        }
    }
}

impl Running {
    /// Starts a server. On return it accepts connections.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let shared = Arc::new(config);
        let config = shared.clone();
        let opened = tokio::task::spawn_blocking(move || open_served(&config)).await;
        let (store, uploads) = opened.map_err(StartError::of)??;
        let config = shared;
        let metrics = Arc::new(Metrics::default());
        let service = Arc::new(Service {
            store,
            uploads,
            access: access(&config).map_err(StartError::of)?,
            notify: Notifier::start(config.endpoints.clone(), &metrics),
            metrics,
            limiter: config.rate.map(Limiter::new),
            settings: config.settings.clone(),
        });
        let tls = config.tls.clone().map(Tls::open).transpose().map_err(StartError::of)?.map(Arc::new);
        let listening = |address: SocketAddr| move |error| StartError(format!("cannot listen on {address}: {error}"));
        let server = Server::bind(config.address, service.clone(), tls.clone(), config.connections).await;
        let server = server.map_err(listening(config.address))?;
        let address = server.address().map_err(listening(config.address))?;
        let (stop, stopped) = watch::channel(false);
        let debug = match config.debug {
            None => None,
            Some(address) => {
                Some(debug::serve(address, service.clone(), stopped.clone()).await.map_err(listening(address))?)
            }
        };
        background(&config, &service, &stopped);
        let serving = tokio::spawn(server.run(stopped, config.drain));
        Ok(Self { address, debug, stop, serving, service, tls })
    }

    /// The address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of metrics and health, if they have their own.
    pub fn debug_address(&self) -> Option<SocketAddr> {
        self.debug
    }

    /// What requests are answered with.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Reads certificates and keys again; invalid ones change nothing.
    pub fn reload(&self) {
        if let Some(tls) = &self.tls {
            tls.reload();
        }
        self.service.access.reload();
    }

    /// Stops listening and returns when the requests under way have ended.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        if let Err(error) = self.serving.await {
            tracing::error!(%error, "the server failed while it stopped");
        }
    }
}

/// Starts the periodic tasks.
fn background(config: &Config, service: &Arc<Service>, stopped: &watch::Receiver<bool>) {
    if !config.collecting.interval.is_zero() {
        let (untagged, grace) = (config.collecting.untagged, config.rules.grace);
        every(config.collecting.interval, service.clone(), stopped.clone(), move |service| {
            let options = Options { run: Run::ForReal, grace, untagged, uploads: None };
            let report = gc::collect(&service.store, &service.uploads, &options)?;
            service.metrics.gc_runs.fetch_add(1, Relaxed);
            service.metrics.gc_blobs.fetch_add(report.blobs.len() as u64, Relaxed);
            service.metrics.gc_bytes.fetch_add(report.bytes, Relaxed);
            for damaged in &report.damaged {
                tracing::warn!(damaged, "garbage collection cannot tell what this names");
            }
            for repository in &report.kept_whole {
                tracing::warn!(repository, "garbage collection kept the whole repository because of damage in it");
            }
            tracing::info!(blobs = report.blobs.len(), bytes = report.bytes, kept = report.kept, "garbage collected");
            Ok(())
        });
    }
    if let Some(purging) = config.purging {
        every(purging.interval, service.clone(), stopped.clone(), move |service| {
            let purged = upload::purge(&service.uploads, purging.age, purging.run)?;
            if !purged.is_empty() {
                tracing::info!(uploads = purged.len(), "abandoned uploads were removed");
            }
            Ok(())
        });
    }
}

fn every(
    interval: Duration,
    service: Arc<Service>,
    mut stopped: watch::Receiver<bool>,
    work: impl Fn(&Service) -> Result<(), Error> + Send + Sync + 'static,
) {
    let work = Arc::new(work);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
            let (service, work) = (service.clone(), work.clone());
            match tokio::task::spawn_blocking(move || work(&service)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "maintenance failed"),
                Err(error) => tracing::error!(%error, "a maintenance task panicked"),
            }
        }
    });
}
