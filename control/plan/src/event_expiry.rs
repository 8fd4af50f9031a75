//! Events are kept for an hour after they were last seen.

use crate::action::{Action, Plan, Propagation};
use crate::controller::{Controller, Wake};
use crate::object::{Change, EVENTS, Meta, cluster_key};
use crate::pods::until;
use crate::world::World;
use control_api::object::Key;
use jiff::Timestamp;
use std::time::Duration;

/// Deletes old events.
pub(crate) static ROW: Controller =
    Controller { name: "event-expiry-controller", wakes: &[Wake::on("", "events", on_event)], reconcile };

/// How long events are kept, as upstream's `--event-ttl`.
const KEPT: Duration = Duration::from_secs(3600);

/// The most that one plan deletes.
const BATCH: usize = 500;

/// One key stands for all events; it is woken once, then by its own timer.
fn on_event(world: &World, change: &Change) -> Vec<Key> {
    let first = world.events().next().is_some_and(|(_, key)| *key == change.key);
    if first { vec![cluster_key(EVENTS, "old")] } else { Vec::new() }
}

fn reconcile(world: &World, _: &Key, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    let mut deletes = Vec::new();
    for (seen, key) in world.events() {
        let end = seen.checked_add(KEPT).unwrap_or(Timestamp::MAX);
        if let Some(rest) = until(end, now) {
            plan.look_again_in(rest);
            break;
        }
        if deletes.len() == BATCH {
            plan.look_again_in(Duration::ZERO);
            break;
        }
        let Some(event) = world.get(key) else { continue };
        deletes.push(Action::Delete {
            key: key.clone(),
            uid: event.meta().uid_str().to_owned(),
            revision: Some(event.meta().revision()),
            propagation: Propagation::Background,
            grace_secs: None,
        });
    }
    if !deletes.is_empty() {
        plan.actions.push(Action::Together(deletes));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{now, world};
    use expect_test::{Expect, expect};
    use serde_json::json;

    fn check(hours: &[i64], expect: Expect) {
        let event = |(at, hours): (usize, &i64)| {
            let last = now() - jiff::SignedDuration::from_hours(*hours);
            let event = json!({"metadata": {"name": format!("e{at}"), "namespace": "default", "uid": format!("u{at}")},
                "involvedObject": {}, "lastTimestamp": last.to_string()});
            (EVENTS, event)
        };
        let world = world(&hours.iter().enumerate().map(event).collect::<Vec<_>>());
        expect.assert_eq(&reconcile(&world, &cluster_key(EVENTS, "old"), now()).to_string());
    }

    #[test]
    fn events_go_an_hour_after_they_were_last_seen() {
        check(
            &[2, 0, 3],
            expect![[r#"
            delete events default/e2 Background
            delete events default/e0 Background
            look again in 3600s
        "#]],
        );
        check(&[], expect![""]);
    }
}
