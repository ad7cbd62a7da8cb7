//! Metrics for Prometheus, at `/metrics`.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Upper bounds of the histogram of durations, in seconds.
const BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0];

/// Counters of a server.
#[derive(Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<(&'static str, String, u16), u64>>,
    durations: Mutex<BTreeMap<&'static str, Histogram>>,
    /// Requests under way.
    pub in_flight: AtomicU64,
    /// Open connections.
    pub connections: AtomicU64,
    /// Bytes of bodies sent.
    pub sent: AtomicU64,
    /// Bytes of bodies received.
    pub received: AtomicU64,
    /// Garbage collections.
    pub gc_runs: AtomicU64,
    /// Blobs that they removed.
    pub gc_blobs: AtomicU64,
    /// Bytes of those blobs.
    pub gc_bytes: AtomicU64,
    /// Events accepted by webhooks.
    pub events_sent: AtomicU64,
    /// Failed deliveries.
    pub events_failed: AtomicU64,
    /// Events dropped from full queues.
    pub events_dropped: AtomicU64,
}

#[derive(Default)]
struct Histogram {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    seconds: f64,
}

/// A value that another part of the server reads when the metrics are written.
pub struct Gauge<'a> {
    /// Name without the prefix.
    pub name: &'a str,
    /// Labels in braces, or nothing.
    pub labels: String,
    /// The value.
    pub value: u64,
}

impl Metrics {
    /// Counts a request that was answered after `time`.
    pub fn request(&self, route: &'static str, method: &str, status: u16, time: Duration) {
        // An unknown method is no label, because a client could create any number of them.
        let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"].contains(&method);
        let method = if known { method } else { "other" };
        *lock(&self.requests).entry((route, method.to_owned(), status)).or_default() += 1;
        let mut durations = lock(&self.durations);
        let histogram = durations.entry(route).or_default();
        let seconds = time.as_secs_f64();
        histogram.count += 1;
        histogram.seconds += seconds;
        BUCKETS
            .iter()
            .zip(&mut histogram.buckets)
            .filter(|(bound, _)| seconds <= **bound)
            .for_each(|(_, count)| *count += 1);
    }

    /// Writes the metrics in Prometheus' text format.
    pub fn text(&self, gauges: &[Gauge<'_>]) -> String {
        let mut out = String::new();
        let mut line = |text: std::fmt::Arguments<'_>| {
            let _ = writeln!(out, "{text}");
        };
        line(format_args!("# TYPE strata_registry_requests_total counter"));
        for ((route, method, status), count) in &*lock(&self.requests) {
            line(format_args!(
                "strata_registry_requests_total{{route=\"{route}\",method=\"{method}\",status=\"{status}\"}} {count}"
            ));
        }
        line(format_args!("# TYPE strata_registry_request_seconds histogram"));
        for (route, histogram) in &*lock(&self.durations) {
            for (bound, count) in BUCKETS.iter().zip(histogram.buckets) {
                line(format_args!(
                    "strata_registry_request_seconds_bucket{{route=\"{route}\",le=\"{bound}\"}} {count}"
                ));
            }
            let Histogram { count, seconds, .. } = histogram;
            line(format_args!("strata_registry_request_seconds_bucket{{route=\"{route}\",le=\"+Inf\"}} {count}"));
            line(format_args!("strata_registry_request_seconds_sum{{route=\"{route}\"}} {seconds}"));
            line(format_args!("strata_registry_request_seconds_count{{route=\"{route}\"}} {count}"));
        }
        for (name, kind, value) in [
            ("requests_in_flight", "gauge", &self.in_flight),
            ("connections", "gauge", &self.connections),
            ("sent_bytes_total", "counter", &self.sent),
            ("received_bytes_total", "counter", &self.received),
            ("gc_runs_total", "counter", &self.gc_runs),
            ("gc_blobs_removed_total", "counter", &self.gc_blobs),
            ("gc_bytes_removed_total", "counter", &self.gc_bytes),
            ("events_sent_total", "counter", &self.events_sent),
            ("events_failed_total", "counter", &self.events_failed),
            ("events_dropped_total", "counter", &self.events_dropped),
        ] {
            line(format_args!("# TYPE strata_registry_{name} {kind}"));
            line(format_args!("strata_registry_{name} {}", value.load(Relaxed)));
        }
        let mut last = "";
        for gauge in gauges {
            if gauge.name != last {
                line(format_args!("# TYPE strata_registry_{} gauge", gauge.name));
                last = gauge.name;
            }
            line(format_args!("strata_registry_{}{} {}", gauge.name, gauge.labels, gauge.value));
        }
        out
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Escapes the value of a label.
pub fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_told() {
        let metrics = Metrics::default();
        metrics.request("blob", "GET", 200, Duration::from_millis(3));
        metrics.request("blob", "BREW", 405, Duration::from_secs(2));
        metrics.sent.fetch_add(7, Relaxed);
        let gauge = Gauge { name: "quota_bytes", labels: format!("{{prefix=\"{}\"}}", label("a\"b")), value: 9 };
        let text = metrics.text(&[gauge]);
        for line in [
            "strata_registry_requests_total{route=\"blob\",method=\"GET\",status=\"200\"} 1",
            "strata_registry_requests_total{route=\"blob\",method=\"other\",status=\"405\"} 1",
            "strata_registry_request_seconds_bucket{route=\"blob\",le=\"0.005\"} 1",
            "strata_registry_request_seconds_bucket{route=\"blob\",le=\"+Inf\"} 2",
            "strata_registry_sent_bytes_total 7",
            "strata_registry_quota_bytes{prefix=\"a\\\"b\"} 9",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
