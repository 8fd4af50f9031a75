//! Pods decoded once, for all of this process that hold them.
//!
//! A typed pod takes some ten kilobytes, and both the controllers' world and the node hold every pod. Who decodes one
//! first shares it with the other.

use control_api::object::Key;
use control_plan::Object;
use control_store::Stored;
use k8s_openapi::api::core::v1::Pod;
use serde_core::de::Error as _;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// The latest revision of each pod, as long as somebody holds it. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct SharedPods(Arc<Mutex<Pods>>);

/// Each pod at its latest revision.
#[derive(Debug, Default)]
struct Pods {
    latest: BTreeMap<Key, (u64, Weak<Pod>)>,
    /// How many there may be before those that nobody holds are swept out.
    enough: usize,
}

impl Pods {
    /// Who is behind may decode a pod that was let go of already, and nobody will let go of it again: so what nobody
    /// holds is swept out whenever there are twice as many as were left the last time.
    fn insert(&mut self, key: Key, revision: u64, pod: &Arc<Pod>) {
        self.latest.insert(key, (revision, Arc::downgrade(pod)));
        if self.latest.len() > self.enough {
            self.latest.retain(|_, (_, pod)| pod.strong_count() > 0);
            self.enough = (self.latest.len() * 2).max(FEW);
        }
    }
}

/// So few are never swept.
const FEW: usize = 64;

impl SharedPods {
    /// The pod, decoded here or elsewhere, without its managed fields.
    pub fn decode(&self, stored: &Stored) -> Result<Arc<Pod>, serde_json::Error> {
        if let Some(pod) = self.held(stored) {
            return Ok(pod);
        }
        // Without the lock, as it takes a while. Where two do it at once, each keeps its own until the next revision.
        let Object::Pod(pod) = Object::parse(&stored.key, &stored.json)? else {
            return Err(serde_json::Error::custom("it is not a pod"));
        };
        let mut pods = self.lock();
        match pods.latest.get(&stored.key) {
            Some((revision, _)) if *revision > stored.revision => {}
            _ => pods.insert(stored.key.clone(), stored.revision, &pod),
        }
        Ok(pod)
    }

    /// Lets go of a pod that was deleted.
    pub(crate) fn forget(&self, key: &Key) {
        self.lock().latest.remove(key);
    }

    fn held(&self, stored: &Stored) -> Option<Arc<Pod>> {
        let pods = self.lock();
        let (revision, pod) = pods.latest.get(&stored.key)?;
        if *revision == stored.revision { pod.upgrade() } else { None }
    }

    fn lock(&self) -> MutexGuard<'_, Pods> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control_plan::object::{PODS, key};

    fn stored(revision: u64) -> Stored {
        let json = format!(
            r#"{{"metadata":{{"name":"a","namespace":"default","resourceVersion":"{revision}","managedFields":[{{}}]}}}}"#
        );
        Stored { key: key(PODS, "default", "a"), revision, json: json.into() }
    }

    #[test]
    fn one_revision_is_decoded_once() {
        let pods = SharedPods::default();
        let first = pods.decode(&stored(1)).unwrap();
        assert!(Arc::ptr_eq(&first, &pods.clone().decode(&stored(1)).unwrap()));
        assert_eq!(first.metadata.managed_fields, None);
        let second = pods.decode(&stored(2)).unwrap();
        assert_eq!(second.metadata.resource_version.as_deref(), Some("2"));
        // Who comes late gets what it asked for, and does not take the place of the newer one.
        let late = pods.decode(&stored(1)).unwrap();
        assert_eq!(late.metadata.resource_version.as_deref(), Some("1"));
        assert!(Arc::ptr_eq(&second, &pods.decode(&stored(2)).unwrap()));
        pods.forget(&stored(2).key);
        assert!(pods.lock().latest.is_empty());
    }

    #[test]
    fn pods_that_are_decoded_after_they_were_let_go_of_are_not_kept_for_ever() {
        let pods = SharedPods::default();
        let named = |name: &str| Stored { key: Key { name: name.to_owned(), ..stored(1).key }, ..stored(1) };
        let held = pods.decode(&named("held")).unwrap();
        for at in 0..10 * FEW {
            let late = named(&format!("late-{at}"));
            pods.forget(&late.key);
            drop(pods.decode(&late).unwrap());
        }
        assert!(pods.lock().latest.len() <= FEW);
        assert!(Arc::ptr_eq(&held, &pods.decode(&named("held")).unwrap()));
    }
}
