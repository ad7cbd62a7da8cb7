//! A root filesystem's tar becomes an image of one layer.
//!
//! Source: moby 20.10, `daemon/images/image_import.go`.

use std::io::Read;

use strata_archive::{Limits, compression::decompress};
use strata_spec::{
    ImageConfig, ImageId, Reference,
    config::{Document, History, RootFs, RunConfig},
    manifest::Platform,
    time,
};

use crate::{Error, Store, store::check_os};

/// What an imported image is to be.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `config` of the image: what `--change` made of an empty one.
    pub config: RunConfig,
    /// The comment; `None` for Docker's `Imported from -`.
    pub message: Option<String>,
    /// What it runs on; `None` for this machine.
    pub platform: Option<Platform>,
    /// When it was made, RFC 3339; `None` for now.
    pub created: Option<String>,
    pub limits: Limits,
    /// What it is to be called.
    pub name: Option<Reference>,
}

impl Store {
    /// Makes an image of the tar `input`, compressed or not.
    ///
    /// After a crash there is no image, or all of it.
    pub fn import(&self, input: impl Read + Send, options: Options) -> Result<ImageId, Error> {
        let mut document = document(&options);
        check_os(&document.os)?;
        let mut lease = self.layers().lease()?;
        let (tar, _) = decompress(input, &options.limits)?;
        let unpacked = self.layers().unpack(tar, None, &options.limits)?;
        document.rootfs = RootFs::layers(vec![unpacked.diff_id]);
        self.layers().register(&mut lease, None, vec![unpacked])?;
        let id = self.create_named(&ImageConfig::from_document(document), None, options.name.as_ref())?;
        lease.done()?;
        Ok(id)
    }
}

/// The config, without its layer.
fn document(options: &Options) -> Document {
    let created = Some(options.created.clone().unwrap_or_else(time::now_rfc3339));
    let comment = match options.message.as_deref() {
        None | Some("") => "Imported from -".to_owned(),
        Some(message) => message.to_owned(),
    };
    let platform = options.platform.clone().unwrap_or_else(|| Platform { variant: String::new(), ..Platform::host() });
    Document {
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant,
        config: Some(options.config.clone()),
        container_config: Some(RunConfig::default()),
        created: created.clone(),
        comment: comment.clone(),
        history: vec![History { created, comment, ..History::default() }],
        rootfs: RootFs::layers(Vec::new()),
        ..Document::default()
    }
}
