//! Idle connections by destination: plain data behind one mutex.
//!
//! The last one put back is the first taken, so that a burst's surplus grows old and goes.

use std::collections::BTreeMap;

/// Idle connections kept for one destination.
const MAX_PER_DESTINATION: usize = 32;
/// Idle connections kept in all.
const MAX_IDLE: usize = 256;

/// Where a connection leads: whether it is TLS, and the authority.
pub(crate) type Destination = (bool, String);

/// What waits for reuse.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    idle: BTreeMap<Destination, Vec<(u64, T)>>,
    n_idle: usize,
    next_id: u64,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { idle: BTreeMap::new(), n_idle: 0, next_id: 0 }
    }
}

impl<T> Pool<T> {
    /// Takes the youngest idle connection that is still usable; dead ones on the way are dropped.
    pub(crate) fn take(&mut self, to: &Destination, usable: impl Fn(&T) -> bool) -> Option<T> {
        let waiting = self.idle.get_mut(to)?;
        let mut found = None;
        while let Some((_, connection)) = waiting.pop() {
            self.n_idle -= 1;
            if usable(&connection) {
                found = Some(connection);
                break;
            }
        }
        if waiting.is_empty() {
            self.idle.remove(to);
        }
        found
    }

    /// Keeps a connection under an id; `None` when there are enough.
    pub(crate) fn put(&mut self, to: &Destination, connection: T) -> Option<u64> {
        if self.n_idle >= MAX_IDLE {
            return None;
        }
        let waiting = self.idle.entry(to.clone()).or_default();
        if waiting.len() >= MAX_PER_DESTINATION {
            return None;
        }
        self.next_id += 1;
        self.n_idle += 1;
        waiting.push((self.next_id, connection));
        Some(self.next_id)
    }

    /// Drops the connection of an id if it was not taken meanwhile. Whether it was there.
    pub(crate) fn expire(&mut self, to: &Destination, id: u64) -> bool {
        let Some(waiting) = self.idle.get_mut(to) else { return false };
        let before = waiting.len();
        waiting.retain(|(other, _)| *other != id);
        let expired = waiting.len() < before;
        if expired {
            self.n_idle -= 1;
        }
        if waiting.is_empty() {
            self.idle.remove(to);
        }
        expired
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.n_idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(name: &str) -> Destination {
        (false, name.to_owned())
    }

    #[test]
    fn the_youngest_usable_connection_is_taken() {
        let mut pool = Pool::default();
        for connection in 1..=4 {
            pool.put(&to("web"), connection).unwrap();
        }
        assert_eq!(pool.take(&to("web"), |connection| connection % 2 == 1), Some(3));
        assert_eq!(pool.len(), 2, "the dead one on the way is gone");
        assert_eq!(pool.take(&to("other"), |_| true), None);
        assert_eq!(pool.take(&to("web"), |_| false), None);
        assert_eq!(pool.len(), 0);
    }

    #[test]
    fn there_is_a_bound_for_each_destination_and_for_all() {
        let mut pool = Pool::default();
        let kept =
            |pool: &mut Pool<()>, name: &str| (0..40).filter(|_| pool.put(&to(name), ()).is_some()).count();
        assert_eq!(kept(&mut pool, "0"), MAX_PER_DESTINATION);
        let all: usize = (1..20).map(|n| kept(&mut pool, &n.to_string())).sum();
        assert_eq!(all + MAX_PER_DESTINATION, MAX_IDLE);
    }

    #[test]
    fn an_old_connection_goes_unless_it_was_taken() {
        let mut pool = Pool::default();
        let first = pool.put(&to("web"), "a").unwrap();
        assert!(pool.expire(&to("web"), first));
        assert!(!pool.expire(&to("web"), first));
        let second = pool.put(&to("web"), "b").unwrap();
        assert_eq!(pool.take(&to("web"), |_| true), Some("b"));
        assert!(!pool.expire(&to("web"), second));
    }
}
