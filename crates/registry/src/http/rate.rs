//! The rate limit: requests a second, by address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::error::{Code, Error};

/// Maximum number of addresses in memory; beyond it, idle ones are removed.
const ADDRESSES_MAX: usize = 65_536;

/// The limit of one address.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Average number of requests a second.
    pub per_second: f64,
    /// Number of requests at once after an idle time.
    pub burst: f64,
}

/// Counts requests of each address.
pub struct Limiter {
    rate: Rate,
    buckets: Mutex<HashMap<IpAddr, (f64, Instant)>>,
}

impl Limiter {
    /// Returns a limiter.
    pub fn new(rate: Rate) -> Self {
        Self { rate, buckets: Mutex::default() }
    }

    /// Counts a request at `now`. Fails with `TOOMANYREQUESTS` over the limit.
    pub fn admit(&self, address: IpAddr, now: Instant) -> Result<(), Error> {
        let mut buckets = self.buckets.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if buckets.len() >= ADDRESSES_MAX {
            let full = Duration::from_secs_f64(self.rate.burst / self.rate.per_second);
            buckets.retain(|_, (_, at)| now.duration_since(*at) < full);
            if buckets.len() >= ADDRESSES_MAX {
                buckets.clear();
            }
        }
        let (left, at) = buckets.entry(address).or_insert((self.rate.burst, now));
        *left = (*left + now.duration_since(*at).as_secs_f64() * self.rate.per_second).min(self.rate.burst);
        *at = now;
        if *left >= 1.0 {
            *left -= 1.0;
            return Ok(());
        }
        let wait = ((1.0 - *left) / self.rate.per_second).ceil().max(1.0);
        let message = format!("{address} may make {} requests a second; try again in {wait} s", self.rate.per_second);
        Err(Error::new(Code::TooManyRequests, message).with_header("retry-after", format!("{wait}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let limiter = Limiter::new(Rate { per_second: 2.0, burst: 3.0 });
        let (one, other): (IpAddr, IpAddr) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        let begun = Instant::now();
        for _ in 0..3 {
            limiter.admit(one, begun).unwrap();
        }
        let refused = limiter.admit(one, begun).unwrap_err();
        assert_eq!((refused.status(), refused.headers().next()), (429, Some(("retry-after", "1"))));
        limiter.admit(other, begun).unwrap();
        limiter.admit(one, begun + Duration::from_millis(500)).unwrap();
        assert!(limiter.admit(one, begun + Duration::from_millis(600)).is_err());
    }
}
