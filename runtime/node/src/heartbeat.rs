//! That the node lives, and what it said before where that did not arrive.

use std::{convert::Infallible, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::NodeStatus;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    conditions::agree,
    messages::NodeReport,
    node_status::{Measured, node_status},
    worker::Inner,
};

/// How often the node says that it lives, and for how long that holds.
const HEARTBEAT: Duration = Duration::from_secs(10);
const LEASE_SECS: i32 = 40;
/// How often the node's status is sent though nothing has changed.
const STATUS_EVERY: Duration = Duration::from_secs(300);

/// After so long a silence (the machine slept) others take the node for lost, until it tells its status again.
const SILENT: SignedDuration = SignedDuration::from_secs(25);

/// What was said of a pod should have arrived by then.
const REPEAT_AFTER: SignedDuration = SignedDuration::from_secs(5);

/// What was last told of the node.
pub(crate) struct Told {
    at: Instant,
    /// The last heartbeat, by the clock on the wall.
    alive: Timestamp,
    /// Without the times of its heartbeats.
    status: NodeStatus,
}

impl Inner {
    /// Tells again and again that the node lives.
    pub(crate) async fn beat(self: &Arc<Self>) -> Infallible {
        let began = Timestamp::now();
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = None;
        loop {
            heartbeat.tick().await;
            self.heartbeat(began, &mut told).await;
            self.repeat();
        }
    }

    /// Renews the lease; the status is sent when it differs from the one `told`, and now and then.
    async fn heartbeat(&self, began: Timestamp, told: &mut Option<Told>) {
        let (images, root_dir) = (self.images.clone(), self.config.root_dir.clone());
        let look = move || (images.list().unwrap_or_default(), rustix::fs::statvfs(&root_dir).ok());
        // What cannot be asked now is not told.
        let (images, disk) = self.tracker.spawn_blocking(look).await.unwrap_or_default();
        let now = Timestamp::now();
        let measured = Measured {
            began,
            now,
            max_guests: self.engine.limits().guests,
            disk_bytes: disk.map_or(0, |disk| disk.f_blocks.saturating_mul(disk.f_frsize)),
            images: &images,
        };
        let status = node_status(&self.config, &measured);
        let mut timeless = status.clone();
        timeless.conditions.iter_mut().flatten().for_each(|condition| condition.last_heartbeat_time = None);
        let is_known = told.as_ref().is_some_and(|told| {
            let awake = now.duration_since(told.alive) < SILENT;
            awake && told.at.elapsed() < STATUS_EVERY && told.status == timeless
        });
        match told {
            Some(told) if is_known => told.alive = now,
            _ => *told = Some(Told { at: Instant::now(), alive: now, status: timeless }),
        }
        if !is_known {
            self.report(NodeReport::Node { status: Box::new(status) }).await;
        }
        self.report(NodeReport::LeaseRenewed { at: now, duration_secs: LEASE_SECS }).await;
    }

    /// Says again what did not arrive, or was overwritten: a control plane that took the node for lost has set its
    /// pods unready, and only the node can say that they are not.
    fn repeat(self: &Arc<Self>) {
        let now = Timestamp::now();
        for entry in self.entries() {
            let mut data = entry.lock();
            if now.duration_since(data.reported_at) < REPEAT_AFTER {
                continue;
            }
            let seen = data.pod.status.as_ref();
            let differs =
                data.reported.as_ref().is_some_and(|told| !seen.is_some_and(|seen| agree(seen, told)));
            if !differs && !data.state.reported_ended {
                continue;
            }
            data.reported = None;
            data.state.reported_ended = false;
            drop(data);
            self.kick(&entry);
        }
    }
}
