//! Namespaces and what is in them; the first objects of a cluster.

use crate::world::{World, by, names, refusal};
use control_registry::{DeleteOptions, ListOptions};
use expect_test::expect;
use serde_json::json;

#[tokio::test]
async fn nothing_is_made_in_a_namespace_that_is_not_there() {
    let world = World::new().await;
    let resource = world.resource("configmaps");
    let object = json!({"metadata": {"name": "a"}});
    let outcome = world.registry.create(&resource, Some("nowhere"), object, &by("test")).await;
    expect![[r#"404 NotFound: namespaces "nowhere" not found"#]].assert_eq(&refusal(outcome));
}

#[tokio::test]
async fn a_namespace_ends_when_its_content_has() {
    let world = World::new().await;
    world.create("namespaces", json!({"metadata": {"name": "ns"}})).await.unwrap();
    let resource = world.resource("configmaps");
    let create = |name: &'static str| {
        let (world, resource) = (&world, &resource);
        async move {
            let object = json!({"metadata": {"name": name}});
            world.registry.create(resource, Some("ns"), object, &by("test")).await
        }
    };
    create("a").await.unwrap();
    let deleted = world.delete("namespaces", "ns", &DeleteOptions::default()).await.unwrap();
    assert!(!deleted.gone);
    let object = deleted.object.value();
    expect![[r#""2026-01-01T00:00:00Z" {"finalizers":["kubernetes"]} {"phase":"Terminating"}"#]].assert_eq(
        &format!("{} {} {}", object["metadata"]["deletionTimestamp"], object["spec"], object["status"]),
    );

    let error = create("b").await.unwrap_err();
    expect![[r#"{"apiVersion":"v1","code":403,"details":{"causes":[{"field":"metadata.namespace","message":"namespace ns is being terminated","reason":"NamespaceTerminating"}],"kind":"configmaps","name":"b"},"kind":"Status","message":"configmaps \"b\" is forbidden: unable to create new content in namespace ns because it is being terminated","metadata":{},"reason":"Forbidden","status":"Failure"}"#]].assert_eq(&error.to_status().to_string());
    let again = world.delete("namespaces", "ns", &DeleteOptions::default()).await.unwrap();
    assert_eq!(again.object, deleted.object);

    // Clients cannot take the finalizer away; the controller can.
    let mut object = object;
    object["spec"] = json!({});
    world.update("namespaces", None, object.clone()).await.unwrap();
    world.update("namespaces", Some("status"), object.clone()).await.unwrap();
    assert!(world.get("namespaces", "ns").is_ok());
    object["metadata"]["resourceVersion"] =
        world.get("namespaces", "ns").unwrap()["metadata"]["resourceVersion"].clone();
    world.update("namespaces", Some("finalize"), object).await.unwrap();
    expect![[r#"404 NotFound: namespaces "ns" not found"#]]
        .assert_eq(&refusal(world.get("namespaces", "ns")));
}

#[tokio::test]
async fn an_emptied_namespace_with_a_finalizer_of_its_own_waits_for_that_too() {
    let world = World::new().await;
    world.create("namespaces", json!({"metadata": {"name": "ns", "finalizers": ["x.io/y"]}})).await.unwrap();
    world.delete("namespaces", "ns", &DeleteOptions::default()).await.unwrap();
    let mut object = world.get("namespaces", "ns").unwrap();
    object["spec"] = json!({});
    world.update("namespaces", Some("finalize"), object).await.unwrap();
    world.edit("namespaces", "ns", |object| object["metadata"]["finalizers"] = json!(null)).await.unwrap();
    assert!(world.get("namespaces", "ns").is_err());
}

#[tokio::test]
async fn the_systems_namespaces_stay() {
    let world = World::new().await;
    expect![[r#"403 Forbidden: namespaces "default" is forbidden: this namespace may not be deleted"#]]
        .assert_eq(&refusal(world.delete("namespaces", "default", &DeleteOptions::default()).await));
}

#[tokio::test]
async fn a_new_cluster_has_its_namespaces_and_the_api_as_a_service() {
    let world = World::empty(1000);
    world.registry.bootstrap("127.0.0.1:6443".parse().unwrap()).await.unwrap();
    let list = world.list("namespaces", &ListOptions::default()).unwrap();
    assert_eq!(names(&list.items), "default kube-node-lease kube-public kube-system");
    let service = world.get("services", "kubernetes").unwrap();
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
    expect![[r#"[{"name":"https","port":443,"protocol":"TCP","targetPort":6443}]"#]]
        .assert_eq(&service["spec"]["ports"].to_string());

    // A second start changes nothing; another address is followed.
    let before = world.revision();
    world.registry.bootstrap("127.0.0.1:6443".parse().unwrap()).await.unwrap();
    assert_eq!(world.revision(), before);
    world.registry.bootstrap("192.0.2.7:7443".parse().unwrap()).await.unwrap();
    let endpoints = world.get("endpoints", "kubernetes").unwrap();
    expect![[
        r#"[{"addresses":[{"ip":"192.0.2.7"}],"ports":[{"name":"https","port":7443,"protocol":"TCP"}]}]"#
    ]]
    .assert_eq(&endpoints["subsets"].to_string());
    let slice = world.get("endpointslices", "kubernetes").unwrap();
    expect![[r#"[{"addresses":["192.0.2.7"],"conditions":{"ready":true}}] [{"name":"https","port":7443,"protocol":"TCP"}]"#]].assert_eq(&format!("{} {}", slice["endpoints"], slice["ports"]));
    assert_eq!(world.get("services", "kubernetes").unwrap()["spec"]["clusterIP"], "10.96.0.1");
}

#[tokio::test]
async fn what_a_cluster_cannot_be_without_is_made_again() {
    let world = World::empty(1000);
    let api = "127.0.0.1:6443".parse().unwrap();
    world.registry.bootstrap(api).await.unwrap();
    let before = world.get("services", "kubernetes").unwrap();
    for plural in ["services", "endpoints", "endpointslices"] {
        world.delete(plural, "kubernetes", &DeleteOptions::default()).await.unwrap();
    }
    world.delete("namespaces", "kube-node-lease", &DeleteOptions::default()).await.unwrap();
    // One on its way out is left to go.
    world.registry.bootstrap(api).await.unwrap();
    let mut leaving = world.get("namespaces", "kube-node-lease").unwrap();
    assert_eq!(leaving["status"]["phase"], "Terminating");
    leaving["spec"] = json!({});
    world.update("namespaces", Some("finalize"), leaving).await.unwrap();

    world.registry.bootstrap(api).await.unwrap();
    assert_eq!(world.get("namespaces", "kube-node-lease").unwrap()["status"]["phase"], "Active");
    let after = world.get("services", "kubernetes").unwrap();
    assert_ne!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(after["spec"]["clusterIP"], before["spec"]["clusterIP"]);
    assert!(
        world.get("endpoints", "kubernetes").is_ok() && world.get("endpointslices", "kubernetes").is_ok()
    );
}

#[tokio::test]
async fn nobody_takes_the_address_of_the_api_while_its_service_is_away() {
    let world = World::empty(1000);
    let api_server = "127.0.0.1:6443".parse().unwrap();
    world.registry.bootstrap(api_server).await.unwrap();
    world.delete("services", "kubernetes", &DeleteOptions::default()).await.unwrap();
    let spec = json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80}]});
    let taken = world.create("services", json!({"metadata": {"name": "web"}, "spec": spec})).await;
    expect![[r#"422 Invalid: Service "web" is invalid: spec.clusterIPs: Invalid value: ["10.96.0.1"]: failed to allocate IP 10.96.0.1: provided IP is already allocated"#]]
        .assert_eq(&refusal(taken));
    world.registry.bootstrap(api_server).await.unwrap();
    assert_eq!(world.get("services", "kubernetes").unwrap()["spec"]["clusterIP"], "10.96.0.1");
}
