//! List: selectors, pages, resource versions.

use crate::world::{World, names, pod, refusal};
use control_registry::{DeleteOptions, ListOptions};
use expect_test::expect;

fn by_labels(selector: &str) -> ListOptions {
    ListOptions { label_selector: selector.to_owned(), ..ListOptions::default() }
}

fn by_fields(selector: &str) -> ListOptions {
    ListOptions { field_selector: selector.to_owned(), ..ListOptions::default() }
}

fn pages(limit: u64, token: &str) -> ListOptions {
    ListOptions { limit: Some(limit), continue_token: token.to_owned(), ..ListOptions::default() }
}

fn at(version: &str, how: &str) -> ListOptions {
    ListOptions {
        resource_version: version.to_owned(),
        resource_version_match: how.to_owned(),
        ..ListOptions::default()
    }
}

async fn world() -> World {
    let world = World::new().await;
    for (name, app) in [("a", "web"), ("b", "db"), ("c", "web"), ("d", "web"), ("e", "db")] {
        world.labelled(name, app).await;
    }
    world
}

#[tokio::test]
async fn selectors_choose() {
    let world = world().await;
    world.create_account().await;
    world.create("pods", pod("p")).await.unwrap();
    let check = |plural: &str, options: &ListOptions| names(&world.list(plural, options).unwrap().items);
    assert_eq!(check("configmaps", &by_labels("app=web")), "a c d");
    assert_eq!(check("configmaps", &by_labels("app notin (web)")), "b e");
    assert_eq!(check("configmaps", &by_fields("metadata.name=b")), "b");
    assert_eq!(check("configmaps", &by_fields("metadata.name=zz")), "");
    assert_eq!(check("configmaps", &by_fields("metadata.name!=b")), "a c d e");
    assert_eq!(check("configmaps", &by_fields("metadata.namespace=other")), "");
    let both = ListOptions { field_selector: "metadata.name=a".to_owned(), ..by_labels("app=db") };
    assert_eq!(check("configmaps", &both), "");
    assert_eq!(check("pods", &by_fields("status.phase=Pending,spec.nodeName=")), "p");
    assert_eq!(check("pods", &by_fields("status.phase=Running")), "");
    expect![[r#"400 BadRequest: "spec.nodeName" is not a known field selector: only "metadata.name", "metadata.namespace""#]].assert_eq(&refusal(world.list("configmaps", &by_fields("spec.nodeName=a"))));
    expect!["400 BadRequest: unable to parse requirement: found '', expected: ',', ')' or identifier"]
        .assert_eq(&refusal(world.list("configmaps", &by_labels("a in ("))));
}

#[tokio::test]
async fn pages_are_of_one_state_of_the_world() {
    let world = world().await;
    let first = world.list("configmaps", &pages(2, "")).unwrap();
    assert_eq!((names(&first.items).as_str(), first.remaining), ("a b", Some(3)));
    world.delete("configmaps", "d", &DeleteOptions::default()).await.unwrap();
    world.config_map("bb").await;
    let second = world.list("configmaps", &pages(2, &first.continue_token.unwrap())).unwrap();
    assert_eq!((names(&second.items).as_str(), second.remaining), ("c d", Some(1)));
    assert_eq!(second.revision, first.revision);
    let last = world.list("configmaps", &pages(2, &second.continue_token.unwrap())).unwrap();
    assert_eq!((names(&last.items).as_str(), last.remaining, last.continue_token), ("e", None, None));
    assert_eq!(names(&world.list("configmaps", &ListOptions::default()).unwrap().items), "a b bb c e");
}

#[tokio::test]
async fn pages_of_a_selection_do_not_count_the_rest() {
    let world = world().await;
    let options = ListOptions { limit: Some(2), ..by_labels("app=web") };
    let first = world.list("configmaps", &options).unwrap();
    assert_eq!((names(&first.items).as_str(), first.remaining), ("a c", None));
    let options = ListOptions { continue_token: first.continue_token.unwrap(), ..options };
    let last = world.list("configmaps", &options).unwrap();
    assert_eq!((names(&last.items).as_str(), last.continue_token), ("d", None));
}

#[tokio::test]
async fn a_page_of_a_forgotten_state_is_expired() {
    let world = World::with_ring(4).await;
    for name in ["a", "b", "c"] {
        world.config_map(name).await;
    }
    let token = world.list("configmaps", &pages(1, "")).unwrap().continue_token.unwrap();
    for name in ["d", "e", "f", "g", "h"] {
        world.config_map(name).await;
    }
    expect!["410 Expired: The provided continue parameter is too old to display a consistent list result. You must start a new list without the continue parameter."].assert_eq(&refusal(world.list("configmaps", &pages(1, &token))));
    expect!["400 BadRequest: continue key is not valid: expected value at line 1 column 1"]
        .assert_eq(&refusal(world.list("configmaps", &pages(1, "nonsense"))));
    expect!["410 Expired: The resourceVersion for the provided list is too old."]
        .assert_eq(&refusal(world.list("configmaps", &at("2", "Exact"))));
}

#[tokio::test]
async fn versions_say_which_state_is_meant() {
    let world = world().await;
    let check = |version: &str, how: &str| {
        let list = world.list("configmaps", &at(version, how))?;
        Ok(format!("{} @{}", names(&list.items), list.revision))
    };
    assert_eq!(check("", "").unwrap(), "a b c d e @7");
    assert_eq!(check("0", "").unwrap(), "a b c d e @7");
    assert_eq!(check("4", "").unwrap(), "a b c d e @7");
    assert_eq!(check("4", "NotOlderThan").unwrap(), "a b c d e @7");
    assert_eq!(check("4", "Exact").unwrap(), "a b @4");
    let limited = ListOptions { limit: Some(10), ..at("4", "") };
    assert_eq!(names(&world.list("configmaps", &limited).unwrap().items), "a b");
    expect!["504 Timeout: Timeout: Too large resource version: 99, current: 7"]
        .assert_eq(&refusal(check("99", "")));
    expect![[r#"400 BadRequest: resourceVersion: Invalid value: "x": strconv.ParseUint: parsing "x": invalid syntax"#]].assert_eq(&refusal(check("x", "")));
    expect![[r#"422 Invalid: ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"#]].assert_eq(&refusal(check("", "Exact")));
    expect![[r#"422 Invalid: ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0""#]].assert_eq(&refusal(check("0", "Exact")));
    expect![[r#"422 Invalid: ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Unsupported value: "Newer": supported values: "Exact", "NotOlderThan", """#]].assert_eq(&refusal(check("4", "Newer")));
    let token = world.list("configmaps", &pages(1, "")).unwrap().continue_token.unwrap();
    let both = ListOptions { resource_version: "4".to_owned(), ..pages(1, &token) };
    expect!["400 BadRequest: specifying resource version is not allowed when using continue"]
        .assert_eq(&refusal(world.list("configmaps", &both)));
}
