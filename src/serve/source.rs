//! From the store to the node: the pods bound to it, and what they refer to, as the node's own events.
//!
//! One task watches one resource. A watcher that the store's ring has passed lists again, and tells what is gone
//! meanwhile from what it had told before.

use super::parts::join_all;
use control_api::object::{self, Key, ResourceId};
use control_driver::SharedPods;
use control_registry::Registry;
use control_store::{EventKind, Stored};
use runtime_node::SourceEvent;
use serde_core::de::DeserializeOwned;
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// A resource that the node follows.
struct Followed {
    resource: ResourceId,
    /// The event of an object that is there; none where the node has no business with it.
    present: fn(&Stored, &Follower) -> Option<SourceEvent>,
    /// The event of an object that is gone.
    gone: fn(Told) -> SourceEvent,
}

/// What was told of an object that may be gone by the next look.
struct Told {
    namespace: String,
    name: String,
    uid: String,
}

/// Services come before the pods that call them.
const FOLLOWED: &[Followed] = &[
    Followed {
        resource: ResourceId::new("", "services"),
        present: |stored, _| decode(stored).map(SourceEvent::Service),
        gone: |Told { namespace, name, .. }| SourceEvent::ServiceGone { namespace, name },
    },
    Followed {
        resource: ResourceId::new("discovery.k8s.io", "endpointslices"),
        present: |stored, _| decode(stored).map(SourceEvent::EndpointSlice),
        gone: |Told { namespace, name, .. }| SourceEvent::EndpointSliceGone { namespace, name },
    },
    Followed {
        resource: ResourceId::new("", "configmaps"),
        present: |stored, _| told(stored).map(config_map_changed),
        gone: config_map_changed,
    },
    Followed {
        resource: ResourceId::new("", "secrets"),
        present: |stored, _| told(stored).map(secret_changed),
        gone: secret_changed,
    },
    Followed {
        resource: ResourceId::new("", "pods"),
        present: |stored, follower| {
            let pod = readable(stored, follower.pods.decode(stored))?;
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
            let bound_here = node == Some(&*follower.node);
            bound_here.then_some(SourceEvent::Pod(pod))
        },
        gone: |Told { namespace, name, uid }| SourceEvent::PodGone { namespace, name, uid },
    },
];

/// Feeds the node until `stop`, or until it takes no more.
pub(crate) async fn run(
    registry: Registry,
    pods: SharedPods,
    node: String,
    events: mpsc::Sender<SourceEvent>,
    stop: CancellationToken,
) {
    let node: Arc<str> = node.into();
    let mut tasks = JoinSet::new();
    for followed in FOLLOWED {
        let mut follower = Follower {
            followed,
            registry: registry.clone(),
            pods: pods.clone(),
            node: node.clone(),
            events: events.clone(),
            known: BTreeMap::new(),
        };
        // All that exists comes before `Synced`, so the first list is not a task's.
        let Some(watch) = follower.list().await else { return };
        let stop = stop.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = follower.follow(watch) => {}
            }
        });
    }
    // The node may have ended by now; then the tasks end too.
    drop(events.send(SourceEvent::Synced).await);
    join_all(tasks).await;
}

struct Follower {
    followed: &'static Followed,
    registry: Registry,
    pods: SharedPods,
    node: Arc<str>,
    events: mpsc::Sender<SourceEvent>,
    /// What the node has been told is there.
    known: BTreeMap<Key, Told>,
}

impl Follower {
    /// Tells what is there and what is gone; gives the watch from there on. None: the node has ended.
    async fn list(&mut self) -> Option<control_store::Watch> {
        let (snapshot, watch) = self.registry.store().snapshot_and_watch(&self.followed.resource, None);
        let vanished: Vec<Key> =
            self.known.keys().filter(|key| snapshot.get(key).is_none()).cloned().collect();
        for key in vanished {
            self.tell_gone(&key).await?;
        }
        for stored in snapshot.list(&self.followed.resource, None) {
            self.tell_present(stored).await?;
        }
        Some(watch)
    }

    /// Ends when the node does.
    async fn follow(mut self, mut watch: control_store::Watch) {
        loop {
            let told = match watch.next().await {
                Ok(event) if event.kind == EventKind::Deleted => self.tell_gone(&event.object.key).await,
                Ok(event) => self.tell_present(&event.object).await,
                Err(control_store::Gone { .. }) => match self.list().await {
                    Some(again) => {
                        watch = again;
                        Some(())
                    }
                    None => None,
                },
            };
            if told.is_none() {
                return;
            }
        }
    }

    async fn tell_present(&mut self, stored: &Stored) -> Option<()> {
        let Some(now) = told(stored) else { return Some(()) };
        // Deleted and made again between two looks: another object, which may not be the node's business yet.
        if self.known.get(&stored.key).is_some_and(|before| before.uid != now.uid) {
            self.tell_gone(&stored.key).await?;
        }
        let Some(event) = (self.followed.present)(stored, self) else { return Some(()) };
        self.known.insert(stored.key.clone(), now);
        self.events.send(event).await.ok()
    }

    async fn tell_gone(&mut self, key: &Key) -> Option<()> {
        match self.known.remove(key) {
            Some(told) => self.events.send((self.followed.gone)(told)).await.ok(),
            None => Some(()),
        }
    }
}

fn config_map_changed(Told { namespace, name, .. }: Told) -> SourceEvent {
    SourceEvent::ConfigMapChanged { namespace, name }
}

fn secret_changed(Told { namespace, name, .. }: Told) -> SourceEvent {
    SourceEvent::SecretChanged { namespace, name }
}

fn told(stored: &Stored) -> Option<Told> {
    let object: Arc<Value> = decode(stored)?;
    let namespace = stored.key.namespace.as_deref().unwrap_or_default().to_owned();
    Some(Told { namespace, name: stored.key.name.clone(), uid: object::uid(&object).to_owned() })
}

/// The object as a type of the node's, or as it is.
fn decode<T: DeserializeOwned>(stored: &Stored) -> Option<Arc<T>> {
    readable(stored, serde_json::from_slice(&stored.json).map(Arc::new))
}

/// An object that does not decode is told of and passed over: it harms nobody else.
fn readable<T>(stored: &Stored, decoded: serde_json::Result<T>) -> Option<T> {
    decoded
        .inspect_err(
            |error| tracing::error!(object = %stored.key, %error, "an object of the store cannot be read"),
        )
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_cannot_be_read_is_passed_over() {
        let resource = ResourceId::new("", "configmaps");
        let key = Key { resource, namespace: Some("default".to_owned()), name: "a".to_owned() };
        let stored = |json: String| Stored { key: key.clone(), revision: 2, json: json.into() };
        let sound = stored(r#"{"metadata":{"uid":"1"}}"#.to_owned());
        assert_eq!(told(&sound).map(|told| told.uid).as_deref(), Some("1"));
        let deep = format!(r#"{{"metadata":{{"uid":"1"}},"data":{}{}}}"#, "[".repeat(200), "]".repeat(200));
        assert!(told(&stored(deep)).is_none());
    }
}
