//! What every namespace has: the ServiceAccount `default` and the ConfigMap with the cluster's CA.

use crate::action::{Action, Plan, change};
use crate::controller::{Controller, Wake, itself};
use crate::object::{
    CONFIG_MAPS, Change, Meta, NAMESPACES, Object, ROOT_CA as ROOT_CA_NAME, SERVICE_ACCOUNTS, cluster_key,
    key,
};
use crate::world::World;
use control_api::object::Key;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;

const DESCRIPTION: &str = "kubernetes.io/description";
const WHAT_IT_IS_FOR: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

/// The controller of the ServiceAccount `default`.
pub(crate) static SERVICE_ACCOUNT: Controller = Controller {
    name: "service-account-controller",
    wakes: &[Wake::on("", "namespaces", itself), Wake::on("", "serviceaccounts", namespace_of_account)],
    reconcile: reconcile_service_account,
};

/// The controller of the ConfigMap `kube-root-ca.crt`.
pub(crate) static ROOT_CA: Controller = Controller {
    name: "root-ca-certificate-publisher",
    wakes: &[Wake::on("", "namespaces", itself), Wake::on("", "configmaps", namespace_of_root_ca)],
    reconcile: reconcile_root_ca,
};

fn namespace_of_account(_: &World, change: &Change) -> Vec<Key> {
    namespace_of(change, "default")
}

fn namespace_of_root_ca(_: &World, change: &Change) -> Vec<Key> {
    namespace_of(change, ROOT_CA_NAME)
}

fn namespace_of(change: &Change, name: &str) -> Vec<Key> {
    let namespace = change.key.namespace.as_deref().filter(|_| change.key.name == name);
    namespace.map(|namespace| cluster_key(NAMESPACES, namespace)).into_iter().collect()
}

/// Whether things may be made in a namespace.
fn is_active(world: &World, name: &str) -> bool {
    world.namespace(name).is_some_and(|namespace| {
        let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
        !namespace.metadata.is_deleting() && phase != Some("Terminating")
    })
}

fn reconcile_service_account(world: &World, at: &Key, _: Timestamp) -> Plan {
    let place = key(SERVICE_ACCOUNTS, &at.name, "default");
    if !is_active(world, &at.name) || world.get(&place).is_some() {
        return Plan::nothing();
    }
    let account = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "default", "namespace": at.name},
    });
    Plan::from(vec![Action::Create { resource: SERVICE_ACCOUNTS, object: Box::new(account) }])
}

fn reconcile_root_ca(world: &World, at: &Key, _: Timestamp) -> Plan {
    if !is_active(world, &at.name) {
        return Plan::nothing();
    }
    let place = key(CONFIG_MAPS, &at.name, ROOT_CA_NAME);
    let ca = &world.settings().root_ca;
    let Some(Object::RootCa(map)) = world.get(&place) else {
        let map = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": ROOT_CA_NAME, "namespace": at.name, "annotations": {DESCRIPTION: WHAT_IT_IS_FOR}},
            "data": {"ca.crt": ca},
        });
        return Plan::from(vec![Action::Create { resource: CONFIG_MAPS, object: Box::new(map) }]);
    };
    let mut new = ConfigMap::clone(map);
    new.data = Some([("ca.crt".to_owned(), ca.clone())].into());
    new.metadata
        .annotations
        .get_or_insert_default()
        .insert(DESCRIPTION.to_owned(), WHAT_IT_IS_FOR.to_owned());
    Plan::from(change(&place, map.metadata.revision(), None, &**map, &new).into_iter().collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{now, world};
    use expect_test::{Expect, expect};

    fn check(phase: &str, data: Option<&str>, expect: Expect) {
        let mut objects = vec![(
            NAMESPACES,
            json!({"metadata": {"name": "a", "uid": "u", "resourceVersion": "1"}, "status": {"phase": phase}}),
        )];
        if let Some(ca) = data {
            let map = json!({"metadata": {"name": ROOT_CA_NAME, "namespace": "a", "resourceVersion": "2",
                "annotations": {DESCRIPTION: WHAT_IT_IS_FOR}}, "data": {"ca.crt": ca}});
            objects.push((CONFIG_MAPS, map));
        }
        let world = world(&objects);
        let at = cluster_key(NAMESPACES, "a");
        let plans = [reconcile_service_account(&world, &at, now()), reconcile_root_ca(&world, &at, now())];
        expect.assert_eq(&plans.map(|plan| plan.to_string()).concat());
    }

    #[test]
    fn active_namespaces_have_both_and_a_changed_ca_is_restored() {
        check(
            "Active",
            None,
            expect![[r#"
            create serviceaccounts a/default
            create configmaps a/kube-root-ca.crt
        "#]],
        );
        check(
            "Active",
            Some("forged"),
            expect![[r#"
            create serviceaccounts a/default
            patch configmaps a/kube-root-ca.crt {"data":{"ca.crt":"PEM"}}
        "#]],
        );
        check(
            "Active",
            Some("PEM"),
            expect![[r#"
            create serviceaccounts a/default
        "#]],
        );
        check("Terminating", None, expect![""]);
    }
}
