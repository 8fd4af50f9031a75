//! The kinds that are always there, one file and one line each.
//!
//! A kind's file holds its row, and whatever is special about it as pure functions that the row's
//! [`Strategy`](crate::resource::Strategy) names. To add a kind: a file with a `ROW`, a line in `BUILT_IN`, and its
//! type in `schema/build.rs`.

mod config_map;
mod data;
mod deployment;
mod endpoint_slice;
mod endpoints;
mod event;
mod lease;
mod namespace;
mod node;
mod pod;
mod pod_admission;
mod pod_spec;
mod pod_template;
mod pod_warnings;
mod replica_set;
mod secret;
mod service;
mod service_account;
mod unserved;

use crate::resource::Resource;

/// Every kind, in the order of discovery.
pub(crate) static BUILT_IN: &[&Resource] = &[
    &namespace::ROW,
    &pod::ROW,
    &node::ROW,
    &config_map::ROW,
    &secret::ROW,
    &service::ROW,
    &endpoints::ROW,
    &endpoint_slice::ROW,
    &service_account::ROW,
    &event::ROW,
    &deployment::ROW,
    &replica_set::ROW,
    &lease::ROW,
];

#[cfg(test)]
mod tests {
    use crate::object::Key;
    use crate::resource::{Resources, Subresource};
    use crate::write::{self, WriteContext};
    use crate::{decode, defaults};
    use expect_test::expect;
    use serde_json::{Value, json};
    use std::collections::BTreeSet;

    fn context() -> WriteContext {
        WriteContext {
            now: "2026-01-02T03:04:05Z".parse().unwrap(),
            uid: "u-1".to_owned(),
            name_suffix: "abcde".to_owned(),
            namespace: Some("default".to_owned()),
            manager: "test".to_owned(),
        }
    }

    #[test]
    fn names_in_paths_are_unique_and_every_type_is_known() {
        let resources = Resources::built_in();
        let mut plurals = BTreeSet::new();
        for row in resources.iter() {
            assert!(plurals.insert((row.group.clone(), row.plural.clone())), "{}", row.plural);
            assert_eq!(row.singular, row.kind.to_lowercase());
            let definition = resources.schemas().get(&row.schema);
            assert!(
                definition.is_some_and(|definition| definition.fields.contains_key("metadata")),
                "{}",
                row.kind
            );
            let has_status = definition.is_some_and(|definition| definition.fields.contains_key("status"));
            assert_eq!(row.has(Subresource::Status), has_status, "{}", row.kind);
        }
        assert!(resources.by_plural("apps", "v1", "deployments").is_some());
        assert!(resources.by_kind("", "v1", "Pod").is_some());
        assert!(resources.by_plural("apps", "v1beta1", "deployments").is_none());
    }

    #[test]
    fn defaults_are_idempotent_and_nothing_fails_on_an_empty_object() {
        let resources = Resources::built_in();
        for row in resources.iter() {
            for mut object in [
                json!({}),
                json!({ "spec": { "template": { "spec": { "containers": [{}], "volumes": [{}] } } } }),
            ] {
                defaults::apply(&resources, row, &mut object);
                let once = object.clone();
                defaults::apply(&resources, row, &mut object);
                assert_eq!(once, object, "{}", row.kind);
                (row.strategy.validate)(&object);
                (row.strategy.warnings)(&object);
                (row.strategy.validate_update)(&object, &json!({}));
                (row.strategy.prepare_update)(&mut object, &json!({}));
                for column in row.columns {
                    (column.cell)(&json!({}), context().now);
                }
            }
        }
    }

    /// Of the other objects there are all accounts, and nothing else.
    fn accounts(key: &Key) -> Option<Value> {
        (key.resource.plural == "serviceaccounts").then(|| json!({}))
    }

    fn created(plural: &str, body: &str) -> Value {
        let resources = Resources::built_in();
        let row = resources.iter().find(|row| row.plural == plural).unwrap();
        let strict = decode::FieldValidation::Strict;
        let decoded = decode::decode(&resources, row, "application/json", body.as_bytes(), strict).unwrap();
        let mut object =
            write::prepare_create(&resources, row, decoded.object, &context(), &accounts).unwrap().object;
        object["metadata"].as_object_mut().unwrap().remove("managedFields");
        object
    }

    #[test]
    fn a_pod_gets_upstreams_defaults() {
        let pod = created(
            "pods",
            r#"{"metadata":{"generateName":"web-"},"spec":{"containers":[{"name":"web","image":"web","ports":[{"containerPort":80}],
                "resources":{"limits":{"cpu":"1"}},"livenessProbe":{"httpGet":{"port":80}},
                "env":[{"name":"A","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}}]}],
                "volumes":[{"name":"e"},{"name":"c","configMap":{"name":"c"}}]}}"#,
        );
        expect![[r#"
            {
              "apiVersion": "v1",
              "kind": "Pod",
              "metadata": {
                "creationTimestamp": "2026-01-02T03:04:05Z",
                "generateName": "web-",
                "generation": 1,
                "name": "web-abcde",
                "namespace": "default",
                "uid": "u-1"
              },
              "spec": {
                "containers": [
                  {
                    "env": [
                      {
                        "name": "A",
                        "valueFrom": {
                          "fieldRef": {
                            "apiVersion": "v1",
                            "fieldPath": "metadata.name"
                          }
                        }
                      }
                    ],
                    "image": "web",
                    "imagePullPolicy": "Always",
                    "livenessProbe": {
                      "failureThreshold": 3,
                      "httpGet": {
                        "path": "/",
                        "port": 80,
                        "scheme": "HTTP"
                      },
                      "periodSeconds": 10,
                      "successThreshold": 1,
                      "timeoutSeconds": 1
                    },
                    "name": "web",
                    "ports": [
                      {
                        "containerPort": 80,
                        "protocol": "TCP"
                      }
                    ],
                    "resources": {
                      "limits": {
                        "cpu": "1"
                      },
                      "requests": {
                        "cpu": "1"
                      }
                    },
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File"
                  }
                ],
                "dnsPolicy": "ClusterFirst",
                "enableServiceLinks": true,
                "preemptionPolicy": "PreemptLowerPriority",
                "priority": 0,
                "restartPolicy": "Always",
                "schedulerName": "default-scheduler",
                "securityContext": {},
                "serviceAccount": "default",
                "serviceAccountName": "default",
                "terminationGracePeriodSeconds": 30,
                "tolerations": [
                  {
                    "effect": "NoExecute",
                    "key": "node.kubernetes.io/not-ready",
                    "operator": "Exists",
                    "tolerationSeconds": 300
                  },
                  {
                    "effect": "NoExecute",
                    "key": "node.kubernetes.io/unreachable",
                    "operator": "Exists",
                    "tolerationSeconds": 300
                  }
                ],
                "volumes": [
                  {
                    "emptyDir": {},
                    "name": "e"
                  },
                  {
                    "configMap": {
                      "defaultMode": 420,
                      "name": "c"
                    },
                    "name": "c"
                  }
                ]
              },
              "status": {
                "phase": "Pending",
                "qosClass": "Burstable"
              }
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&pod).unwrap());
    }

    #[test]
    fn a_deployment_gets_upstreams_defaults() {
        let deployment = created(
            "deployments",
            r#"{"metadata":{"name":"web"},"spec":{"selector":{"matchLabels":{"app":"web"}},
                "template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"web","image":"web:1"}]}}}}"#,
        );
        expect![[r#"{"progressDeadlineSeconds":600,"replicas":1,"revisionHistoryLimit":10,"selector":{"matchLabels":{"app":"web"}},"strategy":{"rollingUpdate":{"maxSurge":"25%","maxUnavailable":"25%"},"type":"RollingUpdate"},"template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"image":"web:1","imagePullPolicy":"IfNotPresent","name":"web","resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30}}}"#]]
            .assert_eq(&deployment["spec"].to_string());
    }

    #[test]
    fn namespaces_and_secrets_get_theirs() {
        let namespace = created("namespaces", r#"{"metadata":{"name":"a"}}"#);
        expect![[r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"creationTimestamp":"2026-01-02T03:04:05Z","labels":{"kubernetes.io/metadata.name":"a"},"name":"a","uid":"u-1"},"spec":{"finalizers":["kubernetes"]},"status":{"phase":"Active"}}"#]]
            .assert_eq(&namespace.to_string());
        let secret =
            created("secrets", r#"{"metadata":{"name":"a"},"data":{"a":"YQ=="},"stringData":{"b":"b"}}"#);
        expect![[r#"{"a":"YQ==","b":"Yg=="} "Opaque" null"#]]
            .assert_eq(&format!("{} {} {}", secret["data"], secret["type"], secret["stringData"]));
    }

    fn refused(plural: &str, body: &str, expect: expect_test::Expect) {
        let resources = Resources::built_in();
        let row = resources.iter().find(|row| row.plural == plural).unwrap();
        let strict = decode::FieldValidation::Strict;
        let decoded = decode::decode(&resources, row, "application/json", body.as_bytes(), strict).unwrap();
        let error =
            write::prepare_create(&resources, row, decoded.object, &context(), &accounts).unwrap_err();
        expect.assert_eq(&error.message);
    }

    #[test]
    fn faults_are_told_in_upstreams_words() {
        refused(
            "deployments",
            r#"{"metadata":{"name":"web"},"spec":{"selector":{"matchLabels":{"app":"web"}},
                "template":{"metadata":{"labels":{"app":"other"}},"spec":{"containers":[{"name":"web","image":"web:1"}]}}}}"#,
            expect![[
                r#"Deployment.apps "web" is invalid: spec.template.metadata.labels: Invalid value: {"app":"other"}: `selector` does not match template `labels`"#
            ]],
        );
        refused(
            "configmaps",
            r#"{"metadata":{"name":"Bad_Name"},"data":{"a/b":""}}"#,
            expect![[
                r#"ConfigMap "Bad_Name" is invalid: [metadata.name: Invalid value: "Bad_Name": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*'), data[a/b]: Invalid value: "a/b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')]"#
            ]],
        );
        refused(
            "pods",
            r#"{"metadata":{"name":"a","labels":{"a b":"-"}},"spec":{"containers":[]}}"#,
            expect![[
                r#"Pod "a" is invalid: [metadata.labels: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]'), metadata.labels: Invalid value: "-": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?'), spec.containers: Required value]"#
            ]],
        );
        refused(
            "secrets",
            r#"{"metadata":{},"type":"kubernetes.io/tls"}"#,
            expect![[
                r#"Secret "" is invalid: [metadata.name: Required value: name or generateName is required, data[tls.crt]: Required value, data[tls.key]: Required value]"#
            ]],
        );
    }
}
