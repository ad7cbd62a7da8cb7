//! Inode numbers that stay the same while files move between filesystems.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use crate::{
    core::nodes::Real,
    core::raw::{self, Statx},
    types::{Errno, Result},
};

/// Bits of a number that are the filesystem's own. The bits above tell filesystems apart.
const OWN_BITS: u32 = 48;

#[derive(Default)]
struct State {
    devices: Vec<u64>,
    /// Copies, and numbers too large for [`OWN_BITS`].
    given: HashMap<Real, u64>,
    large: u64,
}

/// One number for each inode of each filesystem: its own on the first filesystem, prefixed on others. A copy has the number of
/// its original.
#[derive(Default)]
pub(crate) struct Inos(RwLock<State>);

impl Inos {
    /// Returns the key of an object.
    pub fn real(&self, stat: &Statx) -> Result<Real> {
        self.real_of(raw::dev_of(stat), stat.stx_ino)
    }

    pub fn real_of(&self, dev: u64, ino: u64) -> Result<Real> {
        let find = |state: &State| state.devices.iter().position(|&known| known == dev);
        let known = find(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        let dev = match known {
            Some(dev) => dev,
            None => {
                let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
                find(&state).unwrap_or_else(|| {
                    state.devices.push(dev);
                    state.devices.len() - 1
                })
            }
        };
        Ok(Real { dev: u16::try_from(dev).map_err(|_| Errno::OVERFLOW)?, ino })
    }

    /// Returns the number that an object shows.
    pub fn number(&self, real: Real) -> u64 {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(&number) = state.given.get(&real) {
            return number;
        }
        if real.ino >> OWN_BITS == 0 && real.dev < 0x7fff {
            return (u64::from(real.dev) << OWN_BITS) | real.ino;
        }
        drop(state);
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let next = (0x7fff << OWN_BITS) | state.large;
        let number = *state.given.entry(real).or_insert(next);
        if number == next {
            state.large += 1;
        }
        number
    }

    /// Returns the number that an object would show if it were no copy.
    pub fn number_without_gift(&self, real: Real) -> u64 {
        (u64::from(real.dev) << OWN_BITS) | real.ino
    }

    /// Whether an object shows another's number.
    pub fn is_given(&self, real: Real) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).given.contains_key(&real)
    }

    /// Sets the number that an object shows.
    pub fn give(&self, real: Real, number: u64) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).given.insert(real, number);
    }

    /// Forgets a removed object, whose inode another file may get.
    pub fn drop_real(&self, real: Real) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if !state.given.is_empty() {
            state.given.remove(&real);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_own_prefixed_given_or_made_up() {
        let inos = Inos::default();
        let first = inos.real_of(7, 5).unwrap();
        let second = inos.real_of(9, 5).unwrap();
        assert_eq!(inos.number(first), 5);
        assert_eq!(inos.number(second), 1 << 48 | 5);
        inos.give(second, 5);
        assert_eq!(inos.number(second), 5);
        inos.drop_real(second);
        assert_eq!(inos.number(second), 1 << 48 | 5);
        let large = inos.real_of(7, u64::MAX).unwrap();
        assert_eq!(inos.number(large), inos.number(large));
        assert_ne!(inos.number(large), inos.number(inos.real_of(9, u64::MAX).unwrap()));
    }
}
