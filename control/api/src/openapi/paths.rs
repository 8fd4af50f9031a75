//! Paths: what can be asked of each kind, with which parameters and bodies.

use super::schemas::{PATCH, kind_schema, list_schema};
use super::{Dialect, root_path};
use crate::discovery::{response_kind, verbs};
use crate::resource::{Resource, Subresource};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const PATCH_TYPES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// A query parameter: name, type, meaning.
type Parameter = (&'static str, &'static str, &'static str);

const PRETTY: Parameter = ("pretty", "string", "If 'true', then the output is pretty printed.");
const DRY_RUN: Parameter = (
    "dryRun",
    "string",
    "When present, indicates that modifications should not be persisted. An invalid or unrecognized dryRun directive \
     will result in an error response and no further processing of the request. Valid values are: - All: all dry run \
     stages will be processed",
);
const FIELD_MANAGER: Parameter = (
    "fieldManager",
    "string",
    "fieldManager is a name associated with the actor or entity that is making these changes. The value must be less \
     than or 128 characters long, and only contain printable characters.",
);
const FIELD_VALIDATION: Parameter = (
    "fieldValidation",
    "string",
    "fieldValidation instructs the server on how to handle objects in the request containing unknown or duplicate \
     fields. Valid values are: - Ignore, - Warn, - Strict",
);
const FORCE: Parameter = (
    "force",
    "boolean",
    "Force is going to \"force\" Apply requests. It means user will re-acquire conflicting fields owned by other \
     people. Force flag must be unset for non-apply patch requests.",
);
const WRITE: &[Parameter] = &[PRETTY, DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
const PATCHING: &[Parameter] = &[PRETTY, DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, FORCE];
const LISTING: &[Parameter] = &[
    PRETTY,
    ("allowWatchBookmarks", "boolean", "allowWatchBookmarks requests watch events with type \"BOOKMARK\"."),
    ("continue", "string", "The continue option should be set when retrieving more results from the server."),
    (
        "fieldSelector",
        "string",
        "A selector to restrict the list of returned objects by their fields. Defaults to everything.",
    ),
    (
        "labelSelector",
        "string",
        "A selector to restrict the list of returned objects by their labels. Defaults to everything.",
    ),
    ("limit", "integer", "limit is a maximum number of responses to return for a list call."),
    (
        "resourceVersion",
        "string",
        "resourceVersion sets a constraint on what resource versions a request may be served from.",
    ),
    (
        "resourceVersionMatch",
        "string",
        "resourceVersionMatch determines how resourceVersion is applied to list calls.",
    ),
    (
        "sendInitialEvents",
        "boolean",
        "`sendInitialEvents=true` may be set together with `watch=true`: the stream begins with synthetic events that produce the current state.",
    ),
    ("timeoutSeconds", "integer", "Timeout for the list/watch call."),
    (
        "watch",
        "boolean",
        "Watch for changes to the described resources and return them as a stream of add, update, and remove notifications.",
    ),
];
const DELETING: &[Parameter] = &[
    PRETTY,
    DRY_RUN,
    ("gracePeriodSeconds", "integer", "The duration in seconds before the object should be deleted."),
    ("propagationPolicy", "string", "Whether and how garbage collection will be performed."),
];
const LOGS: &[Parameter] = &[
    (
        "container",
        "string",
        "The container for which to stream logs. Defaults to only container if there is one container in the pod.",
    ),
    ("follow", "boolean", "Follow the log stream of the pod. Defaults to false."),
    (
        "limitBytes",
        "integer",
        "If set, the number of bytes to read from the server before terminating the log output.",
    ),
    PRETTY,
    ("previous", "boolean", "Return previous terminated container logs. Defaults to false."),
    (
        "sinceSeconds",
        "integer",
        "A relative time in seconds before the current time from which to show logs.",
    ),
    ("tailLines", "integer", "If set, the number of lines from the end of the logs to show."),
    (
        "timestamps",
        "boolean",
        "If true, add an RFC3339 timestamp at the beginning of every line of log output.",
    ),
];

/// Adds every path of a kind, and the names of the schemas that they speak of.
pub(super) fn add(
    paths: &mut Map<String, Value>,
    wanted: &mut BTreeSet<String>,
    resource: &Resource,
    dialect: Dialect,
) {
    let root = root_path(&resource.group, &resource.version);
    let plural = &resource.plural;
    let base = if resource.is_namespaced() {
        format!("/{root}/namespaces/{{namespace}}/{plural}")
    } else {
        format!("/{root}/{plural}")
    };
    let mut operations = Operations { resource, dialect, wanted };
    let list = list_schema(resource);
    let object = resource.schema.to_string();
    let own = (resource.group.as_ref(), resource.version.as_ref(), resource.kind.as_ref());

    let get = operations.make("list", own, LISTING, None, &list);
    let post = operations.make("post", own, WRITE, Some(&object), &object);
    if resource.is_namespaced() {
        let everywhere = json!({"get": operations.make("list", own, LISTING, None, &list)});
        paths.insert(format!("/{root}/{plural}"), everywhere);
    }
    let mut collection = json!({"get": get, "post": post});
    if resource.strategy.delete_collection {
        collection["delete"] =
            operations.make("deletecollection", own, LISTING, Some(DELETE_OPTIONS), STATUS);
    }
    paths.insert(base.clone(), operations.with_path_parameters(collection, false));

    let item = json!({
        "get": operations.make("get", own, &[PRETTY], None, &object),
        "put": operations.make("put", own, WRITE, Some(&object), &object),
        "patch": operations.make("patch", own, PATCHING, Some(PATCH), &object),
        "delete": operations.make("delete", own, DELETING, Some(DELETE_OPTIONS), STATUS),
    });
    paths.insert(format!("{base}/{{name}}"), operations.with_path_parameters(item, true));

    for subresource in resource.subresources {
        let item = operations.subresource(*subresource);
        let path = format!("{base}/{{name}}/{}", subresource.as_str());
        paths.insert(path, operations.with_path_parameters(item, true));
    }
}

/// Makes the operations of one kind.
#[derive(Debug)]
struct Operations<'a> {
    resource: &'a Resource,
    dialect: Dialect,
    wanted: &'a mut BTreeSet<String>,
}

impl Operations<'_> {
    fn subresource(&mut self, subresource: Subresource) -> Value {
        let resource = self.resource;
        let gvk = response_kind(resource, subresource);
        let schema = kind_schema(resource, gvk);
        let mut item = Map::new();
        for verb in verbs(subresource) {
            let (method, operation) = match *verb {
                "get" if subresource == Subresource::Log => ("get", self.log(gvk)),
                "get" => ("get", self.make("get", gvk, &[PRETTY], None, &schema)),
                "update" => ("put", self.make("put", gvk, WRITE, Some(&schema), &schema)),
                "patch" => ("patch", self.make("patch", gvk, PATCHING, Some(PATCH), &schema)),
                _ => ("post", self.make("post", gvk, WRITE, Some(&schema), &schema)),
            };
            item.insert(method.to_owned(), operation);
        }
        item.into()
    }

    /// One operation: its action and kind, its query parameters, the schemas of its body and of its answer.
    fn make(
        &mut self,
        action: &str,
        (group, version, kind): (&str, &str, &str),
        parameters: &[Parameter],
        body: Option<&str>,
        answer: &str,
    ) -> Value {
        self.wanted.extend(body.map(str::to_owned));
        self.wanted.insert(answer.to_owned());
        let mut all: Vec<Value> = parameters.iter().map(|parameter| self.query(*parameter)).collect();
        let mut operation = json!({
            "description": format!("{action} {kind}"),
            "tags": [tag(self.resource)],
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
        });
        let answer = self.dialect.reference(answer);
        let consumed: &[&str] = if action == "patch" { PATCH_TYPES } else { &[JSON, YAML, PROTOBUF] };
        match self.dialect {
            Dialect::V2 => {
                if let Some(body) = body {
                    let schema = self.dialect.reference(body);
                    all.push(json!({"name": "body", "in": "body", "required": action != "delete" && action != "deletecollection", "schema": schema}));
                    operation["consumes"] = json!(consumed);
                }
                operation["produces"] = json!([JSON, YAML]);
                operation["schemes"] = json!(["https"]);
                operation["responses"] = json!({"200": {"description": "OK", "schema": answer}, "401": {"description": "Unauthorized"}});
            }
            Dialect::V3 => {
                if let Some(body) = body {
                    let schema = self.dialect.reference(body);
                    let content: Map<String, Value> = consumed
                        .iter()
                        .map(|media_type| ((*media_type).to_owned(), json!({"schema": schema})))
                        .collect();
                    operation["requestBody"] = json!({"content": content});
                }
                let content = json!({JSON: {"schema": answer}, YAML: {"schema": answer}});
                operation["responses"] = json!({"200": {"description": "OK", "content": content}, "401": {"description": "Unauthorized"}});
            }
        }
        operation["parameters"] = all.into();
        operation
    }

    /// Logs are plain text.
    fn log(&mut self, gvk: (&str, &str, &str)) -> Value {
        let mut operation = self.make("get", gvk, LOGS, None, STATUS);
        let text = json!({"type": "string"});
        operation["responses"]["200"] = match self.dialect {
            Dialect::V2 => json!({"description": "OK", "schema": text}),
            Dialect::V3 => json!({"description": "OK", "content": {"text/plain": {"schema": text}}}),
        };
        operation
    }

    fn query(&self, (name, kind, description): Parameter) -> Value {
        match self.dialect {
            Dialect::V2 => {
                json!({"name": name, "in": "query", "description": description, "type": kind, "uniqueItems": true})
            }
            Dialect::V3 => {
                let schema = json!({"type": kind, "uniqueItems": true});
                json!({"name": name, "in": "query", "description": description, "schema": schema})
            }
        }
    }

    /// The parameters that stand in the path itself.
    fn with_path_parameters(&self, mut item: Value, named: bool) -> Value {
        let in_path = |name: &str, description: String| match self.dialect {
            Dialect::V2 => {
                json!({"name": name, "in": "path", "required": true, "description": description, "type": "string", "uniqueItems": true})
            }
            Dialect::V3 => {
                let schema = json!({"type": "string", "uniqueItems": true});
                json!({"name": name, "in": "path", "required": true, "description": description, "schema": schema})
            }
        };
        let mut parameters = Vec::new();
        if named {
            parameters.push(in_path("name", format!("name of the {}", self.resource.kind)));
        }
        if self.resource.is_namespaced() {
            let what = "object name and auth scope, such as for teams and projects";
            parameters.push(in_path("namespace", what.to_owned()));
        }
        if !parameters.is_empty() {
            item["parameters"] = parameters.into();
        }
        item
    }
}

fn tag(resource: &Resource) -> String {
    let group =
        if resource.group.is_empty() { "core" } else { resource.group.split('.').next().unwrap_or("") };
    format!("{group}_{}", resource.version)
}
