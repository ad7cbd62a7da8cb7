//! System call filters: putting one on the calling thread.
//!
//! A program is classic BPF over the kernel's `struct seccomp_data`: instructions of eight bytes each (`struct sock_filter`,
//! in this machine's byte order), as libseccomp exports them. Source: seccomp(2).

use std::io;

/// Bytes of one instruction.
pub const INSTRUCTION: usize = 8;
/// The most instructions that a program may have: `BPF_MAXINSNS`.
pub const MAX_INSTRUCTIONS: usize = 4096;

/// Puts the filter `program` on the calling thread, and on what it forks and executes, for good.
///
/// Fails with `InvalidInput` if that is no program, and with `PermissionDenied` unless the thread holds `CAP_SYS_ADMIN` or may not
/// gain privileges any more (`no_new_privs`).
#[allow(unsafe_code)]
pub fn load(program: &[u8]) -> io::Result<()> {
    let (instructions, rest) = program.as_chunks::<INSTRUCTION>();
    if !rest.is_empty() || instructions.is_empty() || instructions.len() > MAX_INSTRUCTIONS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "that is no seccomp program"));
    }
    let mut instructions: Vec<libc::sock_filter> = instructions
        .iter()
        .map(|&[code0, code1, jt, jf, k0, k1, k2, k3]| libc::sock_filter {
            code: u16::from_ne_bytes([code0, code1]),
            jt,
            jf,
            k: u32::from_ne_bytes([k0, k1, k2, k3]),
        })
        .collect();
    let program = libc::sock_fprog {
        len: instructions.len().try_into().expect("at most BPF_MAXINSNS"),
        filter: instructions.as_mut_ptr(),
    };
    // SAFETY: `program` is a struct sock_fprog whose `filter` points to `len` instructions, which `instructions` owns until the
    // call returns; the kernel copies both and keeps no pointer.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
#[allow(unsafe_code)]
mod tests {
    use super::*;

    /// Refuses the system call `number` with `errno`, and allows all others.
    fn refusing(number: i64, errno: u32) -> Vec<u8> {
        let number = u32::try_from(number).expect("a system call's number");
        let instruction = |code: u16, jt: u8, jf: u8, k: u32| {
            let mut bytes = code.to_ne_bytes().to_vec();
            bytes.extend([jt, jf]);
            bytes.extend(k.to_ne_bytes());
            bytes
        };
        [
            instruction(0x20, 0, 0, 0),                   // the call's number
            instruction(0x15, 0, 1, number),              // the one?
            instruction(0x06, 0, 0, 0x0005_0000 | errno), // SECCOMP_RET_ERRNO
            instruction(0x06, 0, 0, 0x7fff_0000),         // SECCOMP_RET_ALLOW
        ]
        .concat()
    }

    #[test]
    fn a_filter_judges_the_thread_that_loaded_it() {
        let judged = std::thread::spawn(|| {
            rustix::thread::set_no_new_privs(true)?;
            load(&refusing(libc::SYS_umask, libc::EDOM as u32))?;
            // SAFETY: umask(2) takes no pointer, and is refused here.
            let result = unsafe { libc::syscall(libc::SYS_umask, 0o22) };
            Ok::<_, io::Error>((result, io::Error::last_os_error().raw_os_error()))
        });
        match judged.join().expect("no panic") {
            Ok(seen) => assert_eq!(seen, (-1, Some(libc::EDOM))),
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
                strata_testkit::require::report_skip(&format!("no seccomp here: {error}"))
            }
            Err(error) => panic!("{error}"),
        }
        // SAFETY: umask(2) takes no pointer; the mask is put back.
        let free = unsafe { libc::umask(0o22) };
        // SAFETY: as above.
        unsafe { libc::umask(free) };
    }

    #[test]
    fn what_is_no_program_is_refused() {
        for bytes in [&[][..], &[6; 7], &[0; INSTRUCTION * (MAX_INSTRUCTIONS + 1)]] {
            assert_eq!(load(bytes).expect_err("no program").kind(), io::ErrorKind::InvalidInput);
        }
    }
}
