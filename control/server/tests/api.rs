//! The API through its own front door: real TLS on a free port, a store in memory, an ordinary HTTP client.

mod common;

use bytes::Bytes;
use common::{Api, config_map, http2};
use expect_test::{Expect, expect};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const WAIT: Duration = Duration::from_secs(20);

/// One request a line: method, path, and after `<` a body; the answers' codes and messages.
async fn check(api: &Api, requests: &str, expect: Expect) {
    let mut text = String::new();
    for line in requests.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (request, body) = line.split_once('<').unwrap_or((line, ""));
        let (method, path) = request.trim().split_once(' ').expect("a method and a path");
        let (code, answer) = api.send(method, path.trim(), body.trim()).await;
        let told = answer["message"].as_str().or_else(|| answer["status"].as_str()).unwrap_or_default();
        text += &format!("{code} {told}\n");
    }
    expect.assert_eq(&text);
}

#[tokio::test]
async fn only_those_with_a_certificate_of_ours_are_let_in() {
    let api = Api::start().await;
    let other = Api::start().await;
    let nobody = api.client(None);
    let stranger = api.client(Some(&other.pki));
    for client in [nobody, stranger] {
        let refused = client.get(api.url("/api/v1/pods")).send().await.unwrap();
        assert_eq!(refused.status(), 401);
        let status: Value = refused.json().await.unwrap();
        assert_eq!((&status["reason"], &status["message"]), (&json!("Unauthorized"), &json!("Unauthorized")));
        assert_eq!(client.get(api.url("/readyz")).send().await.unwrap().text().await.unwrap(), "ok");
        let version: Value = client.get(api.url("/version")).send().await.unwrap().json().await.unwrap();
        assert_eq!(version["minor"], "36");
    }
    api.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn an_object_lives_its_life() {
    let api = Api::start().await;
    let (code, created) = api.send("POST", MAPS, &config_map("a", "1")).await;
    assert_eq!((code, &created["data"]["k"]), (201, &json!("1")));
    let (code, got) = api.send("GET", &format!("{MAPS}/a"), "").await;
    assert_eq!((code, &got), (200, &created));
    let mut stale = created.clone();
    stale["data"]["k"] = json!("2");
    let (code, updated) = api.send("PUT", &format!("{MAPS}/a"), &stale.to_string()).await;
    assert_eq!((code, &updated["data"]["k"]), (200, &json!("2")));
    check(
        &api,
        &format!(
            "PUT {MAPS}/a < {stale}
             POST {MAPS} < {}
             GET {MAPS}/b
             DELETE {MAPS}/a
             DELETE {MAPS}/a",
            config_map("a", "1")
        ),
        expect![[r#"
            409 Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again
            409 configmaps "a" already exists
            404 configmaps "b" not found
            200 Success
            404 configmaps "a" not found
        "#]],
    )
    .await;
    api.stop().await;
}

#[tokio::test]
async fn a_put_that_creates_says_so() {
    let api = Api::start().await;
    let endpoints = json!({"metadata": {"name": "a"}}).to_string();
    for expect in [201, 200] {
        let path = "/api/v1/namespaces/default/endpoints/a";
        assert_eq!(api.send("PUT", path, &endpoints).await.0, expect);
    }
    api.stop().await;
}

#[tokio::test]
async fn a_delete_answers_with_the_object_where_its_kind_says_so() {
    let api = Api::start().await;
    for (kind, plural) in [("ServiceAccount", "serviceaccounts"), ("Status", "configmaps")] {
        let path = format!("/api/v1/namespaces/default/{plural}");
        let object = json!({"metadata": {"name": "a"}}).to_string();
        assert_eq!(api.send("POST", &path, &object).await.0, 201);
        let (code, answer) = api.send("DELETE", &format!("{path}/a"), "").await;
        assert_eq!((code, &answer["kind"]), (200, &json!(kind)));
    }
    api.stop().await;
}

#[tokio::test]
async fn bad_requests_are_told_in_upstreams_words() {
    let api = Api::start().await;
    check(
        &api,
        &format!(
            "GET {MAPS}?limit=abc
             GET {MAPS}?resourceVersion=x
             GET {MAPS}?fieldSelector=spec.x%3Dy
             GET {MAPS}?watch=1&timeoutSeconds=x
             POST {MAPS}?fieldValidation=Foo < {{}}
             POST {MAPS}?dryRun=Foo < {{}}
             POST {MAPS}?fieldValidation=Strict < {{\"metadata\":{{\"name\":\"a\"}},\"nonsense\":1}}
             POST /api/v1/configmaps < {{}}
             GET /apis/nothing/v1/things
             GET /api/v1/namespaces/default/pods/a/portforward
             POST /version"
        ),
        expect![[r#"
            400 strconv.ParseInt: parsing "abc": invalid syntax
            400 resourceVersion: Invalid value: "x": strconv.ParseUint: parsing "x": invalid syntax
            400 "spec.x" is not a known field selector: only "metadata.name", "metadata.namespace"
            400 strconv.ParseInt: parsing "x": invalid syntax
            422 CreateOptions.meta.k8s.io "" is invalid: fieldValidation: Unsupported value: "Foo": supported values: "", "Ignore", "Strict", "Warn"
            422 CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: ["Foo"]: supported values: "All"
            400 ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "nonsense"
            405 the server does not allow this method on the requested resource
            404 the server could not find the requested resource
            404 the server could not find the requested resource
            405 the server does not allow this method on the requested resource
        "#]],
    )
    .await;
    let big = "x".repeat(4 << 20);
    check(
        &api,
        &format!("POST {MAPS} < {big}"),
        expect![[r#"
        413 Request entity too large: limit is 3145728
    "#]],
    )
    .await;
    let refused = api.get(MAPS).header("accept", "application/vnd.kubernetes.protobuf").send().await.unwrap();
    assert_eq!(refused.status(), 406);
    let refused = api.get(MAPS).header("impersonate-user", "jane").send().await.unwrap();
    assert_eq!(refused.status(), 403);
    let refused = api.request("DELETE", "/version").send().await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["allow"]), (405, &"GET".parse().unwrap()));
    api.stop().await;
}

#[tokio::test]
async fn unknown_fields_are_warned_of() {
    let api = Api::start().await;
    let body = r#"{"metadata":{"name":"a"},"nonsense":1}"#;
    let response =
        api.request("POST", MAPS).body(body).header("content-type", "application/json").send().await.unwrap();
    assert_eq!(response.headers()["warning"], r#"299 - "unknown field \"nonsense\"""#);
    assert_eq!(response.status(), 201);
    api.stop().await;
}

#[tokio::test]
async fn a_watch_tells_changes_and_ends_when_the_server_does() {
    let api = Api::start().await;
    let mut lines = api.lines(&format!("{MAPS}?watch=true&resourceVersion=0"), "application/json").await;
    api.send("POST", MAPS, &config_map("a", "1")).await;
    api.send("PUT", &format!("{MAPS}/a"), &config_map("a", "2")).await;
    api.send("DELETE", &format!("{MAPS}/a"), "").await;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let event = lines.next().await.unwrap();
        seen.push(format!("{} {}", event["type"].as_str().unwrap(), event["object"]["data"]["k"]));
    }
    assert_eq!(seen, [r#"ADDED "1""#, r#"MODIFIED "2""#, r#"DELETED "2""#]);
    timeout(Duration::from_secs(3), api.stop()).await.expect("open watches do not hold the server up");
    assert_eq!(lines.next().await, None);
}

#[tokio::test]
async fn a_watch_of_a_table_has_its_head_once() {
    let api = Api::start().await;
    for name in ["a", "b"] {
        api.send("POST", MAPS, &config_map(name, "1")).await;
    }
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let mut lines = api.lines(&format!("{MAPS}?watch=true"), accept).await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let event = lines.next().await.unwrap();
        let columns = event["object"]["columnDefinitions"].as_array().map_or(0, Vec::len);
        seen.push(format!(
            "{} {columns} {}",
            event["object"]["kind"], event["object"]["rows"][0]["cells"][0]
        ));
    }
    assert_eq!(seen, [r#""Table" 3 "a""#, r#""Table" 0 "b""#]);
    api.stop().await;
}

#[tokio::test]
async fn a_watch_of_a_passed_revision_ends_with_410() {
    let api = Api::start_with(|options| options.small_ring()).await;
    for nth in 0..40 {
        api.send("POST", MAPS, &config_map(&format!("m{nth}"), "1")).await;
    }
    let (code, status) = api.send("GET", &format!("{MAPS}?watch=true&resourceVersion=1"), "").await;
    // Either answer is the protocol's: a refusal, or an ERROR as the first event.
    let code = status["object"]["code"].as_u64().unwrap_or(code.into());
    assert_eq!(code, 410, "{status}");
    api.stop().await;
}

#[tokio::test]
async fn a_peer_that_says_nothing_does_not_hold_up_the_end() {
    let api = Api::start().await;
    let address = api.url("").trim_start_matches("https://").to_owned();
    let _silent = TcpStream::connect(address).await.unwrap();
    // Connections are accepted in order, so the silent one is in by now.
    check(
        &api,
        &format!("GET {MAPS}/a"),
        expect![[r#"
        404 configmaps "a" not found
    "#]],
    )
    .await;
    timeout(Duration::from_secs(3), api.stop()).await.expect("the end comes before the grace is over");
}

#[tokio::test]
async fn a_connection_rests_only_so_long_and_one_with_a_watch_stays() {
    let api = Api::start_with(|options| options.idle(Duration::from_millis(200))).await;
    let mut lines = api.lines(&format!("{MAPS}?watch=true&resourceVersion=0"), "application/json").await;
    let (mut sender, connection) = http2(&api).await;
    let talk = async {
        let request = http::Request::get(api.url("/readyz")).body(Full::<Bytes>::default()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ok");
        // Kept: this client answers PINGs for as long as it is asked.
        sender
    };
    let (_sender, _ended) = timeout(WAIT, async { tokio::join!(talk, connection) })
        .await
        .expect("the server ends the connection");
    api.send("POST", MAPS, &config_map("a", "1")).await;
    assert_eq!(lines.next().await.unwrap()["type"], "ADDED");
    api.stop().await;
}

#[tokio::test]
async fn too_many_requests_at_once_are_told_to_come_back() {
    let api = Api::start_with(|options| options.readers(0)).await;
    let refused = api.get(MAPS).send().await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"1".parse().unwrap()));
    api.stop().await;
}

#[tokio::test]
async fn documents_are_sent_once() {
    let api = Api::start().await;
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let first = api.get("/apis").header("accept", accept).send().await.unwrap();
    assert_eq!(first.headers()["content-type"], accept);
    let etag = first.headers()["etag"].clone();
    let again = api.get("/apis").header("accept", accept).header("if-none-match", etag).send().await.unwrap();
    assert_eq!(again.status(), 304);
    let legacy: Value = api.get("/apis").send().await.unwrap().json().await.unwrap();
    assert_eq!(legacy["kind"], "APIGroupList");
    api.stop().await;
}

#[tokio::test]
async fn logs_are_streamed_and_a_panic_is_one_requests_500() {
    let api = Api::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({
        "metadata": { "name": "p" },
        "spec": { "nodeName": "n", "containers": [{ "name": "c", "image": "i" }, { "name": "panics", "image": "i" }] },
    });
    let account = r#"{"metadata":{"name":"default"}}"#;
    let (code, answer) = api.send("POST", "/api/v1/namespaces/default/serviceaccounts", account).await;
    assert_eq!(code, 201, "{answer}");
    let (code, answer) = api.send("POST", pods, &pod.to_string()).await;
    assert_eq!(code, 201, "{answer}");
    let running = |name: &str| json!({ "name": name, "image": "i", "imageID": "", "ready": true, "restartCount": 0, "state": { "running": {} } });
    let status = json!({ "status": { "containerStatuses": [running("c"), running("panics")] } });
    let patched = api
        .request("PATCH", &format!("{pods}/p/status"))
        .header("content-type", "application/merge-patch+json");
    assert_eq!(patched.body(status.to_string()).send().await.unwrap().status(), 200);
    let log = api.get(&format!("{pods}/p/log?container=c&tailLines=3")).send().await.unwrap();
    assert_eq!(log.headers()["content-type"], "text/plain");
    assert_eq!(log.text().await.unwrap(), "tail Some(3)\n");
    check(
        &api,
        &format!(
            "GET {pods}/p/log
             GET {pods}/p/log?container=panics
             GET {pods}/p/log?container=x"
        ),
        expect![[r#"
            400 a container name must be specified for pod p, choose one of: [c panics]
            500 Internal error occurred: this request caused the server to panic; its log has the details
            400 container x is not valid for pod p
        "#]],
    )
    .await;
    let mut followed = api.get(&format!("{pods}/p/log?container=c&follow=true")).send().await.unwrap();
    assert!(followed.chunk().await.unwrap().is_some());
    timeout(WAIT, api.stop()).await.expect("a followed log does not hold the server up");
}

#[tokio::test]
async fn an_answer_is_yaml_for_who_prefers_it() {
    let api = Api::start().await;
    let check = async |path: &str, accept: &str, expect: Expect| {
        let answer = api.get(path).header("accept", accept).send().await.unwrap();
        let (code, content_type) = (answer.status().as_u16(), answer.headers()["content-type"].clone());
        let text = answer.text().await.unwrap();
        let start: String = text.replace('\n', "|").chars().take(40).collect();
        expect.assert_eq(&format!("{code} {} {start}", content_type.to_str().unwrap()));
    };
    let yaml = "application/yaml";
    check(
        "/api/v1/namespaces/default",
        yaml,
        expect!["200 application/yaml apiVersion: v1|kind: Namespace|metadata:"],
    )
    .await;
    check(
        "/api/v1/namespaces",
        yaml,
        expect!["200 application/yaml apiVersion: v1|items:|- apiVersion: v1| "],
    )
    .await;
    check(
        "/api/v1/namespaces/none",
        yaml,
        expect!["404 application/yaml apiVersion: v1|code: 404|details:|  kind"],
    )
    .await;
    check("/api/v1", yaml, expect!["200 application/yaml groupVersion: v1|kind: APIResourceList|r"]).await;
    check("/apis", yaml, expect!["200 application/yaml apiVersion: v1|groups:|- name: discovery"]).await;
    check(
        "/api/v1/namespaces?watch=true",
        yaml,
        expect!["406 application/yaml apiVersion: v1|code: 406|kind: Status|me"],
    )
    .await;
    check("/openapi/v3", yaml, expect!["406 application/yaml apiVersion: v1|code: 406|kind: Status|me"])
        .await;
    check("/version", yaml, expect![[r#"200 application/json {"buildDate":"","compiler":"rustc","gitC"#]])
        .await;
    check(
        "/api/v1/namespaces",
        "application/vnd.kubernetes.protobuf",
        expect![[r#"406 application/json {"apiVersion":"v1","code":406,"kind":"St"#]],
    )
    .await;
    api.stop().await;
}

#[tokio::test]
async fn large_answers_are_compressed_for_those_who_read_gzip() {
    let api = Api::start().await;
    for (path, is_large) in [("/openapi/v2", true), ("/api/v1/namespaces", false)] {
        let plain = api.get(path).send().await.unwrap();
        assert!(!plain.headers().contains_key("content-encoding"), "{path}");
        let zipped = api.get(path).header("accept-encoding", "gzip").send().await.unwrap();
        assert_eq!(zipped.headers().contains_key("content-encoding"), is_large, "{path}");
        let (plain, zipped) = (plain.bytes().await.unwrap(), zipped.bytes().await.unwrap());
        assert_eq!(zipped.starts_with(&[0x1f, 0x8b]), is_large, "{path}");
        assert_eq!(zipped.len() < plain.len(), is_large, "{path}");
    }
    api.stop().await;
}
