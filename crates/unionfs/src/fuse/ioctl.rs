//! The control calls that a union answers: those for inode flags.

use crate::{Errno, ExtendedFlags, NodeId, Result, Union};

/// `FS_IOC_*` of linux/fs.h, as programs of 64 and of 32 bits number them. All pass flags in 32 bits.
const GET_FLAGS: [u32; 2] = [0x8008_6601, 0x8004_6601];
const SET_FLAGS: [u32; 2] = [0x4008_6602, 0x4004_6602];
const GET_EXTENDED: u32 = 0x801c_581f;
const SET_EXTENDED: u32 = 0x401c_5820;

/// Carries out a call; returns what it defaults back, `room` bytes at most. `ENOTTY` for a call that is not known.
pub(super) fn answer(union: &Union, node: NodeId, command: u32, input: &[u8], room: u32) -> Result<Vec<u8>> {
    let room = room as usize;
    match command {
        command if GET_FLAGS.contains(&command) => {
            let mut output = vec![0; room];
            let flags = union.inode_flags(node)?.to_ne_bytes();
            output.get_mut(..flags.len()).ok_or(Errno::INVAL)?.copy_from_slice(&flags);
            Ok(output)
        }
        command if SET_FLAGS.contains(&command) => {
            let flags = input.first_chunk().ok_or(Errno::INVAL)?;
            union.set_inode_flags(node, u32::from_ne_bytes(*flags)).map(|()| Vec::new())
        }
        GET_EXTENDED => {
            let ExtendedFlags(flags) = union.extended_flags(node)?;
            if room < flags.len() { Err(Errno::INVAL) } else { Ok(flags.to_vec()) }
        }
        SET_EXTENDED => {
            let flags = input.first_chunk().ok_or(Errno::INVAL)?;
            union.set_extended_flags(node, &ExtendedFlags(*flags)).map(|()| Vec::new())
        }
        _ => Err(Errno::NOTTY),
    }
}
