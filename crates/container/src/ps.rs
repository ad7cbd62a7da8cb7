//! One line of `docker ps`.
//!
//! Source: moby `container/view.go`, `container/state.go`, `daemon/list.go`, version 20.10; go-units `duration.go`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use strata_spec::{ContainerId, ImageId};

use crate::{
    Container, Error, Status, Store,
    inspect::InspectMount,
    record::{Health, State},
};

/// What is shown of a container in a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    pub id: ContainerId,
    /// Without its slash.
    pub name: String,
    /// The image's name, or its ID where the name has come to mean another image.
    pub image: String,
    pub image_id: Option<ImageId>,
    /// Program and arguments; those with blanks in single quotes.
    pub command: String,
    pub created: Option<Timestamp>,
    pub status: Status,
    /// `Up 3 minutes`, `Exited (0) 2 hours ago`.
    pub status_text: String,
    pub exit_code: i64,
    /// `none` where there is no health check.
    pub health: String,
    pub labels: BTreeMap<String, String>,
    pub mounts: Vec<InspectMount>,
    /// Names, sorted.
    pub networks: Vec<String>,
    /// The storage driver that has its layers.
    pub driver: String,
    pub size: Option<Size>,
}

/// Bytes of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// What the container wrote.
    pub rw: u64,
    /// That and its image.
    pub root: u64,
}

impl Store {
    /// Returns the line of `container`; `now` is what times are told against, and `image_named` says what a name means today.
    pub fn summary(
        &self,
        container: &Container,
        now: Timestamp,
        image_named: &dyn Fn(&str) -> Option<ImageId>,
    ) -> Summary {
        let record = &container.record;
        let image_id = record.image_id();
        let name = &record.config.image;
        let same = *name == record.image || (image_id.is_some() && image_named(name) == image_id);
        Summary {
            id: container.id.clone(),
            name: container.name().to_owned(),
            image: if same { name.clone() } else { record.image.clone() },
            image_id,
            command: command(&record.path, &record.args),
            created: record.created_at(),
            status: record.state.status(),
            status_text: status_text(&record.state, now),
            exit_code: record.state.exit_code,
            health: record.state.health.as_ref().map_or("none", |health| &health.status).to_owned(),
            labels: record.config.labels.clone().unwrap_or_default(),
            mounts: record.mount_points.values().map(|point| self.mount_of(point)).collect(),
            networks: record.network_settings.networks.keys().cloned().collect(),
            driver: record.driver.clone(),
            size: None,
        }
    }

    /// Adds up what a container takes. Walks what it wrote.
    pub fn size(&self, container: &Container) -> Result<Size, Error> {
        let (layer, layers) = self.layer(container)?;
        let rw = layer.size(layers)?;
        let image = match layer.parent {
            Some(parent) => layers.chain(parent)?.iter().map(|layer| layer.size).sum(),
            None => 0,
        };
        Ok(Size { rw, root: rw + image })
    }
}

/// A command as `docker ps --no-trunc` has it.
fn command(path: &str, args: &[String]) -> String {
    let mut words = vec![path.to_owned()];
    words.extend(args.iter().map(|arg| if arg.contains(' ') { format!("'{arg}'") } else { arg.clone() }));
    words.join(" ")
}

/// A state as `docker ps` tells it.
pub fn status_text(state: &State, now: Timestamp) -> String {
    let since = |then: Option<Timestamp>| human_duration(now.duration_since(then.unwrap_or(now)).as_secs());
    match state {
        s if s.running && s.paused => format!("Up {} (Paused)", since(s.started())),
        s if s.running && s.restarting => format!("Restarting ({}) {} ago", s.exit_code, since(s.finished())),
        s if s.running => match &s.health {
            Some(health) => format!("Up {} ({})", since(s.started()), health_text(health)),
            None => format!("Up {}", since(s.started())),
        },
        s if s.removal_in_progress => "Removal In Progress".to_owned(),
        s if s.dead => "Dead".to_owned(),
        s if s.started().is_none() => "Created".to_owned(),
        s if s.finished().is_none() => String::new(),
        s => format!("Exited ({}) {} ago", s.exit_code, since(s.finished())),
    }
}

fn health_text(health: &Health) -> &str {
    match health.status.as_str() {
        "" => "unhealthy",
        "starting" => "health: starting",
        status => status,
    }
}

/// A length of time in one rounded unit, as Docker says it.
pub fn human_duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        ..=0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_docker_says_them() {
        const HOUR: i64 = 3600;
        for (seconds, text) in [
            (-5, "Less than a second"),
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (HOUR, "About an hour"),
            (2 * HOUR - 1800, "2 hours"),
            (47 * HOUR, "47 hours"),
            (48 * HOUR, "2 days"),
            (13 * 24 * HOUR, "13 days"),
            (14 * 24 * HOUR, "2 weeks"),
            (60 * 24 * HOUR, "2 months"),
            (3 * 365 * 24 * HOUR, "3 years"),
        ] {
            assert_eq!(human_duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn states_in_words() {
        let at = |seconds: i64| Timestamp::from_second(1_700_000_000 + seconds).unwrap();
        let mut state = State::created();
        assert_eq!(status_text(&state, at(0)), "Created");
        state.set_running(9, at(0));
        assert_eq!(status_text(&state, at(5)), "Up 5 seconds");
        state.health = Some(Health { status: "starting".into(), ..Health::default() });
        assert_eq!(status_text(&state, at(5)), "Up 5 seconds (health: starting)");
        state.paused = true;
        assert_eq!(status_text(&state, at(5)), "Up 5 seconds (Paused)");
        state.set_exited(137, at(10));
        assert_eq!(status_text(&state, at(190)), "Exited (137) 3 minutes ago");
        state.dead = true;
        assert_eq!(status_text(&state, at(190)), "Dead");
    }
}
