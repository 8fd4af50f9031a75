//! What a deployment tells about itself.

use super::{Rollout, Set};
use crate::conditions;
use crate::object::Meta;
use crate::pods::until;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus, ReplicaSetStatus};
use std::time::Duration;

impl Rollout<'_> {
    /// Whether `progressDeadlineSeconds` is set; upstream's "never" is the largest number.
    pub(super) fn has_deadline(&self) -> bool {
        self.spec.progress_deadline_seconds.is_some_and(|secs| secs != i32::MAX)
    }

    /// Notes in the conditions that the deployment was paused or resumed.
    pub(super) fn note_pause(&mut self) {
        let progressing =
            self.target.status.as_ref().and_then(|status| conditions::find(status, "Progressing"));
        let reason = progressing.and_then(|condition| condition.reason.clone());
        if !self.has_deadline() || reason.as_deref() == Some("ProgressDeadlineExceeded") {
            return;
        }
        let was_paused = reason.as_deref() == Some("DeploymentPaused");
        let paused = self.spec.paused == Some(true);
        if paused && !was_paused {
            self.set_progressing("Unknown", "DeploymentPaused", "Deployment is paused");
        } else if !paused && was_paused {
            self.set_progressing("Unknown", "DeploymentResumed", "Deployment is resumed");
        }
    }

    /// Whether all pods are of the current template and available, as the last status tells.
    pub(super) fn is_complete(&self) -> bool {
        self.deployment.status.as_ref().is_some_and(|status| self.tells_complete(status))
    }

    fn tells_complete(&self, status: &DeploymentStatus) -> bool {
        let all = |count: Option<i32>| count.unwrap_or(0) == self.wanted();
        all(status.updated_replicas)
            && all(status.replicas)
            && all(status.available_replicas)
            && status.observed_generation >= self.deployment.metadata.generation
    }

    /// The status, computed afresh; and when to look whether the rollout got stuck.
    pub(super) fn status(&mut self) -> (DeploymentStatus, Option<Duration>) {
        let mut status = self.count();
        let available = status.available_replicas.unwrap_or(0) >= self.wanted() - self.max_unavailable();
        let (reason, message) = if available {
            ("MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            ("MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        };
        let holds = conditions::status(available);
        conditions::set(&mut status, conditions::deployment("Available", holds, reason, message, self.now));
        if self.deployment.metadata.is_deleting()
            || self.spec.paused == Some(true)
            || self.is_scaling_before()
        {
            return (status, None);
        }
        self.tell_progress(&mut status);
        self.tell_failure(&mut status);
        let look_again = self.stuck_in(&status);
        (status, look_again)
    }

    /// Whether this plan answered a change of `spec.replicas`; progress is told from the next one on.
    fn is_scaling_before(&self) -> bool {
        self.sets.iter().filter_map(|set| set.before.as_ref()).any(|set| {
            let desired =
                set.metadata.annotation(super::revision::DESIRED).and_then(|text| text.parse::<i32>().ok());
            crate::replica_set::Sets::replicas(&**set) > 0
                && desired.is_some_and(|desired| desired != self.wanted())
        })
    }

    /// The numbers.
    fn count(&self) -> DeploymentStatus {
        let statuses = || self.sets.iter().filter_map(|set| set.after.status.as_ref());
        let sum = |field: fn(&ReplicaSetStatus) -> i32| statuses().map(field).sum::<i32>();
        let available = sum(|status| status.available_replicas.unwrap_or(0));
        let specified: i32 = self.sets.iter().map(Set::replicas).sum();
        let new = self.new.and_then(|new| self.sets[new].after.status.as_ref());
        let target = self.target.status.clone().unwrap_or_default();
        DeploymentStatus {
            observed_generation: self.deployment.metadata.generation.or(target.observed_generation),
            replicas: nonzero(sum(|status| status.replicas)),
            updated_replicas: nonzero(new.map_or(0, |status| status.replicas)),
            ready_replicas: nonzero(sum(|status| status.ready_replicas.unwrap_or(0))),
            available_replicas: nonzero(available),
            unavailable_replicas: nonzero((specified - available).max(0)),
            terminating_replicas: Some(sum(|status| status.terminating_replicas.unwrap_or(0))),
            collision_count: target.collision_count,
            conditions: target.conditions,
        }
    }

    /// The condition Progressing.
    fn tell_progress(&self, status: &mut DeploymentStatus) {
        if !self.has_deadline() {
            conditions::remove(status, "Progressing");
            return;
        }
        let current = conditions::find(status, "Progressing").cloned();
        let reason = current.as_ref().and_then(|condition| condition.reason.as_deref()).unwrap_or_default();
        if status.replicas == status.updated_replicas && reason == "NewReplicaSetAvailable" {
            return;
        }
        let subject = match self.new {
            Some(new) => format!("ReplicaSet \"{}\"", self.sets[new].after.metadata.name_str()),
            None => format!("Deployment \"{}\"", self.deployment.metadata.name_str()),
        };
        let condition = |holds: &str, reason: &str, what: &str| {
            let message = format!("{subject} {what}");
            conditions::deployment("Progressing", holds, reason, &message, self.now)
        };
        if self.tells_complete(status) {
            conditions::set(
                status,
                condition("True", "NewReplicaSetAvailable", "has successfully progressed."),
            );
        } else if self.progressed(status) {
            let mut progressing = condition("True", "ReplicaSetUpdated", "is progressing.");
            if let Some(current) = current {
                if current.status == "True" {
                    progressing.last_transition_time = current.last_transition_time;
                }
                // Set again even if nothing but the time differs: it is what the deadline counts from.
                conditions::remove(status, "Progressing");
            }
            conditions::set(status, progressing);
        } else if self.timed_out(current.as_ref()) {
            conditions::set(
                status,
                condition("False", "ProgressDeadlineExceeded", "has timed out progressing."),
            );
        }
    }

    /// Whether the numbers are better than those told last.
    fn progressed(&self, new: &DeploymentStatus) -> bool {
        let none = DeploymentStatus::default();
        let old = self.deployment.status.as_ref().unwrap_or(&none);
        let number = |count: Option<i32>| count.unwrap_or(0);
        let outdated = |status: &DeploymentStatus| number(status.replicas) - number(status.updated_replicas);
        number(new.updated_replicas) > number(old.updated_replicas)
            || outdated(new) < outdated(old)
            || number(new.ready_replicas) > number(old.ready_replicas)
            || number(new.available_replicas) > number(old.available_replicas)
    }

    fn timed_out(&self, progressing: Option<&DeploymentCondition>) -> bool {
        let Some(progressing) = progressing else {
            return false;
        };
        match progressing.reason.as_deref() {
            Some("NewReplicaSetAvailable") => false,
            Some("ProgressDeadlineExceeded") => true,
            _ => self.deadline(progressing).is_some_and(|deadline| until(deadline, self.now).is_none()),
        }
    }

    fn deadline(&self, progressing: &DeploymentCondition) -> Option<Timestamp> {
        let secs = self.spec.progress_deadline_seconds?;
        let from = progressing.last_update_time.as_ref()?.0;
        from.checked_add(SignedDuration::from_secs(secs.into())).ok()
    }

    /// The condition ReplicaFailure: that of a replica set.
    fn tell_failure(&self, status: &mut DeploymentStatus) {
        let newest_first = self.new.into_iter().chain(self.old_indexes());
        let failures = newest_first.filter_map(|at| {
            let conditions = self.sets[at].after.status.as_ref()?.conditions.as_ref()?;
            conditions.iter().find(|condition| condition.type_ == "ReplicaFailure")
        });
        let of_set = failures.into_iter().next().map(|failure| {
            (failure.reason.clone().unwrap_or_default(), failure.message.clone().unwrap_or_default())
        });
        match of_set {
            Some((reason, message)) => {
                let condition = conditions::deployment("ReplicaFailure", "True", &reason, &message, self.now);
                conditions::set(status, condition);
            }
            None => conditions::remove(status, "ReplicaFailure"),
        }
    }

    /// When the deadline will have passed, if nothing happens before.
    fn stuck_in(&self, status: &DeploymentStatus) -> Option<Duration> {
        let progressing = conditions::find(status, "Progressing")?;
        let reason = progressing.reason.as_deref().unwrap_or_default();
        if self.tells_complete(status)
            || matches!(reason, "ProgressDeadlineExceeded" | "NewReplicaSetAvailable")
        {
            return None;
        }
        let rest = until(self.deadline(progressing)?, self.now).unwrap_or_default();
        // A second more, as times are kept in whole seconds.
        Some(rest + Duration::from_secs(1))
    }
}

/// Upstream's `omitempty`: zero is not written.
fn nonzero(number: i32) -> Option<i32> {
    (number != 0).then_some(number)
}
