//! A seccomp profile compiled to the program that the kernel runs, once for all containers that have the same one.
//!
//! ```text
//! filters/<sha256>    the program's own sha256 in hex, then the program
//! ```
//!
//! libseccomp takes longer to compile Docker's profile for all the ABIs of this machine than all else that a container needs. The
//! name is a digest of what the program follows from: the profile, libseccomp's version, and the kernel's release. The folder
//! is on a tmpfs and as trusted as the configurations beside it; what is damaged there is compiled again.
//!
//! The rules are given to libseccomp as libcontainer gives them. What has a part in judging outside the filter (a listener, a
//! tracer) is left to libcontainer.

use std::{
    fs,
    io::{Read, Seek},
    path::Path,
};

use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall, ScmpVersion};
use strata_spec::Digest;
use strata_sys::{
    process::kernel_release,
    seccomp::{INSTRUCTION, MAX_INSTRUCTIONS},
};

use crate::spec::{Seccomp, SeccompArg, SeccompRule};

/// Hex digits of a sha256.
const DIGEST: usize = 64;

/// Returns the program of `profile`, from `folder` or for it; `None` if it must be left to libcontainer, be it to say what is wrong
/// with it.
pub(crate) fn program(profile: &Seccomp, folder: &Path) -> Option<Vec<u8>> {
    let path = folder.join(key(profile)?);
    if let Some(program) = fs::read(&path).ok().and_then(whole) {
        return Some(program);
    }
    let program = compile(profile)?;
    if let Err(error) = keep(folder, &path, &program) {
        tracing::debug!(%error, path = %path.display(), "the next container compiles its seccomp profile again");
    }
    Some(program)
}

/// The digest of all that a program follows from.
fn key(profile: &Seccomp) -> Option<String> {
    let version = ScmpVersion::current().ok()?;
    let text = serde_json::to_string(profile).ok()?;
    let version = format!("{}.{}.{}", version.major, version.minor, version.micro);
    Some(Digest::sha256(format!("1 {version} {} {text}", kernel_release()).as_bytes()).hex())
}

/// The program in a file of ours, if the file is whole.
fn whole(file: Vec<u8>) -> Option<Vec<u8>> {
    let (digest, program) = file.split_at_checked(DIGEST)?;
    let is_program =
        program.len().is_multiple_of(INSTRUCTION) && (1..=MAX_INSTRUCTIONS).contains(&(program.len() / INSTRUCTION));
    (is_program && digest == sha256(program)).then(|| program.to_vec())
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    Digest::sha256(bytes).hex().into_bytes()
}

/// Whoever reads sees all of the file or none.
fn keep(folder: &Path, path: &Path, program: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let new = path.with_extension(std::process::id().to_string());
    fs::write(&new, [&sha256(program), program].concat())
        .and_then(|()| fs::rename(&new, path))
        .inspect_err(|_| drop(fs::remove_file(&new)))
}

fn compile(profile: &Seccomp) -> Option<Vec<u8>> {
    let default = action(&profile.default_action, None)?;
    let mut context = ScmpFilterContext::new(default).ok()?;
    for arch in &profile.architectures {
        context.add_arch(arch.parse().ok()?).ok()?;
    }
    for rule in &profile.syscalls {
        add(&mut context, default, rule)?;
    }
    let file = rustix::fs::memfd_create("strata-seccomp", rustix::fs::MemfdFlags::CLOEXEC).ok()?;
    let mut file = fs::File::from(file);
    context.export_bpf(&file).ok()?;
    let mut program = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut program)).ok()?;
    Some(program)
}

fn add(context: &mut ScmpFilterContext, default: ScmpAction, rule: &SeccompRule) -> Option<()> {
    let then = action(&rule.action, rule.errno_ret)?;
    if then == default {
        return Some(());
    }
    let conditions = rule.args.iter().map(condition).collect::<Option<Vec<_>>>()?;
    let repeats = |at: usize| rule.args[..at].iter().any(|arg| arg.index == rule.args[at].index);
    for name in &rule.names {
        // A call that this libseccomp does not know falls under the default action.
        let Ok(call) = ScmpSyscall::from_name(name) else { continue };
        if (0..rule.args.len()).any(repeats) {
            // A rule takes an argument once: as with runc, several conditions on one are alternatives.
            conditions.iter().try_for_each(|one| context.add_rule_conditional(then, call, &[*one]).map(drop)).ok()?;
        } else {
            context.add_rule_conditional(then, call, &conditions).ok()?;
        }
    }
    Some(())
}

fn action(name: &str, errno: Option<u32>) -> Option<ScmpAction> {
    Some(match name {
        "SCMP_ACT_ALLOW" => ScmpAction::Allow,
        "SCMP_ACT_ERRNO" => {
            let errno = errno.unwrap_or(rustix::io::Errno::PERM.raw_os_error().unsigned_abs());
            ScmpAction::Errno(errno.try_into().ok()?)
        }
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => ScmpAction::KillThread,
        "SCMP_ACT_KILL_PROCESS" => ScmpAction::KillProcess,
        "SCMP_ACT_TRAP" => ScmpAction::Trap,
        "SCMP_ACT_LOG" => ScmpAction::Log,
        _ => return None,
    })
}

fn condition(arg: &SeccompArg) -> Option<ScmpArgCompare> {
    let op = match arg.op.as_str() {
        "SCMP_CMP_NE" => ScmpCompareOp::NotEqual,
        "SCMP_CMP_LT" => ScmpCompareOp::Less,
        "SCMP_CMP_LE" => ScmpCompareOp::LessOrEqual,
        "SCMP_CMP_EQ" => ScmpCompareOp::Equal,
        "SCMP_CMP_GE" => ScmpCompareOp::GreaterEqual,
        "SCMP_CMP_GT" => ScmpCompareOp::Greater,
        "SCMP_CMP_MASKED_EQ" => ScmpCompareOp::MaskedEqual(arg.value_two.unwrap_or(0)),
        _ => return None,
    };
    Some(ScmpArgCompare::new(arg.index, op, arg.value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Arch, seccomp_profile};

    fn profile() -> Seccomp {
        seccomp_profile(&["CAP_CHOWN"], Arch::native(), (6, 1))
    }

    #[test]
    fn a_program_is_compiled_once_and_again_when_its_file_is_damaged() {
        let root = tempfile::tempdir().expect("temp dir");
        let first = program(&profile(), root.path()).expect("compiles");
        assert!(first.len() > 100 * INSTRUCTION && first.len().is_multiple_of(INSTRUCTION));
        let path = root.path().join(key(&profile()).expect("a key"));
        let file = fs::read(&path).expect("kept");
        assert_eq!(program(&profile(), root.path()), Some(first.clone()));

        let mut flipped = file.clone();
        *flipped.last_mut().expect("not empty") ^= 1;
        for damaged in [&[][..], &file[..DIGEST], &file[..file.len() - INSTRUCTION], &flipped] {
            fs::write(&path, damaged).expect("write");
            assert_eq!(program(&profile(), root.path()).as_ref(), Some(&first));
            assert_eq!(fs::read(&path).expect("kept"), file);
        }
        assert_eq!(fs::read_dir(root.path()).expect("list").count(), 1);
    }

    #[test]
    fn another_profile_is_another_program() {
        let root = tempfile::tempdir().expect("temp dir");
        let plain = program(&profile(), root.path()).expect("compiles");
        let admin = seccomp_profile(&["CAP_SYS_ADMIN"], Arch::native(), (6, 1));
        assert_ne!(program(&admin, root.path()).expect("compiles"), plain);
    }

    #[test]
    fn a_folder_that_cannot_be_made_costs_time_alone() {
        let root = tempfile::tempdir().expect("temp dir");
        let file = root.path().join("file");
        fs::write(&file, "").expect("write");
        assert!(program(&profile(), &file).is_some());
    }

    #[test]
    fn what_is_not_judged_by_the_filter_alone_is_left_to_libcontainer() {
        let root = tempfile::tempdir().expect("temp dir");
        for change in [
            |profile: &mut Seccomp| profile.default_action = "SCMP_ACT_NOTIFY".to_owned(),
            |profile: &mut Seccomp| profile.syscalls[0].action = "SCMP_ACT_TRACE".to_owned(),
            |profile: &mut Seccomp| profile.architectures.push("SCMP_ARCH_PDP11".to_owned()),
        ] {
            let mut changed = profile();
            change(&mut changed);
            assert_eq!(program(&changed, root.path()), None);
        }
    }
}
