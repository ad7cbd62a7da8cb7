//! What to do about an error, in this program's own flags and commands: the one place where errors meet them.
//!
//! Libraries say what is wrong with which object; what the user can type to get on is added here, by the error's type and kind.

use strata_engine::Error;

/// Formats the error: each cause once, and what to do about it.
pub fn text(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // An error that shows its source has said it.
        if !text.contains(&cause) {
            text = if text.is_empty() { cause } else { format!("{text}: {cause}") };
        }
    }
    match advice(error) {
        Some(advice) => format!("{text}; {advice}"),
        None => text,
    }
}

/// Docker's words for an image of other platforms than the wanted one.
const NO_PLATFORM: &str = "no matching manifest for";

/// What the user can do.
fn advice(error: &anyhow::Error) -> Option<&'static str> {
    error.chain().find_map(|cause| {
        let engine = cause.downcast_ref::<Error>().and_then(of_engine);
        engine
            .or_else(|| cause.downcast_ref::<strata_image::Error>().and_then(of_image))
            .or_else(|| cause.downcast_ref::<strata_distribution::Error>().and_then(of_distribution))
            .or_else(|| cause.downcast_ref::<strata_container::Error>().and_then(of_container))
    })
}

fn of_engine(error: &Error) -> Option<&'static str> {
    match error {
        Error::DaemonAlive { .. } => Some("stop dockerd first, or give another --data-root"),
        Error::SeveralDrivers { .. } | Error::InSeveral { .. } => Some("say with --storage-driver which one is meant"),
        Error::NoDriver { .. } => Some("--storage-driver vfs copies each layer whole, and works everywhere"),
        Error::Driver(error) => of_driver(error),
        Error::Image(error) => of_image(error),
        Error::Distribution(error) => of_distribution(error),
        Error::Container(error) => of_container(error),
        _ => None,
    }
}

fn of_driver(error: &strata_graphdriver::Error) -> Option<&'static str> {
    match error {
        strata_graphdriver::Error::UnknownDriver(_) => Some("give one of them with --storage-driver"),
        strata_graphdriver::Error::Unsupported { what: "keep layers here", driver, .. } if *driver != "btrfs" => {
            Some("try: --storage-driver fuse-overlayfs")
        }
        strata_graphdriver::Error::Unsupported { what: "limit the size of a container", .. } => {
            Some("on such a filesystem: --storage-driver btrfs")
        }
        _ => None,
    }
}

fn of_image(error: &strata_image::Error) -> Option<&'static str> {
    match error {
        strata_image::Error::Load { reason, .. } if reason.contains(NO_PLATFORM) => Some("choose one with --platform"),
        _ => None,
    }
}

fn of_distribution(error: &strata_distribution::Error) -> Option<&'static str> {
    use strata_distribution::Error as E;
    match error {
        E::NotFound { message, .. } if message.contains(NO_PLATFORM) => Some("choose one with --platform"),
        E::Image(error) => of_image(error),
        _ => None,
    }
}

fn of_container(error: &strata_container::Error) -> Option<&'static str> {
    use strata_container::Error as E;
    match error {
        E::Driver(error) => of_driver(error),
        E::Image(error) => of_image(error),
        E::OtherPlatform { .. } => Some("with the emulator, give the image's platform with --platform"),
        E::Runtime(strata_runtime::Error::RuntimeMissing { .. }) => Some("leave --runtime out for the built-in one"),
        _ => None,
    }
}
