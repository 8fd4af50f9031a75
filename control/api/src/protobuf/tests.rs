//! Upstream's golden objects, and bodies that are none.

use super::*;
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::json;
use std::path::Path;

/// Golden objects: (file name, JSON, protobuf).
fn golden() -> Vec<(String, Value, Vec<u8>)> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let json = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            (name, json, std::fs::read(path.with_extension("pb")).unwrap())
        })
        .collect();
    all.sort_by(|left, right| left.0.cmp(&right.0));
    all
}

/// Where two values differ first: the objects are too long to be read side by side.
fn first_difference(left: &Value, right: &Value) -> Option<String> {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            let keys: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
            keys.into_iter().find_map(|key| {
                let null = Value::Null;
                let inside =
                    first_difference(left.get(key).unwrap_or(&null), right.get(key).unwrap_or(&null))?;
                Some(format!(".{key}{inside}"))
            })
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            left.iter().zip(right).enumerate().find_map(|(place, (left, right))| {
                Some(format!("[{place}]{}", first_difference(left, right)?))
            })
        }
        _ => (left != right).then(|| format!(": {left} != {right}")),
    }
}

#[test]
fn golden_objects_decode_to_their_json() {
    let golden = golden();
    let names: Vec<&str> = golden.iter().map(|(name, _, _)| name.as_str()).collect();
    expect!["apps.v1.Deployment apps.v1.ReplicaSet authentication.k8s.io.v1.SelfSubjectReview authentication.k8s.io.v1.TokenRequest authorization.k8s.io.v1.SelfSubjectAccessReview autoscaling.v1.Scale coordination.k8s.io.v1.Lease core.v1.Binding core.v1.ConfigMap core.v1.Endpoints core.v1.Event core.v1.Namespace core.v1.Node core.v1.Pod core.v1.Secret core.v1.Service core.v1.ServiceAccount discovery.k8s.io.v1.EndpointSlice events.k8s.io.v1.Event policy.v1.Eviction"].assert_eq(&names.join(" "));
    for (name, json, body) in golden {
        assert_eq!(first_difference(&decode(&body).unwrap(), &json), None, "{name}");
    }
}

#[test]
fn golden_objects_survive_the_way_back() {
    for (name, json, _) in golden() {
        let encoded = encode(&json).unwrap_or_else(|| panic!("{name} does not encode"));
        assert_eq!(first_difference(&decode(&encoded).unwrap(), &json), None, "{name}");
    }
}

#[test]
fn a_zero_that_was_sent_is_told_from_nothing() {
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"a": ""}},
                 "template": {"spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]}}}});
    let decoded = decode(&encode(&object).unwrap()).unwrap();
    assert_eq!(decoded["spec"]["replicas"], 0);
    assert_eq!(decoded["spec"]["selector"], object["spec"]["selector"]);
    assert_eq!(
        decoded["spec"]["template"]["spec"]["containers"],
        json!([{"name": "c", "image": "i", "ports": [{"containerPort": 80}], "resources": {}}])
    );
    assert_eq!(decoded["metadata"], json!({"name": "web"}));
}

fn check(body: &[u8], expect: Expect) {
    expect.assert_eq(&decode(body).unwrap_err().message);
}

#[test]
fn garbage_is_a_bad_request() {
    check(
        b"",
        expect!["provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"],
    );
    check(
        b"{}",
        expect!["provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"],
    );
    check(b"k8s\0", expect![[r#"no kind "" is registered for version "" in scheme"#]]);
    check(b"k8s\0\x0a\xff", expect!["unexpected EOF"]);
    check(
        b"k8s\0\x0a\x0a\x0a\x02v1\x12\x04Oops",
        expect![[r#"no kind "Oops" is registered for version "v1" in scheme"#]],
    );
    check(
        b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x02\x08\x01",
        expect!["proto: wrong wireType for field metadata"],
    );
}

#[test]
fn nesting_is_bounded() {
    // Only RawExtension and JSON could nest without end; the table's deepest chain is far below the limit.
    let mut raw = Writer::default();
    raw.bytes(1, &vec![b'['; 100_000]);
    let mut entry = Writer::default();
    entry.bytes(7, &raw.into_bytes());
    let mut meta = Writer::default();
    meta.bytes(17, &entry.into_bytes());
    let mut pod = Writer::default();
    pod.bytes(1, &meta.into_bytes());
    let mut type_meta = Writer::default();
    type_meta.bytes(1, b"v1");
    type_meta.bytes(2, b"Pod");
    let mut unknown = Writer::default();
    unknown.bytes(1, &type_meta.into_bytes());
    unknown.bytes(2, &pod.into_bytes());
    let mut body = MAGIC.to_vec();
    body.extend(unknown.into_bytes());
    check(&body, expect!["the protobuf envelope holds malformed JSON"]);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut body = b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod\x12".to_vec();
        body.push(u8::try_from(bytes.len().min(127)).unwrap());
        body.extend(bytes);
        let _ = decode(&body);
    }

    #[test]
    fn a_flipped_byte_never_makes_it_panic(at in 0_usize..600, with in any::<u8>()) {
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1"}}}], "nodeSelector": {"x": "y"}}});
        let mut body = encode(&object).unwrap();
        let at = at % body.len();
        body[at] = with;
        let _ = decode(&body);
    }
}
