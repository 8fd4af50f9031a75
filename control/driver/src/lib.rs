//! Wakes controllers and carries out their plans.
//!
//! One loop serves every row of [`control_plan::CONTROLLERS`]:
//!
//! 1. **Feed.** Take all events that the store has acknowledged into the [`World`](control_plan::World), and fold what they
//!    concern into a set of (controller, key).
//! 2. **Decide.** Call `reconcile` of a row for a key that is due. It is a pure function, so it runs here, between two
//!    events, and sees one state of the world; a panic in it is logged and costs its key a back-off, nothing else.
//! 3. **Act.** Carry out the plan's actions in order, in a task of its own, and stop at the first refusal. A key is never
//!    worked on twice at a time: what concerns it meanwhile makes it due again afterwards.
//!
//! Because step 1 comes before every step 2, a decision sees all that earlier plans have written: there are no caches to
//! wait for, and no counts of what is expected to appear. Start-up, an event, a timer and a retry run the same code.
//!
//! Roads not taken: a task per controller with its own watch and queue (as upstream has; then each has a cache that
//! lags by its own measure), and a task per key (then decisions race each other for the world).

mod config;
mod driver;
mod events;
mod execute;
mod feed;
mod metrics;
mod queue;
mod shared_pods;

pub use config::DriverConfig;
pub use control_plan::EventRecord;
pub use driver::{Driver, Rest};
pub use events::EventRecorder;
pub use metrics::{DriverMetrics, RowMetrics};
pub use shared_pods::SharedPods;
