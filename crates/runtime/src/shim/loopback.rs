//! `lo` of a new network namespace, which the kernel makes and leaves down.

use std::{fs::File, os::fd::AsFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

use crate::error::{Context, Error};

/// Messages of rtnetlink(7): `struct nlmsghdr`, `struct ifinfomsg`, in the machine's byte order.
const RTM_NEWLINK: u16 = 16;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;
const IFF_UP: u32 = 1;
/// The first interface of every network namespace is its `lo`.
const LOOPBACK_INDEX: u32 = 1;

/// Brings `lo` up in the network namespace of process `pid`, and stays in that namespace.
///
/// The watcher has no use for the network, so there is nothing to return to.
pub(super) fn bring_up(pid: i32) -> Result<(), Error> {
    let path = format!("/proc/{pid}/ns/net");
    let namespace = File::open(&path).context("open", &path)?;
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(rustix::thread::LinkNameSpaceType::Network))
        .context("enter", &path)?;
    set_up().context("bring up lo in", &path)?;
    Ok(())
}

fn set_up() -> rustix::io::Result<()> {
    // Netlink's protocol 0 is NETLINK_ROUTE.
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    rustix::net::sendto(&socket, &request(), SendFlags::empty(), &netlink::SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0; 512];
    let (length, _) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty())?;
    parse_answer(&answer[..length])
}

fn request() -> Vec<u8> {
    let mut message = Vec::with_capacity(32);
    message.extend(32u32.to_ne_bytes()); // length
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    message.extend([0; 8]); // sequence, port
    message.extend([0; 4]); // family, padding, type
    message.extend(LOOPBACK_INDEX.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes()); // which flags change
    message
}

/// The acknowledgement is an error message whose errno is zero, else negated.
fn parse_answer(answer: &[u8]) -> rustix::io::Result<()> {
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let errno = answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, errno) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(errno)) => Err(rustix::io::Errno::from_raw_os_error(errno.wrapping_neg())),
        _ => Err(rustix::io::Errno::PROTO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whatever_they_hold() {
        let answer = |kind: u16, errno: i32| {
            let mut bytes = vec![0; 20];
            bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            bytes[16..20].copy_from_slice(&errno.to_ne_bytes());
            bytes
        };
        assert_eq!(parse_answer(&answer(NLMSG_ERROR, 0)), Ok(()));
        assert_eq!(parse_answer(&answer(NLMSG_ERROR, -1)), Err(rustix::io::Errno::PERM));
        assert_eq!(parse_answer(&answer(RTM_NEWLINK, 0)), Err(rustix::io::Errno::PROTO));
        assert_eq!(parse_answer(&[]), Err(rustix::io::Errno::PROTO));
    }
}
