//! How many pods each replica set should have now.

use super::revision::{DESIRED, MAX};
use super::{Rollout, Set};
use crate::object::Meta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::cmp::Reverse;

impl Rollout<'_> {
    /// `maxSurge` in pods; 0 for Recreate.
    pub(super) fn max_surge(&self) -> i32 {
        self.bounds().0
    }

    /// `maxUnavailable` in pods; 0 for Recreate.
    pub(super) fn max_unavailable(&self) -> i32 {
        self.bounds().1
    }

    fn bounds(&self) -> (i32, i32) {
        if !self.is_rolling() {
            return (0, 0);
        }
        let rolling = self.spec.strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        let default = IntOrString::String("25%".to_owned());
        let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref()).unwrap_or(&default);
        let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref()).unwrap_or(&default);
        let (surge, unavailable) = resolve(surge, unavailable, self.wanted());
        (surge, if self.wanted() == 0 { 0 } else { unavailable })
    }

    fn is_rolling(&self) -> bool {
        let kind = self.spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
        kind != Some("Recreate")
    }

    /// Whether `spec.replicas` changed since the replica sets with pods were last written.
    pub(super) fn is_scaling(&self) -> bool {
        self.sets.iter().filter(|set| set.replicas() > 0).any(|set| {
            let desired = set.after.metadata.annotation(DESIRED).and_then(|text| text.parse::<i32>().ok());
            desired.is_some_and(|desired| desired != self.wanted())
        })
    }

    /// How many pods the new replica set may have, given all others.
    pub(super) fn new_replicas(&self) -> i32 {
        let current = self.new.map_or(0, |new| self.sets[new].replicas());
        if !self.is_rolling() {
            return self.wanted();
        }
        let total: i32 = self.sets.iter().map(Set::replicas).sum();
        let room = self.wanted() + self.max_surge() - total;
        if room <= 0 {
            return current;
        }
        current + room.min(self.wanted() - current)
    }

    /// Rolling: the new replica set takes what the surge allows. True if it changed.
    pub(super) fn grow_new(&mut self) -> bool {
        let Some(new) = self.new else {
            return false;
        };
        let current = self.sets[new].replicas();
        let target = if current > self.wanted() { self.wanted() } else { self.new_replicas() };
        current != target && self.scale_set(new, target)
    }

    /// Rolling: old replica sets give up pods that do not run, then as many as may be unavailable. True if any did.
    pub(super) fn shrink_old(&mut self) -> bool {
        let olds = self.old_indexes();
        if olds.iter().all(|at| self.sets[*at].replicas() == 0) {
            return false;
        }
        let total: i32 = self.sets.iter().map(Set::replicas).sum();
        let min_available = self.wanted() - self.max_unavailable();
        let new_unavailable =
            self.new.map_or(0, |new| self.sets[new].replicas() - self.sets[new].available());
        let mut allowed = total - min_available - new_unavailable;
        if allowed <= 0 {
            return false;
        }
        let mut changed = false;
        for at in &olds {
            let set = &self.sets[*at];
            let unhealthy = (set.replicas() - set.available()).min(allowed);
            if unhealthy > 0 {
                let left = set.replicas() - unhealthy;
                allowed -= unhealthy;
                changed |= self.scale_set(*at, left);
            }
        }
        let available: i32 = self.sets.iter().map(Set::available).sum();
        let mut surplus = available - min_available;
        for at in olds {
            let replicas = self.sets[at].replicas();
            let fewer = replicas.min(surplus);
            if fewer > 0 {
                surplus -= fewer;
                changed |= self.scale_set(at, replicas - fewer);
            }
        }
        changed
    }

    /// `spec.replicas` changed, or the deployment is paused: the one replica set takes all; in the middle of a rollout
    /// each takes its share.
    pub(super) fn scale_all(&mut self) {
        let active: Vec<usize> = (0..self.sets.len()).filter(|at| self.sets[*at].replicas() > 0).collect();
        let only = match active.as_slice() {
            [] => self.new.or_else(|| self.sets.len().checked_sub(1)),
            [only] => Some(*only),
            _ => None,
        };
        if let Some(only) = only {
            self.scale_set(only, self.wanted());
        } else if self.is_saturated() {
            for at in active {
                if Some(at) != self.new {
                    self.scale_set(at, 0);
                }
            }
        } else if self.is_rolling() {
            self.scale_shares(active);
        }
    }

    /// Whether the new replica set alone serves all that is asked for.
    fn is_saturated(&self) -> bool {
        self.new.is_some_and(|new| {
            let set = &self.sets[new];
            let desired = set.after.metadata.annotation(DESIRED).and_then(|text| text.parse::<i32>().ok());
            set.replicas() == self.wanted()
                && desired == Some(self.wanted())
                && set.available() == self.wanted()
        })
    }

    /// Spreads the difference over the active replica sets by their sizes; the largest takes what rounding leaves.
    fn scale_shares(&mut self, mut active: Vec<usize>) {
        let total: i32 = active.iter().map(|at| self.sets[*at].replicas()).sum();
        let allowed = if self.wanted() > 0 { self.wanted() + self.max_surge() } else { 0 };
        let to_add = allowed - total;
        // By size; of equals the newer first to grow, the older first to shrink.
        active.sort_by_key(|at| {
            let created = self.sets[*at].after.metadata.created().as_second();
            (Reverse(self.sets[*at].replicas()), if to_add > 0 { -created } else { created })
        });
        let mut added = 0;
        let mut sizes = Vec::new();
        for at in &active {
            let share = if to_add == 0 { 0 } else { self.share(*at, to_add, added) };
            added += share;
            sizes.push(self.sets[*at].replicas() + share);
        }
        if let Some(first) = sizes.first_mut() {
            *first = (*first + to_add - added).max(0);
        }
        for (at, size) in active.into_iter().zip(sizes) {
            self.scale_set(at, size);
        }
    }

    /// What one replica set takes of the difference.
    fn share(&self, at: usize, to_add: i32, added: i32) -> i32 {
        let set = &self.sets[at];
        let replicas = set.replicas();
        if replicas == 0 || to_add == added {
            return 0;
        }
        let allowed = to_add - added;
        if self.wanted() == 0 {
            return (-replicas).max(allowed);
        }
        let max_before = set.after.metadata.annotation(MAX).and_then(|text| text.parse::<i32>().ok());
        let status = self.deployment.status.as_ref().and_then(|status| status.replicas);
        let Some(max_before) = max_before.filter(|max| *max > 0).or(status).filter(|max| *max > 0) else {
            return 0;
        };
        let exact = f64::from(replicas) * f64::from(self.wanted() + self.max_surge()) / f64::from(max_before);
        let fraction = round(exact) - replicas;
        if to_add > 0 { fraction.min(allowed) } else { fraction.max(allowed) }
    }

    /// Sets a replica set's size, and the annotations that tell what it was decided by. True if anything changed.
    pub(super) fn scale_set(&mut self, at: usize, replicas: i32) -> bool {
        let (desired, max) = (self.wanted().to_string(), (self.wanted() + self.max_surge()).to_string());
        let before = self.sets[at].replicas();
        let annotations = self.sets[at].after.metadata.annotations.get_or_insert_default();
        let same = annotations.get(DESIRED) == Some(&desired) && annotations.get(MAX) == Some(&max);
        if same && before == replicas {
            return false;
        }
        annotations.insert(DESIRED.to_owned(), desired);
        annotations.insert(MAX.to_owned(), max);
        if before != replicas {
            self.sets[at].after.spec.get_or_insert_default().replicas = Some(replicas);
            let name = self.sets[at].after.metadata.name_str().to_owned();
            let direction = if replicas > before { "up" } else { "down" };
            // Two steps in one plan are told as one.
            let from =
                self.sets[at].before.as_ref().map_or(0, |set| crate::replica_set::Sets::replicas(&**set));
            let message = format!("Scaled {direction} replica set {name} from {from} to {replicas}");
            self.sets[at].event = Some(self.event("Normal", "ScalingReplicaSet", message));
        }
        true
    }
}

/// Surge and unavailable in pods: percentages are rounded up and down; both zero would never move.
fn resolve(surge: &IntOrString, unavailable: &IntOrString, wanted: i32) -> (i32, i32) {
    let amount = |value: &IntOrString, up: bool| match value {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            let product = percent * i64::from(wanted);
            i32::try_from(if up { (product + 99) / 100 } else { product / 100 }).unwrap_or(i32::MAX)
        }
    };
    let surge = amount(surge, true).max(0);
    let unavailable = amount(unavailable, false).clamp(0, wanted.max(0));
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

fn round(exact: f64) -> i32 {
    let rounded = exact.round();
    #[expect(clippy::cast_possible_truncation, reason = "clamped to the type's range one call before")]
    let whole = rounded.clamp(f64::from(i32::MIN), f64::from(i32::MAX)) as i32;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(surge: &str, unavailable: &str, wanted: i32, expect: (i32, i32)) {
        let value =
            |text: &str| text.parse().map_or_else(|_| IntOrString::String(text.to_owned()), IntOrString::Int);
        assert_eq!(resolve(&value(surge), &value(unavailable), wanted), expect);
    }

    #[test]
    fn percentages_of_the_surge_round_up_and_of_the_unavailable_down() {
        check("25%", "25%", 3, (1, 0));
        check("25%", "25%", 4, (1, 1));
        check("25%", "25%", 10, (3, 2));
        check("1", "0", 3, (1, 0));
        check("0", "0", 3, (0, 1));
        check("0%", "10%", 5, (0, 1));
        check("100%", "100%", 2, (2, 2));
        check("2", "5", 3, (2, 3));
    }
}
