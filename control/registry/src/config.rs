//! What the registry takes from outside: time, ids, chance.

use jiff::Timestamp;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How a registry behaves.
#[derive(Clone)]
pub struct Config {
    /// The time.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// A uid for a new object, never the same twice.
    pub uid: Arc<dyn Fn() -> String + Send + Sync>,
    /// What generated names and watch time-outs are drawn from; none: from the operating system.
    pub seed: Option<u64>,
    /// How often a watch that allows bookmarks gets one.
    pub bookmark_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            clock: Arc::new(Timestamp::now),
            uid: Arc::new(|| uuid::Uuid::new_v4().to_string()),
            seed: None,
            bookmark_interval: Duration::from_secs(60),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("seed", &self.seed)
            .field("bookmark_interval", &self.bookmark_interval)
            .finish_non_exhaustive()
    }
}
