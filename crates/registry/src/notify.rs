//! Notifications: events in distribution's format, posted to webhooks until they are accepted.
//!
//! Each endpoint has a queue in memory and a task that delivers it in order. After `threshold` consecutive failures the task waits for
//! `backoff`. A full queue drops its oldest event and logs it. Events in a queue are lost when the server is killed.
//!
//! Source: distribution, `docs/notifications.md`.

use std::{collections::VecDeque, sync::Arc, sync::Mutex, sync::atomic::Ordering::Relaxed, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};
use strata_spec::Digest;
use tokio::sync::Notify;

use crate::{metrics::Metrics, name::RepoName};

/// Media type of a posted document.
const MEDIA_TYPE: &str = "application/vnd.docker.distribution.events.v1+json";
/// Maximum length of an endpoint's queue.
const QUEUE_MAX: usize = 10_000;

/// A webhook.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// Name in logs.
    pub name: String,
    /// Where events are posted.
    pub url: String,
    /// Headers of each request.
    pub headers: Vec<(String, String)>,
    /// Time limit of a request.
    pub timeout: Duration,
    /// Consecutive failures before a pause.
    pub threshold: u32,
    /// Length of the pause.
    pub backoff: Duration,
    /// Events of these media types are not sent.
    pub ignored_media_types: Vec<String>,
    /// Events of these actions are not sent.
    pub ignored_actions: Vec<String>,
    /// Whether an event of a manifest lists what the manifest names.
    pub includes_references: bool,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It was stored.
    Push,
    /// It was read.
    Pull,
    /// It was linked from another repository.
    Mount,
    /// It was deleted.
    Delete,
}

impl What {
    fn word(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Pull => "pull",
            Self::Mount => "mount",
            Self::Delete => "delete",
        }
    }
}

/// An event.
#[derive(Clone, Debug)]
pub struct Happened {
    /// What happened.
    pub what: What,
    /// The repository.
    pub name: RepoName,
    /// Digest of the object.
    pub digest: Option<Digest>,
    /// The tag of the request.
    pub tag: Option<String>,
    /// Media type of the object.
    pub media_type: String,
    /// Size in bytes.
    pub size: u64,
    /// Name of the user.
    pub actor: Option<String>,
    /// The manifest that was pushed or pulled.
    pub manifest: Option<Bytes>,
}

/// The request that caused an event.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// ID of the request.
    pub id: String,
    /// Address of the client.
    pub address: String,
    /// The host that the client asked.
    pub host: String,
    /// Method of the request.
    pub method: String,
    /// The client's program.
    pub user_agent: String,
    /// The URL of this server.
    pub base: String,
}

tokio::task_local! {
    /// The request that the current task answers.
    pub static ORIGIN: Arc<Origin>;
}

/// Queues and delivers events.
pub struct Notifier {
    queues: Vec<Arc<Queue>>,
    instance: String,
}

struct Queue {
    endpoint: Endpoint,
    events: Mutex<VecDeque<Value>>,
    more: Notify,
    metrics: Arc<Metrics>,
}

impl Notifier {
    /// Starts a task for each endpoint. Must be called within a runtime.
    pub fn start(endpoints: Vec<Endpoint>, metrics: &Arc<Metrics>) -> Self {
        let client = reqwest::Client::new();
        let queues: Vec<Arc<Queue>> = endpoints
            .into_iter()
            .map(|endpoint| {
                let (events, more) = (Mutex::default(), Notify::new());
                Arc::new(Queue { endpoint, events, more, metrics: metrics.clone() })
            })
            .collect();
        for queue in &queues {
            tokio::spawn(deliver(queue.clone(), client.clone()));
        }
        Self { queues, instance: crate::upload::new_id() }
    }

    /// Whether events list what a manifest names.
    pub fn includes_references(&self) -> bool {
        self.queues.first().is_some_and(|queue| queue.endpoint.includes_references)
    }

    /// Queues an event. `event` is called only if there is an endpoint.
    pub fn tell(&self, event: impl FnOnce() -> Happened) {
        if self.queues.is_empty() {
            return;
        }
        let event = event();
        let origin = ORIGIN.try_with(Clone::clone).unwrap_or_default();
        let mut document = self.document(&event, &origin);
        // All endpoints share the section `notifications.events`.
        if let (true, Some(manifest)) = (self.includes_references(), &event.manifest) {
            document["target"]["references"] = references(manifest);
        }
        for queue in &self.queues {
            let ignores = |list: &[String], word: &str| list.iter().any(|ignored| ignored == word);
            if ignores(&queue.endpoint.ignored_actions, event.what.word())
                || ignores(&queue.endpoint.ignored_media_types, &event.media_type)
            {
                continue;
            }
            let mut events = queue.events.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            events.push_back(document.clone());
            if events.len() > QUEUE_MAX {
                events.pop_front();
                queue.metrics.events_dropped.fetch_add(1, Relaxed);
                tracing::warn!(endpoint = queue.endpoint.name, "the queue of events is full; the oldest is lost");
            }
            drop(events);
            queue.more.notify_one();
        }
    }

    fn document(&self, event: &Happened, origin: &Origin) -> Value {
        let mut target = json!({"repository": event.name.as_str()});
        if let Some(fields) = target.as_object_mut() {
            if !event.media_type.is_empty() {
                fields.insert("mediaType".into(), json!(event.media_type));
                fields.insert("size".into(), json!(event.size));
                fields.insert("length".into(), json!(event.size));
            }
            if let Some(digest) = event.digest {
                fields.insert("digest".into(), json!(digest));
                let kind = if event.media_type == "application/octet-stream" { "blobs" } else { "manifests" };
                fields.insert("url".into(), json!(format!("{}/v2/{}/{kind}/{digest}", origin.base, event.name)));
            }
            if let Some(tag) = &event.tag {
                fields.insert("tag".into(), json!(tag));
            }
        }
        let actor = event.actor.as_ref().map_or_else(|| json!({}), |name| json!({ "name": name }));
        json!({
            "id": crate::upload::new_id(),
            "timestamp": strata_spec::time::now_rfc3339(),
            "action": event.what.word(),
            "target": target,
            "request": {
                "id": origin.id, "addr": origin.address, "host": origin.host,
                "method": origin.method, "useragent": origin.user_agent,
            },
            "actor": actor,
            "source": {"addr": origin.host, "instanceID": self.instance},
        })
    }

    /// Waits until all queues are empty, but no longer than `limit`.
    pub async fn drain(&self, limit: Duration) {
        let is_empty =
            |queue: &Arc<Queue>| queue.events.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).is_empty();
        let end = tokio::time::Instant::now() + limit;
        while tokio::time::Instant::now() < end && !self.queues.iter().all(is_empty) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The descriptors of config, layers and manifests that a manifest names.
fn references(manifest: &[u8]) -> Value {
    let manifest: Value = serde_json::from_slice(manifest).unwrap_or_default();
    let list = |key: &str| manifest[key].as_array().cloned().unwrap_or_default();
    let config = Some(&manifest["config"]).filter(|config| config.is_object()).cloned();
    Value::Array(config.into_iter().chain(list("layers")).chain(list("manifests")).collect())
}

/// Posts the events of a queue in order, each until it is accepted.
async fn deliver(queue: Arc<Queue>, client: reqwest::Client) {
    let mut failures = 0;
    loop {
        let first = queue.events.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).front().cloned();
        let Some(event) = first else {
            queue.more.notified().await;
            continue;
        };
        match post(&queue.endpoint, &client, &event).await {
            Ok(()) => {
                failures = 0;
                queue.metrics.events_sent.fetch_add(1, Relaxed);
                let mut events = queue.events.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                // A full queue may have dropped it meanwhile.
                if events.front().is_some_and(|front| front["id"] == event["id"]) {
                    events.pop_front();
                }
            }
            Err(problem) => {
                failures += 1;
                queue.metrics.events_failed.fetch_add(1, Relaxed);
                tracing::warn!(endpoint = queue.endpoint.name, failures, problem, "an event was not taken");
                let pause = if failures >= queue.endpoint.threshold {
                    queue.endpoint.backoff
                } else {
                    Duration::from_millis(100)
                };
                tokio::time::sleep(pause).await;
            }
        }
    }
}

async fn post(endpoint: &Endpoint, client: &reqwest::Client, event: &Value) -> Result<(), String> {
    let body = json!({ "events": [event] }).to_string();
    let mut request =
        client.post(&endpoint.url).timeout(endpoint.timeout).header("content-type", MEDIA_TYPE).body(body);
    for (name, value) in &endpoint.headers {
        request = request.header(name, value);
    }
    let response = request.send().await.map_err(|error| error.to_string())?;
    // distribution counts a redirect as accepted, too.
    if response.status().as_u16() < 400 { Ok(()) } else { Err(format!("it answered {}", response.status())) }
}
