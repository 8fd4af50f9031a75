//! Endpoints, the older form: one object a service, at most a thousand addresses.

use super::{HEADLESS, endpoints_key, is_headless, members, selector, subsets};
use crate::action::{Action, Plan, Propagation, change};
use crate::object::{ENDPOINTS, Meta};
use crate::world::World;
use control_api::object::Key;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

pub(super) const NAME: &str = "endpoint-controller";

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

/// The most addresses of an object.
const FULL: usize = 1000;

pub(super) fn reconcile(world: &World, at: &Key, _: Timestamp) -> Plan {
    let namespace = at.namespace.as_deref().unwrap_or_default();
    let place = endpoints_key(at);
    let old = world.endpoints(namespace, &at.name);
    let Some(service) = world.service(namespace, &at.name) else {
        // Endpoints that we made go with their service; others are someone else's.
        let ours =
            old.filter(|old| old.metadata.label(MANAGED_BY) == Some(NAME) && !old.metadata.is_deleting());
        return Plan::from(ours.map(|old| delete(&place, old)).into_iter().collect::<Vec<_>>());
    };
    if selector(service).is_none() || service.metadata.is_deleting() {
        return Plan::nothing();
    }
    let mut subsets = subsets::pack(service, members(world, service));
    let cut = subsets::truncate(&mut subsets, FULL);
    let mut new = old.map_or_else(|| empty(service), |old| Endpoints::clone(old));
    new.subsets = (!subsets.is_empty()).then_some(subsets);
    new.metadata.labels = Some(labels(service));
    if cut {
        let annotations = new.metadata.annotations.get_or_insert_default();
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else if let Some(annotations) = &mut new.metadata.annotations {
        annotations.remove(OVER_CAPACITY);
    }
    let action = match old {
        Some(old) => change(&place, old.metadata.revision(), None, &**old, &new),
        None => {
            let object =
                serde_json::to_value(&new).expect("API types have string keys and no failing serializers");
            Some(Action::Create { resource: ENDPOINTS, object: Box::new(object) })
        }
    };
    Plan::from(action.into_iter().collect::<Vec<_>>())
}

fn delete(place: &Key, old: &Endpoints) -> Action {
    Action::Delete {
        key: place.clone(),
        uid: old.metadata.uid_str().to_owned(),
        revision: Some(old.metadata.revision()),
        propagation: Propagation::Background,
        grace_secs: None,
    }
}

fn empty(service: &Service) -> Endpoints {
    let metadata = ObjectMeta {
        name: service.metadata.name.clone(),
        namespace: service.metadata.namespace.clone(),
        ..ObjectMeta::default()
    };
    Endpoints { metadata, subsets: None }
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if service.spec.as_ref().is_some_and(is_headless) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY.to_owned(), NAME.to_owned());
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{SERVICES, key};
    use crate::testing::{add, add_pods, now, world};
    use serde_json::{Value, json};

    #[test]
    fn endpoints_follow_the_pods_and_say_when_there_are_too_many() {
        let service = json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "uid-web", "resourceVersion": "3"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
        });
        let at = key(SERVICES, "default", "web");
        let mut world = world(&[(SERVICES, service)]);
        let line = |n: usize| format!("p{n:04}:ready app=web ip=1.1.{}.{}", n / 256, n % 256);
        add_pods(&mut world, &(0..FULL).map(line).collect::<Vec<_>>().join(";"));
        let plan = reconcile(&world, &at, now());
        let Some(Action::Create { object, .. }) = plan.actions.first() else { panic!("{plan}") };
        assert_eq!(object["metadata"]["annotations"], Value::Null);
        let mut endpoints = Value::clone(object);
        endpoints["metadata"]["resourceVersion"] = json!("4");
        add(&mut world, &ENDPOINTS, &endpoints);
        assert_eq!(reconcile(&world, &at, now()).to_string(), "");
        add_pods(&mut world, &line(FULL));
        let plan = reconcile(&world, &at, now());
        let Some(Action::Patch { patch, .. }) = plan.actions.first() else { panic!("{plan}") };
        assert_eq!(patch["metadata"]["annotations"][OVER_CAPACITY], "truncated");
        assert_eq!(patch["subsets"][0]["addresses"].as_array().unwrap().len(), FULL);
    }
}
