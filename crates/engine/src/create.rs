//! `create`: an image by name becomes a container.

use strata_container::{Created, Request};
use strata_runtime::Exit;
use strata_spec::{ImageConfig, ImageId, Platform};

use crate::{Engine, Error};

impl Engine {
    /// Creates a container of the image that `request.image` names. What the user should know stands in its warnings.
    pub fn create_container(&self, request: &Request) -> Result<Created, Error> {
        let (id, image) = self.image_of(request)?;
        let mut created = self.containers().create(id, &image, request)?;
        created.warnings.extend(platform_warning(&image, request.platform.as_ref()));
        Ok(created)
    }

    /// Creates a container and runs it to its end in the foreground; `ready` is called in between.
    pub fn run_container(&self, request: &Request, ready: impl FnOnce(&Created)) -> Result<Exit, Error> {
        let (id, image) = self.image_of(request)?;
        let warning = platform_warning(&image, request.platform.as_ref());
        let exit = self.containers().create_and_run(id, &image, request, |created| {
            let mut created = created.clone();
            created.warnings.extend(warning);
            ready(&created);
        })?;
        Ok(exit)
    }

    /// Its layers need no hold from here: making the container's own layer looks them up and holds them in one step.
    fn image_of(&self, request: &Request) -> Result<(ImageId, ImageConfig), Error> {
        let mut tries = 8;
        loop {
            let id = self.images().resolve(&request.image)?;
            match self.images().get(id) {
                // It was removed in between: the name tells what there is now.
                Err(strata_image::Error::NotFound(_)) if tries > 0 => tries -= 1,
                image => return Ok((id, image?)),
            }
        }
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
