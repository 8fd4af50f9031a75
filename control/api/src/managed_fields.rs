//! `metadata.managedFields`: who set which field last.
//!
//! Every write compares the new state with the old one along the type, and gives what was added or changed to the
//! writer; what was removed belongs to nobody any more. An entry's time changes only when its fields do.

mod compare;
mod set;

pub use set::FieldSet;

use crate::object;
use crate::resource::{Resource, Resources, Subresource};
use compare::Comparison;
use serde_json::{Map, Value};

/// Most managers that write with `Update`; the oldest are folded into one beyond that.
const MOST_UPDATERS: usize = 10;
const ANCIENT: &str = "ancient-changes";

/// One element of `managedFields`, read.
struct Entry {
    manager: String,
    operation: String,
    api_version: String,
    subresource: String,
    time: String,
    fields: FieldSet,
}

/// Writes into `new` who manages what after this write by `manager`.
pub fn record(
    resources: &Resources,
    resource: &Resource,
    subresource: Option<Subresource>,
    new: &mut Value,
    old: Option<&Value>,
    (manager, now): (&str, jiff::Timestamp),
) {
    let mut entries = entries_of(new);
    if entries.is_empty() && object::at(new, &["metadata", "managedFields"]).is_none() {
        entries = old.map(entries_of).unwrap_or_default();
    }
    let skip_status = resource.has(Subresource::Status) && subresource != Some(Subresource::Status);
    let Comparison { set, removed } =
        compare::compare(resources.schemas(), &resource.schema, old, new, skip_status);
    let subresource = subresource.map_or("", Subresource::as_str);
    let api_version = resource.api_version();
    let is_writer = |entry: &Entry| {
        entry.operation == "Update"
            && entry.manager == manager
            && entry.subresource == subresource
            && entry.api_version == api_version
    };
    for entry in &mut entries {
        entry.fields.subtract(&removed);
        if !is_writer(entry) {
            entry.fields.subtract(&set);
        }
    }
    if !set.is_empty() {
        let time = object::time(now).as_str().unwrap_or("").to_owned();
        match entries.iter_mut().find(|entry| is_writer(entry)) {
            Some(entry) => {
                entry.fields.unite(&set);
                entry.time = time;
            }
            None => entries.push(Entry {
                manager: manager.to_owned(),
                operation: "Update".to_owned(),
                api_version,
                subresource: subresource.to_owned(),
                time,
                fields: set,
            }),
        }
    }
    entries.retain(|entry| !entry.fields.is_empty());
    entries.sort_by(|a, b| (&a.operation, &a.time, &a.manager).cmp(&(&b.operation, &b.time, &b.manager)));
    fold_oldest(&mut entries);
    let meta = object::meta_mut(new);
    if entries.is_empty() {
        meta.remove("managedFields");
    } else {
        meta.insert("managedFields".to_owned(), entries.iter().map(Entry::to_value).collect());
    }
}

/// Folds the oldest updaters of the main resource into one entry when there are too many.
fn fold_oldest(entries: &mut Vec<Entry>) {
    let is_updater = |entry: &Entry| entry.operation == "Update" && entry.subresource.is_empty();
    while entries.iter().filter(|entry| is_updater(entry)).count() > MOST_UPDATERS {
        let mut oldest = entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| is_updater(entry) && entry.manager != ANCIENT)
            .map(|(index, _)| index);
        let Some(first) = oldest.next() else { return };
        let ancient = entries.iter().position(|entry| is_updater(entry) && entry.manager == ANCIENT);
        match ancient {
            Some(ancient) => {
                let fields = std::mem::take(&mut entries[first].fields);
                entries[ancient].fields.unite(&fields);
                entries.remove(first);
            }
            None => ANCIENT.clone_into(&mut entries[first].manager),
        }
    }
}

fn entries_of(object: &Value) -> Vec<Entry> {
    object::list(object, &["metadata", "managedFields"])
        .iter()
        .filter_map(|entry| {
            let text = |key| object::text(entry, &[key]).to_owned();
            let entry = Entry {
                manager: text("manager"),
                operation: text("operation"),
                api_version: text("apiVersion"),
                subresource: text("subresource"),
                time: text("time"),
                fields: FieldSet::from_value(entry.get("fieldsV1")?),
            };
            (!entry.operation.is_empty()).then_some(entry)
        })
        .collect()
}

impl Entry {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        for (key, text) in [
            ("manager", self.manager.as_str()),
            ("operation", &self.operation),
            ("apiVersion", &self.api_version),
            ("time", &self.time),
            ("fieldsType", "FieldsV1"),
            ("subresource", &self.subresource),
        ] {
            if !text.is_empty() {
                out.insert(key.to_owned(), text.into());
            }
        }
        out.insert("fieldsV1".to_owned(), self.fields.to_value());
        Value::Object(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    fn check(
        old: Option<&Value>,
        mut new: Value,
        subresource: Option<Subresource>,
        manager: &str,
        expect: Expect,
    ) -> Value {
        let resources = Resources::built_in();
        let row = resources.by_plural("apps", "v1", "deployments").unwrap();
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        record(&resources, row, subresource, &mut new, old, (manager, now));
        let lines: Vec<String> = object::list(&new, &["metadata", "managedFields"])
            .iter()
            .map(|entry| {
                format!(
                    "{} {} {} {}",
                    object::text(entry, &["manager"]),
                    object::text(entry, &["operation"]),
                    object::text(entry, &["subresource"]),
                    entry["fieldsV1"]
                )
            })
            .collect();
        expect.assert_eq(&lines.join("\n"));
        new
    }

    #[test]
    fn a_create_gives_all_fields_to_the_writer_and_an_update_what_it_changes() {
        let first = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": "web", "namespace": "a", "uid": "1", "labels": { "app": "web" } },
            "spec": {
                "replicas": 1,
                "selector": { "matchLabels": { "app": "web" } },
                "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": "25%" } },
                "template": {
                    "metadata": { "labels": { "app": "web" } },
                    "spec": { "containers": [{
                        "name": "web", "image": "a", "resources": {},
                        "ports": [{ "containerPort": 80, "protocol": "TCP" }],
                    }], "securityContext": {} },
                },
            },
            "status": {},
        });
        let created = check(
            None,
            first,
            None,
            "kubectl-create",
            expect![[
                r#"kubectl-create Update  {"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:replicas":{},"f:selector":{},"f:strategy":{"f:rollingUpdate":{".":{},"f:maxSurge":{}},"f:type":{}},"f:template":{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"web\"}":{".":{},"f:image":{},"f:name":{},"f:ports":{".":{},"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{},"f:protocol":{}}},"f:resources":{}}},"f:securityContext":{}}}}}"#
            ]],
        );
        let mut scaled = created.clone();
        scaled["spec"]["replicas"] = 3.into();
        scaled["metadata"]["labels"] = json!({ "app": "web", "tier": "front" });
        let scaled = check(
            Some(&created),
            scaled,
            None,
            "kubectl-edit",
            expect![[r#"
                kubectl-create Update  {"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:selector":{},"f:strategy":{"f:rollingUpdate":{".":{},"f:maxSurge":{}},"f:type":{}},"f:template":{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"web\"}":{".":{},"f:image":{},"f:name":{},"f:ports":{".":{},"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{},"f:protocol":{}}},"f:resources":{}}},"f:securityContext":{}}}}}
                kubectl-edit Update  {"f:metadata":{"f:labels":{"f:tier":{}}},"f:spec":{"f:replicas":{}}}"#]],
        );
        let mut bare = scaled.clone();
        bare["metadata"].as_object_mut().unwrap().remove("labels");
        bare["status"] = json!({ "replicas": 3, "conditions": [{ "type": "Available", "status": "True" }] });
        bare["spec"]["template"] = json!({});
        check(
            Some(&scaled),
            bare,
            Some(Subresource::Status),
            "wharf",
            expect![[r#"
                kubectl-create Update  {"f:spec":{"f:selector":{},"f:strategy":{"f:rollingUpdate":{".":{},"f:maxSurge":{}},"f:type":{}}}}
                kubectl-edit Update  {"f:spec":{"f:replicas":{}}}
                wharf Update status {"f:status":{"f:conditions":{".":{},"k:{\"type\":\"Available\"}":{".":{},"f:status":{},"f:type":{}}},"f:replicas":{}}}"#]],
        );
    }
}
