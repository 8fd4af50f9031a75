//! Events are kept for an hour after they were last seen, and of very many only the latest.

use crate::action::{Action, Plan, Propagation};
use crate::controller::{Controller, Wake};
use crate::object::{Change, EVENTS, Object, cluster_key};
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

/// How many are kept at most: upstream's are on a disk, ours are in memory.
const MOST: usize = 50_000;

/// The most that one plan deletes.
const BATCH: usize = 500;

/// One key stands for all events; it is woken once, then by its own timer.
fn on_event(world: &World, change: &Change) -> Vec<Key> {
    let first = world.events().next().is_some_and(|(_, key)| *key == change.key);
    if first || world.count_events() > MOST { vec![cluster_key(EVENTS, "old")] } else { Vec::new() }
}

fn reconcile(world: &World, _: &Key, now: Timestamp) -> Plan {
    expire(world, MOST, now)
}

fn expire(world: &World, most: usize, now: Timestamp) -> Plan {
    let mut surplus = world.count_events().saturating_sub(most);
    let mut plan = Plan::nothing();
    let mut deletes = Vec::new();
    for (seen, key) in world.events() {
        let end = seen.checked_add(KEPT).unwrap_or(Timestamp::MAX);
        if let Some(rest) = until(end, now).filter(|_| surplus == 0) {
            plan.look_again_in(rest);
            break;
        }
        if deletes.len() == BATCH {
            plan.look_again_in(Duration::ZERO);
            break;
        }
        surplus = surplus.saturating_sub(1);
        let Some(Object::Event(event)) = world.get(key) else { continue };
        deletes.push(Action::Delete {
            key: key.clone(),
            uid: event.uid.to_string(),
            revision: Some(event.revision),
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

    /// Events, last seen so many hours ago, of which so many are kept.
    fn check(hours: &[i64], most: usize, expect: Expect) {
        let event = |(at, hours): (usize, &i64)| {
            let last = now() - jiff::SignedDuration::from_hours(*hours);
            let event = json!({"metadata": {"name": format!("e{at}"), "namespace": "default", "uid": format!("u{at}")},
                "involvedObject": {}, "lastTimestamp": last.to_string()});
            (EVENTS, event)
        };
        let world = world(&hours.iter().enumerate().map(event).collect::<Vec<_>>());
        expect.assert_eq(&expire(&world, most, now()).to_string());
    }

    #[test]
    fn events_go_an_hour_after_they_were_last_seen() {
        check(
            &[2, 0, 3],
            MOST,
            expect![[r#"
            delete events default/e2 Background
            delete events default/e0 Background
            look again in 3600s
        "#]],
        );
        check(&[], MOST, expect![""]);
    }

    #[test]
    fn an_event_of_the_future_was_last_seen_when_it_was_heard_of() {
        check(
            &[-24 * 365 * 1000],
            MOST,
            expect![[r#"
            look again in 3600s
        "#]],
        );
    }

    #[test]
    fn of_too_many_the_oldest_go() {
        check(
            &[0, -1, 0, 2],
            2,
            expect![[r#"
            delete events default/e3 Background
            delete events default/e0 Background
            look again in 3600s
        "#]],
        );
    }
}
