//! `create`: an image by name becomes a container.

use strata_container::{Created, Request};
use strata_spec::{ImageConfig, Platform, chain_id};

use crate::{Engine, Error};

impl Engine {
    /// Creates a container of the image that `request.image` names. What the user should know stands in its warnings.
    pub fn create_container(&self, request: &Request) -> Result<Created, Error> {
        let id = self.images().resolve(&request.image)?;
        let image = self.images().get(id)?;
        // Held until the container's own layers stand on the image's.
        let mut lease = self.layers().lease()?;
        if let Some(top) = chain_id(image.diff_ids()) {
            lease.hold(top)?;
        }
        let mut created = self.containers().create(id, &image, request)?;
        lease.done()?;
        created.warnings.extend(platform_warning(&image, request.platform.as_ref()));
        Ok(created)
    }
}

/// Docker's words for an image of another machine.
fn platform_warning(image: &ImageConfig, asked: Option<&Platform>) -> Option<String> {
    let document = image.document();
    let host = Platform::host();
    let is = Platform {
        os: document.os.clone(),
        architecture: document.architecture.clone(),
        variant: document.variant.clone(),
        ..Platform::default()
    };
    if asked.is_some() || document.architecture.is_empty() || is.runs_on(&host) {
        return None;
    }
    Some(format!(
        "The requested image's platform ({is}) does not match the detected host platform ({host}) and no specific platform was requested"
    ))
}
