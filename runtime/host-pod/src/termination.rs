//! The notice itself: given once by the node, heard by any number of listeners.

use async_trait::async_trait;
use std::time::Duration;
use tokio::{sync::watch, time::Instant};
use wasmtime_wasi_io::poll::Pollable;

/// A grace that no clock can express is as good as this one.
const LONGEST_GRACE: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// That a container is to end, and by when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Then the container is killed.
    pub deadline: Instant,
    /// Why, in a few words.
    pub reason: String,
}

impl Notice {
    /// What is left of the grace period.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// A container's end, as announced. Clones share one announcement.
#[derive(Debug, Clone)]
pub struct Termination(watch::Sender<Option<Notice>>);

impl Default for Termination {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Termination {
    /// No notice yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells the container to end within `grace`. A later notice can only shorten what is left.
    pub fn notify(&self, grace: Duration, reason: &str) {
        let deadline = Instant::now() + grace.min(LONGEST_GRACE);
        self.0.send_if_modified(|notice| {
            let sooner = notice.as_ref().is_none_or(|notice| deadline < notice.deadline);
            if sooner {
                *notice = Some(Notice { deadline, reason: reason.to_owned() });
            }
            sooner
        });
    }

    /// The notice, if it has been given.
    pub fn notice(&self) -> Option<Notice> {
        self.0.borrow().clone()
    }

    /// Waits until the notice is given.
    pub async fn noticed(&self) -> Notice {
        let mut notices = self.0.subscribe();
        let notice = notices.wait_for(Option::is_some).await.expect("self holds the sender");
        notice.clone().expect("waited for one")
    }
}

/// Ready once the notice has been given.
pub(crate) struct NoticeGiven(pub(crate) Termination);

#[async_trait]
impl Pollable for NoticeGiven {
    async fn ready(&mut self) {
        self.0.noticed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_notice_is_heard_by_those_who_wait_and_by_those_who_come_later() {
        let termination = Termination::new();
        assert_eq!(termination.notice(), None);
        let listener = termination.clone();
        let (heard, ()) = tokio::join!(listener.noticed(), async {
            termination.notify(Duration::from_secs(30), "pod deleted");
        });
        assert_eq!((heard.reason.as_str(), heard.remaining()), ("pod deleted", Duration::from_secs(30)));
        assert_eq!(termination.noticed().await, heard);
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_notice_shortens_the_grace_and_never_lengthens_it() {
        let termination = Termination::new();
        termination.notify(Duration::from_secs(10), "pod deleted");
        termination.notify(Duration::from_secs(30), "node shutdown");
        assert_eq!(termination.notice().unwrap().remaining(), Duration::from_secs(10));
        termination.notify(Duration::from_secs(1), "pod deleted by force");
        assert_eq!(termination.notice().unwrap().reason, "pod deleted by force");
    }

    #[tokio::test(start_paused = true)]
    async fn a_grace_without_end_is_a_notice_all_the_same() {
        let termination = Termination::new();
        termination.notify(Duration::from_secs(i64::MAX.unsigned_abs()), "pod deleted");
        assert_eq!(termination.notice().unwrap().remaining(), LONGEST_GRACE);
    }
}
