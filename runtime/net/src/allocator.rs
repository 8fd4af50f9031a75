//! Which pod addresses are taken.
//!
//! Next-fit round the range: a freed address is not given out again before every other free one was, so that a client
//! with an old address meets nobody rather than a stranger.

use crate::Cidr;
use std::net::{IpAddr, Ipv4Addr};

/// The addresses of a node's range. The network's own address, the gateway after it and the last one are never given.
#[derive(Debug)]
pub(crate) struct AddressPool {
    base: u32,
    /// Offsets below this exist.
    size: u32,
    /// One bit an offset.
    taken: Vec<u64>,
    n_taken: u32,
    cursor: u32,
}

/// The first offset given to a pod: 0 is the network, 1 the gateway (the node's own side).
const FIRST: u32 = 2;

/// Why a wanted address could not be had.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Taken,
    OutOfRange,
    Exhausted,
}

impl AddressPool {
    /// A pool over an IPv4 range. An IPv6 range, or one wider than a /8, is cut to what 32 bits of it can hold: none.
    pub(crate) fn new(range: Cidr) -> Self {
        let (base, size) = match range.network() {
            IpAddr::V4(network) => {
                let bits = 32 - u32::from(range.prefix());
                (u32::from(network), 1_u32.checked_shl(bits.min(24)).unwrap_or(0))
            }
            IpAddr::V6(_) => (0, 0),
        };
        let words = usize::try_from(size.div_ceil(64)).expect("a 24-bit number fits");
        Self { base, size, taken: vec![0; words], n_taken: 0, cursor: FIRST }
    }

    /// The node's own address on the pods' network.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    /// How many addresses pods can have at once.
    pub(crate) fn capacity(&self) -> u32 {
        self.size.saturating_sub(FIRST + 1)
    }

    /// Takes the wanted address, or the next free one.
    pub(crate) fn take(&mut self, want: Option<IpAddr>) -> Result<Ipv4Addr, Refusal> {
        let offset = match want {
            Some(address) => {
                let offset = self.offset(address).ok_or(Refusal::OutOfRange)?;
                if self.is_taken(offset) {
                    return Err(Refusal::Taken);
                }
                offset
            }
            None => self.next_free().ok_or(Refusal::Exhausted)?,
        };
        self.set(offset, true);
        self.n_taken += 1;
        if want.is_none() {
            self.cursor = offset + 1;
        }
        Ok(Ipv4Addr::from(self.base + offset))
    }

    /// Gives an address back. One that is not taken is left alone.
    pub(crate) fn free(&mut self, address: IpAddr) {
        if let Some(offset) = self.offset(address).filter(|offset| self.is_taken(*offset)) {
            self.set(offset, false);
            self.n_taken -= 1;
        }
    }

    fn next_free(&self) -> Option<u32> {
        if self.n_taken >= self.capacity() {
            return None;
        }
        let end = self.size - 1;
        (self.cursor.clamp(FIRST, end)..end)
            .chain(FIRST..self.cursor.clamp(FIRST, end))
            .find(|offset| !self.is_taken(*offset))
    }

    fn offset(&self, address: IpAddr) -> Option<u32> {
        let IpAddr::V4(address) = address else { return None };
        let offset = u32::from(address).checked_sub(self.base)?;
        (FIRST..self.size.saturating_sub(1)).contains(&offset).then_some(offset)
    }

    fn is_taken(&self, offset: u32) -> bool {
        let word = usize::try_from(offset / 64).expect("a 24-bit number fits");
        self.taken[word] & (1 << (offset % 64)) != 0
    }

    fn set(&mut self, offset: u32, taken: bool) {
        let word = usize::try_from(offset / 64).expect("a 24-bit number fits");
        let bit = 1 << (offset % 64);
        if taken {
            self.taken[word] |= bit;
        } else {
            self.taken[word] &= !bit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn pool(range: &str) -> AddressPool {
        AddressPool::new(range.parse().unwrap())
    }

    #[test]
    fn addresses_come_in_order_and_a_freed_one_comes_last() {
        let mut pool = pool("10.244.0.0/29");
        let first = pool.take(None).unwrap();
        assert_eq!(first.to_string(), "10.244.0.2");
        assert_eq!(pool.take(None).unwrap().to_string(), "10.244.0.3");
        pool.free(first.into());
        let rest: Vec<_> = std::iter::from_fn(|| pool.take(None).ok()).map(|a| a.octets()[3]).collect();
        assert_eq!(rest, [4, 5, 6, 2]);
        assert_eq!(pool.take(None), Err(Refusal::Exhausted));
    }

    #[test]
    fn a_wanted_address_is_given_once_and_only_from_the_range() {
        let mut pool = pool("10.244.0.0/16");
        let want = |text: &str| Some(text.parse().unwrap());
        assert_eq!(pool.take(want("10.244.7.9")).unwrap().to_string(), "10.244.7.9");
        assert_eq!(pool.take(want("10.244.7.9")), Err(Refusal::Taken));
        for text in ["10.244.0.0", "10.244.0.1", "10.244.255.255", "10.245.0.5", "::1"] {
            assert_eq!(pool.take(want(text)), Err(Refusal::OutOfRange), "{text}");
        }
        assert_eq!(pool.take(None).unwrap().to_string(), "10.244.0.2");
    }

    #[test]
    fn the_default_range_holds_ten_thousand_pods() {
        assert_eq!(pool("10.244.0.0/16").capacity(), 65_533);
    }

    #[test]
    fn ranges_without_room_hold_nobody() {
        for range in ["10.0.0.1/32", "10.0.0.0/31", "10.0.0.0/30", "fd00::/64"] {
            let mut pool = pool(range);
            let given: Vec<_> = std::iter::from_fn(|| pool.take(None).ok()).collect();
            assert_eq!(given.len(), usize::try_from(pool.capacity()).unwrap(), "{range}");
        }
    }

    proptest! {
        /// Against a set as the oracle: never two holders of an address, refused only when all are taken.
        #[test]
        fn no_address_has_two_holders(steps in prop::collection::vec((any::<bool>(), 0_u8..32), 0..200)) {
            let mut pool = pool("10.9.0.0/28");
            let mut held = BTreeSet::new();
            for (take, pick) in steps {
                if take {
                    match pool.take(None) {
                        Ok(address) => prop_assert!(held.insert(address)),
                        Err(refusal) => {
                            prop_assert_eq!(refusal, Refusal::Exhausted);
                            prop_assert_eq!(held.len(), 13);
                        }
                    }
                } else if let Some(address) = held.iter().nth(usize::from(pick) % held.len().max(1)).copied() {
                    held.remove(&address);
                    pool.free(address.into());
                }
            }
        }
    }
}
