//! How a driver behaves.

use std::time::Duration;

/// How a driver behaves.
#[derive(Debug, Clone)]
pub struct DriverConfig {
    /// The cluster's CA in PEM, for the ConfigMap in every namespace.
    pub root_ca: String,
    /// How many plans are carried out at the same time.
    pub parallel_plans: usize,
    /// How many actions of one plan are carried out at the same time.
    pub parallel_actions: usize,
    /// The first delay after a refusal; each further one doubles it.
    pub first_retry: Duration,
    /// The longest delay after a refusal.
    pub last_retry: Duration,
    /// What the jitter of retries is drawn from; none: from the operating system.
    pub seed: Option<u64>,
}

impl Default for DriverConfig {
    fn default() -> Self {
        Self {
            root_ca: String::new(),
            parallel_plans: 32,
            parallel_actions: 64,
            first_retry: Duration::from_millis(5),
            last_retry: Duration::from_secs(1000),
            seed: None,
        }
    }
}
