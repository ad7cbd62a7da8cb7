//! Docker's default seccomp profile, as a table of who may call what, resolved for one container.
//!
//! The system calls and conditions are those of moby 20.10 (Apache-2.0; see NOTICE), in our own form: a rule names its
//! system calls in one string, and says on which architectures and with which capabilities it holds.
//! What no rule allows fails with `EPERM`.

use super::oci::{Seccomp, SeccompArg, SeccompRule};

/// Flags of `clone(2)` that make namespaces (mount, cgroup, uts, ipc, user, pid, net): refused without CAP_SYS_ADMIN.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;
/// `ENOSYS`, by which a libc falls back from `clone3` (whose flags a filter cannot read) to `clone`.
const ENOSYS: u32 = 38;
/// `ptrace` bypassed seccomp before this kernel.
const PTRACE_IS_SAFE: (u32, u32) = (4, 8);

/// An architecture as the profile's conditions name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    Amd64,
    X86,
    Arm,
    Arm64,
    Mips64,
    Mipsel64,
    Ppc64le,
    Riscv64,
    S390x,
    Other,
}

impl Arch {
    /// The architecture that this program was built for.
    pub fn native() -> Self {
        match (std::env::consts::ARCH, cfg!(target_endian = "little")) {
            ("x86_64", _) => Self::Amd64,
            ("x86", _) => Self::X86,
            ("arm", _) => Self::Arm,
            ("aarch64", _) => Self::Arm64,
            ("mips64", false) => Self::Mips64,
            ("mips64", true) => Self::Mipsel64,
            ("powerpc64", true) => Self::Ppc64le,
            ("riscv64", _) => Self::Riscv64,
            ("s390x", _) => Self::S390x,
            _ => Self::Other,
        }
    }

    /// The ABIs whose calls the filter judges: the native one, and those that the kernel runs beside it.
    fn abis(self) -> &'static [&'static str] {
        match self {
            Self::Amd64 => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            Self::Arm64 => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
            Self::Mips64 => &["SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64N32"],
            Self::Mipsel64 => &["SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64N32"],
            Self::S390x => &["SCMP_ARCH_S390X", "SCMP_ARCH_S390"],
            Self::X86 => &["SCMP_ARCH_X86"],
            Self::Arm => &["SCMP_ARCH_ARM"],
            Self::Ppc64le => &["SCMP_ARCH_PPC64LE"],
            Self::Riscv64 => &["SCMP_ARCH_RISCV64"],
            Self::Other => &["SCMP_ARCH_NATIVE"],
        }
    }
}

/// On what a rule depends, besides the call itself.
#[derive(Clone, Copy)]
enum When {
    Always,
    /// The running kernel is at least this.
    Kernel((u32, u32)),
    On(&'static [Arch]),
    Has(&'static str),
    Lacks(&'static str),
    LacksOn(&'static str, &'static [Arch]),
    LacksNotOn(&'static str, &'static [Arch]),
}

#[derive(Clone, Copy)]
enum Then {
    Allow,
    Fail(u32),
    /// Allow where argument `0` equals the value.
    AllowIf(u64),
    /// Allow where the argument of that index has none of the bits.
    AllowWithout(u32, u64),
}

use Then::{Allow, AllowIf, AllowWithout, Fail};
use When::{Always, Has, Kernel, Lacks, LacksNotOn, LacksOn, On};

const S390: &[Arch] = &[Arch::S390x];
const ADMIN: &str = "CAP_SYS_ADMIN";

const RULES: &[(&str, When, Then)] = &[
    (EVERYONE, Always, Allow),
    ("ptrace", Kernel(PTRACE_IS_SAFE), Allow),
    // Plain Linux, 32-bit Linux, each without and with the 2.6 version number, and "which one am I".
    ("personality", Always, AllowIf(0)),
    ("personality", Always, AllowIf(0x0008)),
    ("personality", Always, AllowIf(0x0002_0000)),
    ("personality", Always, AllowIf(0x0002_0008)),
    ("personality", Always, AllowIf(0xffff_ffff)),
    ("sync_file_range2 swapcontext", On(&[Arch::Ppc64le]), Allow),
    (
        "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
        On(&[Arch::Arm, Arch::Arm64]),
        Allow,
    ),
    ("arch_prctl", On(&[Arch::Amd64]), Allow),
    ("modify_ldt", On(&[Arch::Amd64, Arch::X86]), Allow),
    ("s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr", On(S390), Allow),
    ("riscv_flush_icache", On(&[Arch::Riscv64]), Allow),
    ("open_by_handle_at", Has("CAP_DAC_READ_SEARCH"), Allow),
    (
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount \
         name_to_handle_at open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount \
         umount2 unshare",
        Has(ADMIN),
        Allow,
    ),
    ("clone", LacksNotOn(ADMIN, S390), AllowWithout(0, CLONE_NAMESPACES)),
    ("clone", LacksOn(ADMIN, S390), AllowWithout(1, CLONE_NAMESPACES)), // there the flags come second
    ("clone3", Lacks(ADMIN), Fail(ENOSYS)),
    ("reboot", Has("CAP_SYS_BOOT"), Allow),
    ("chroot", Has("CAP_SYS_CHROOT"), Allow),
    ("delete_module init_module finit_module", Has("CAP_SYS_MODULE"), Allow),
    ("acct", Has("CAP_SYS_PACCT"), Allow),
    ("kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace", Has("CAP_SYS_PTRACE"), Allow),
    ("iopl ioperm", Has("CAP_SYS_RAWIO"), Allow),
    ("settimeofday stime clock_settime", Has("CAP_SYS_TIME"), Allow),
    ("vhangup", Has("CAP_SYS_TTY_CONFIG"), Allow),
    ("get_mempolicy mbind set_mempolicy", Has("CAP_SYS_NICE"), Allow),
    ("syslog", Has("CAP_SYSLOG"), Allow),
];

/// What every container may call.
const EVERYONE: &str = "\
accept accept4 access adjtimex alarm bind brk capget capset chdir chmod chown chown32 clock_adjtime \
clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep \
clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create \
epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 \
execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir \
fchmod fchmodat fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr \
fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_time64 futex_waitv \
futimesat getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups \
getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 \
getresuid getresuid32 getrlimit get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid \
gettimeofday getuid getuid32 getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel \
ioctl io_destroy io_getevents io_pgetevents io_pgetevents_time64 ioprio_get ioprio_set io_setup io_submit \
io_uring_enter io_uring_register io_uring_setup ipc kill landlock_add_rule landlock_create_ruleset \
landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listxattr llistxattr _llseek lremovexattr \
lseek lsetxattr lstat lstat64 madvise membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat \
mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive \
mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap msgctl msgget msgrcv msgsnd msync \
munlock munlockall munmap nanosleep newfstatat _newselect open openat openat2 pause pidfd_open \
pidfd_send_signal pipe pipe2 poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease \
pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom \
recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr rename renameat renameat2 restart_syscall rmdir \
rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam sched_get_priority_max \
sched_get_priority_min sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity \
sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop \
semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid setfsuid32 \
setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 \
setresuid setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid setsockopt set_thread_area \
set_tid_address setuid setuid32 setxattr shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 \
sigprocmask sigreturn socket socketcall socketpair splice stat stat64 statfs statfs64 statx symlink symlinkat \
sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime \
timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime \
timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat utime utimensat \
utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev";

/// Returns the profile for a container with `capabilities` on `arch` and on a `kernel` of that major and minor version.
pub fn docker_default(capabilities: &[&str], arch: Arch, kernel: (u32, u32)) -> Seccomp {
    let holds = |when: When| match when {
        Always => true,
        Kernel(least) => kernel >= least,
        On(arches) => arches.contains(&arch),
        Has(capability) => capabilities.contains(&capability),
        Lacks(capability) => !capabilities.contains(&capability),
        LacksOn(capability, arches) => !capabilities.contains(&capability) && arches.contains(&arch),
        LacksNotOn(capability, arches) => !capabilities.contains(&capability) && !arches.contains(&arch),
    };
    Seccomp {
        default_action: "SCMP_ACT_ERRNO".to_owned(),
        architectures: arch.abis().iter().map(|abi| (*abi).to_owned()).collect(),
        syscalls: RULES.iter().filter(|(_, when, _)| holds(*when)).map(|(names, _, then)| rule(names, *then)).collect(),
    }
}

fn rule(names: &str, then: Then) -> SeccompRule {
    let arg = |index, value, op: &str| vec![SeccompArg { index, value, value_two: None, op: op.to_owned() }];
    let (action, errno_ret, args) = match then {
        Allow => ("SCMP_ACT_ALLOW", None, Vec::new()),
        Fail(errno) => ("SCMP_ACT_ERRNO", Some(errno), Vec::new()),
        AllowIf(value) => ("SCMP_ACT_ALLOW", None, arg(0, value, "SCMP_CMP_EQ")),
        // "Masked equal" is (argument & value) == value_two, and an absent value_two is zero.
        AllowWithout(index, bits) => ("SCMP_ACT_ALLOW", None, arg(index, bits, "SCMP_CMP_MASKED_EQ")),
    };
    SeccompRule {
        names: names.split_ascii_whitespace().map(str::to_owned).collect(),
        action: action.to_owned(),
        errno_ret,
        args,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules_for<'a>(profile: &'a Seccomp, call: &str) -> Vec<&'a SeccompRule> {
        profile.syscalls.iter().filter(|rule| rule.names.iter().any(|name| name == call)).collect()
    }

    #[test]
    fn conditions_follow_capabilities_architecture_and_kernel() {
        let plain = docker_default(&[], Arch::Amd64, (6, 1));
        assert!(rules_for(&plain, "unshare").is_empty());
        assert_eq!(rules_for(&plain, "clone3")[0].errno_ret, Some(ENOSYS));
        assert_eq!(rules_for(&plain, "clone")[0].args[0].index, 0);
        assert_eq!(rules_for(&plain, "personality").len(), 5);
        assert_eq!(rules_for(&plain, "ptrace").len(), 1);
        assert!(rules_for(&docker_default(&[], Arch::Amd64, (4, 7)), "ptrace").is_empty());

        let admin = docker_default(&[ADMIN], Arch::Amd64, (6, 1));
        assert_eq!(rules_for(&admin, "unshare").len(), 1);
        assert!(rules_for(&admin, "clone").iter().all(|rule| rule.args.is_empty()));

        let s390 = docker_default(&[], Arch::S390x, (6, 1));
        assert_eq!(rules_for(&s390, "clone")[0].args[0].index, 1);
        assert_eq!(rules_for(&s390, "s390_runtime_instr").len(), 1);
        assert!(rules_for(&s390, "arch_prctl").is_empty());
    }
}
