//! `cp`: which side is the container's is told by the colon.
//!
//! Source: docker/cli `cli/command/container/cp.go`, `splitCpArg`.

use std::{
    io::{self, IsTerminal},
    path::Path,
};

use anyhow::bail;
use strata_container::cp::CopyOptions;

use crate::{args::container::Cp, context::Context};

pub fn cp(context: &Context, args: &Cp) -> anyhow::Result<()> {
    let options = CopyOptions { follow_link: args.follow_link, archive: args.archive };
    match (split(&args.source), split(&args.destination)) {
        ((Some(_), _), (Some(_), _)) => bail!("copying between containers is not supported"),
        ((None, _), (None, _)) => bail!("must specify at least one container source"),
        ((Some(name), source), (None, destination)) => {
            // Mounts the container's root to read from it.
            let root = context.write()?;
            let (containers, container) = (root.containers(), root.container(name)?);
            match destination {
                "-" if io::stdout().is_terminal() => {
                    bail!("cowardly refusing to write a tar to a terminal; redirect standard output")
                }
                "-" => containers.copy_out_stream(&container, Path::new(source), io::stdout().lock(), options)?,
                path => containers.copy_out(&container, Path::new(source), Path::new(path), options)?,
            }
        }
        ((None, source), (Some(name), destination)) => {
            let root = context.write()?;
            let (containers, container) = (root.containers(), root.container(name)?);
            match source {
                "-" => containers.copy_in_stream(io::stdin(), &container, Path::new(destination), options)?,
                path => containers.copy_in(Path::new(path), &container, Path::new(destination), options)?,
            }
        }
    }
    Ok(())
}

/// Parts `CONTAINER:PATH`. A path that begins with a slash or a dot is the host's, whatever colons it has.
fn split(argument: &str) -> (Option<&str>, &str) {
    if argument.starts_with(['/', '.']) {
        return (None, argument);
    }
    match argument.split_once(':') {
        Some((container, path)) if !container.is_empty() => (Some(container), path),
        _ => (None, argument),
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn the_colon_tells_the_container() {
        let cases = [
            ("box:/etc", (Some("box"), "/etc")),
            ("box:", (Some("box"), "")),
            ("./a:b", (None, "./a:b")),
            ("/a:b", (None, "/a:b")),
            ("-", (None, "-")),
            ("file", (None, "file")),
        ];
        for (text, expected) in cases {
            assert_eq!(split(text), expected, "{text}");
        }
    }
}
