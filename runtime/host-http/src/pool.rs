//! Idle connections by destination: plain data behind one mutex.
//!
//! The last one put back is the first taken, so that a burst's surplus grows old and goes.

use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Idle connections kept for one destination.
const MAX_PER_DESTINATION: usize = 32;
/// Idle connections kept in all.
const MAX_IDLE: usize = 256;

/// Where a connection leads: whether it is TLS, and the authority.
pub(crate) type Destination = (bool, String);

/// What waits for reuse.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    /// Each since when, the eldest first.
    idle: BTreeMap<Destination, Vec<(Instant, T)>>,
    n_idle: usize,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { idle: BTreeMap::new(), n_idle: 0 }
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

    /// Keeps a connection, unless there are enough. Whether it is kept.
    pub(crate) fn put(&mut self, to: &Destination, connection: T, now: Instant) -> bool {
        if self.n_idle >= MAX_IDLE {
            return false;
        }
        let waiting = self.idle.entry(to.clone()).or_default();
        if waiting.len() >= MAX_PER_DESTINATION {
            return false;
        }
        self.n_idle += 1;
        waiting.push((now, connection));
        true
    }

    /// Drops the connections that have waited for `longest`. Since when the eldest of the others does.
    pub(crate) fn expire(&mut self, longest: Duration, now: Instant) -> Option<Instant> {
        for waiting in self.idle.values_mut() {
            let n_old = waiting.partition_point(|(since, _)| *since + longest <= now);
            waiting.drain(..n_old);
            self.n_idle -= n_old;
        }
        self.idle.retain(|_, waiting| !waiting.is_empty());
        self.idle.values().filter_map(|waiting| Some(waiting.first()?.0)).min()
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
            assert!(pool.put(&to("web"), connection, Instant::now()));
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
        let kept = |pool: &mut Pool<()>, name: &str| {
            (0..40).filter(|_| pool.put(&to(name), (), Instant::now())).count()
        };
        assert_eq!(kept(&mut pool, "0"), MAX_PER_DESTINATION);
        let all: usize = (1..20).map(|n| kept(&mut pool, &n.to_string())).sum();
        assert_eq!(all + MAX_PER_DESTINATION, MAX_IDLE);
    }

    #[test]
    fn old_connections_go_unless_they_were_taken() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut pool = Pool::default();
        for (secs, name) in [(1, "web"), (2, "db"), (3, "web"), (4, "web")] {
            assert!(pool.put(&to(name), secs, at(secs)));
        }
        let longest = Duration::from_secs(10);
        assert_eq!(pool.expire(longest, at(10)), Some(at(1)), "none is old");
        assert_eq!(pool.expire(longest, at(12)), Some(at(3)));
        assert_eq!(pool.len(), 2);
        assert_eq!(pool.take(&to("web"), |_| true), Some(4));
        assert_eq!(pool.expire(longest, at(19)), None);
        assert_eq!(pool.len(), 0);
    }
}
