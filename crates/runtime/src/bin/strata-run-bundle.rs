//! Runs a command in a root filesystem, with Docker's defaults, by hand and in tests.
//!
//! `strata-run-bundle [flags] <rootfs> <command> [args]`
//!
//! Flags: `-i`, `-t`, `--net none|host`, `--runtime <program>`, `--state <folder>`, `--id <id>`, `--user uid:gid`,
//! `--env NAME=value`, `--cwd <path>`, `--read-only`, `--cap-add <name>`, `--cap-drop <name>`,
//! `--tmpfs <path>[:options]`, `--bind <source>:<destination>[:options]`, `--no-new-privileges`, `--unconfined`.

use std::{path::PathBuf, process::ExitCode};

use strata_runtime::{
    Error, Runtime, Stdin, Task,
    spec::{Mount, Network, SeccompProfile, SpecBuilder},
};

fn main() -> ExitCode {
    strata_runtime::init();
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("strata-run-bundle: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

#[derive(Default)]
struct Args {
    state: Option<PathBuf>,
    id: Option<String>,
    runtime: Runtime,
    stdin: Stdin,
    changes: Vec<Box<dyn FnOnce(SpecBuilder) -> SpecBuilder>>,
    env: Vec<String>,
    add: Vec<String>,
    drop: Vec<String>,
    rest: Vec<String>,
}

fn parse() -> Args {
    let mut args = std::env::args().skip(1);
    let mut parsed = Args::default();
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
        match arg.as_str() {
            "-i" => parsed.stdin = Stdin::Attached,
            "-t" => parsed.changes.push(Box::new(|spec| spec.terminal(true))),
            "--net" if value() == "host" => parsed.changes.push(Box::new(|spec| spec.network(Network::Host))),
            "--net" => {}
            "--runtime" => parsed.runtime = Runtime::External(value().into()),
            "--state" => parsed.state = Some(value().into()),
            "--id" => parsed.id = Some(value()),
            "--user" => {
                let ids: Vec<u32> = value().split(':').map(|id| id.parse().expect("uid:gid")).collect();
                parsed.changes.push(Box::new(move |spec| spec.user(ids[0], ids[1], &[ids[1]])));
            }
            "--env" => parsed.env.push(value()),
            "--cwd" => {
                let cwd = value();
                parsed.changes.push(Box::new(move |spec| spec.cwd(cwd)));
            }
            "--read-only" => parsed.changes.push(Box::new(|spec| spec.readonly(true))),
            "--cap-add" => parsed.add.push(value()),
            "--cap-drop" => parsed.drop.push(value()),
            "--tmpfs" => {
                let text = value();
                let (path, options) = text.split_once(':').unwrap_or((&text, ""));
                let (path, options) = (path.to_owned(), options.to_owned());
                parsed.changes.push(Box::new(move |spec| {
                    spec.tmpfs(path, &options.split(',').filter(|option| !option.is_empty()).collect::<Vec<_>>())
                }));
            }
            "--bind" => {
                let text = value();
                let mut parts = text.split(':').map(str::to_owned);
                let mut part = || parts.next();
                let (from, to, options) = (part().expect("a source"), part().expect("a destination"), part());
                let words = options.unwrap_or_else(|| "rprivate".to_owned());
                let options = ["rbind"].into_iter().chain(words.split(',')).map(str::to_owned).collect();
                let mount = Mount { destination: to.into(), kind: "bind".to_owned(), source: from.into(), options };
                parsed.changes.push(Box::new(move |spec| spec.mount(mount)));
            }
            "--no-new-privileges" => parsed.changes.push(Box::new(|spec| spec.no_new_privileges(true))),
            "--unconfined" => parsed.changes.push(Box::new(|spec| spec.seccomp(SeccompProfile::Unconfined))),
            _ => {
                parsed.rest.push(arg);
                parsed.rest.extend(args);
                break;
            }
        }
    }
    parsed
}

fn run() -> Result<u8, Error> {
    let args = parse();
    let mut rest = args.rest.into_iter();
    let rootfs = std::path::absolute(rest.next().expect("a root filesystem")).expect("a path");
    let id = args.id.unwrap_or_else(|| format!("bundle{}", std::process::id()));
    let mut env = vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()];
    env.push(format!("HOSTNAME={id}"));
    env.extend(args.env);
    let mut spec = SpecBuilder::new(&id, rootfs).args(rest).env(env).capabilities(&args.add, &args.drop);
    for change in args.changes {
        spec = change(spec);
    }
    let spec = spec.build()?;
    let bundle = std::env::temp_dir().join(format!("strata-bundle-{id}-{}", std::process::id()));
    std::fs::create_dir(&bundle).expect("a bundle folder");
    let state = args.state.unwrap_or_else(|| "/run/strata-example".into());
    let filters = state.with_extension("filters");
    let task = Task {
        id: &id,
        bundle: &bundle,
        state_root: &state,
        filters: &filters,
        spec: &spec,
        stdin: args.stdin,
        runtime: &args.runtime,
    };
    let ended = strata_runtime::run(&task, |_| Ok::<(), Error>(()), |_| {});
    let _ = std::fs::remove_dir_all(&bundle);
    Ok(u8::try_from(ended?.code).unwrap_or(255))
}
