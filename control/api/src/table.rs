//! `meta.k8s.io` Tables: lists as rows of cells, for `kubectl get`.

use crate::printers::row_conditions;
use crate::resource::Resource;
use jiff::Timestamp;
use serde_json::{Value, json};

/// What a request wants of a Table.
#[derive(Debug, Clone, Copy, Default)]
pub struct TableOptions {
    /// What stands beside a row's cells.
    pub include_object: IncludeObject,
    /// Leaves the column definitions out: from the second event of a watch on.
    pub no_headers: bool,
    /// Which version the client asked for.
    pub version: TableVersion,
}

/// `?includeObject=`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// A `PartialObjectMetadata`.
    #[default]
    Metadata,
    /// The object.
    Object,
}

impl IncludeObject {
    /// Of the query parameter; none when it is none of the three.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Metadata" => Some(Self::Metadata),
            "None" => Some(Self::None),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// A version of the `meta.k8s.io` group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TableVersion {
    /// `meta.k8s.io/v1`.
    #[default]
    V1,
    /// `meta.k8s.io/v1beta1`.
    V1Beta1,
}

impl TableVersion {
    /// As `apiVersion`.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "meta.k8s.io/v1",
            Self::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// Objects of a kind as a Table; `list_meta` is the list's `metadata`, or of a single object its own resource version.
pub fn render(
    resource: &Resource,
    objects: &[&Value],
    options: &TableOptions,
    list_meta: Value,
    now: Timestamp,
) -> Value {
    let definitions: Vec<Value> = if options.no_headers { Vec::new() } else { column_definitions(resource) };
    let rows: Vec<Value> = objects.iter().map(|object| row(resource, object, options, now)).collect();
    json!({
        "kind": "Table",
        "apiVersion": options.version.api_version(),
        "metadata": list_meta,
        "columnDefinitions": definitions,
        "rows": rows,
    })
}

/// The object that `PartialObjectMetadata` asks for.
pub fn partial_metadata(object: &Value, version: TableVersion) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": version.api_version(),
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

fn column_definitions(resource: &Resource) -> Vec<Value> {
    let columns = resource.columns.iter();
    columns
        .map(|column| {
            json!({
                "name": column.name,
                "type": column.kind,
                "format": column.format,
                "description": column.description,
                "priority": column.priority,
            })
        })
        .collect()
}

fn row(resource: &Resource, object: &Value, options: &TableOptions, now: Timestamp) -> Value {
    let cells: Vec<Value> = resource.columns.iter().map(|column| (column.cell)(object, now)).collect();
    let mut row = json!({ "cells": cells });
    if let Some(conditions) = row_conditions(resource, object) {
        row["conditions"] = conditions;
    }
    row["object"] = match options.include_object {
        IncludeObject::None => Value::Null,
        IncludeObject::Metadata => partial_metadata(object, options.version),
        IncludeObject::Object => object.clone(),
    };
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Resources;
    use expect_test::{Expect, expect};

    fn check(options: TableOptions, expect: Expect) {
        let resources = Resources::built_in();
        let resource = resources.by_plural("", "v1", "namespaces").unwrap();
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}, "status": {"phase": "Active"}});
        let meta = json!({"resourceVersion": "7"});
        let now = "2026-01-02T00:00:00Z".parse().unwrap();
        let mut table = render(resource, &[&object], &options, meta, now);
        for column in table["columnDefinitions"].as_array_mut().unwrap() {
            column.as_object_mut().unwrap().remove("description");
        }
        expect.assert_eq(&table.to_string());
    }

    #[test]
    fn a_table_has_cells_and_what_was_asked_for_beside_them() {
        check(
            TableOptions::default(),
            expect![[
                r#"{"apiVersion":"meta.k8s.io/v1","columnDefinitions":[{"format":"name","name":"Name","priority":0,"type":"string"},{"format":"","name":"Status","priority":0,"type":"string"},{"format":"","name":"Age","priority":0,"type":"string"}],"kind":"Table","metadata":{"resourceVersion":"7"},"rows":[{"cells":["default","Active","<unknown>"],"object":{"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadata","metadata":{"name":"default"}}}]}"#
            ]],
        );
        let options = TableOptions {
            include_object: IncludeObject::Object,
            no_headers: true,
            version: TableVersion::V1Beta1,
        };
        check(
            options,
            expect![[
                r#"{"apiVersion":"meta.k8s.io/v1beta1","columnDefinitions":[],"kind":"Table","metadata":{"resourceVersion":"7"},"rows":[{"cells":["default","Active","<unknown>"],"object":{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"default"},"status":{"phase":"Active"}}}]}"#
            ]],
        );
    }
}
