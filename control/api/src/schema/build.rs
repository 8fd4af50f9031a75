//! From `k8s-openapi`'s JSON schemas, with our facts and what the table of protobuf messages says of zeros, to
//! [`Schemas`].

use super::{Field, ListType, PatchStrategy, Schemas, Shape, Type};
use crate::{facts, protobuf};
use k8s_openapi::api::{apps, autoscaling, coordination, core, discovery, events};
use k8s_openapi::apimachinery::pkg::apis::meta;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;

const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";

impl Schemas {
    /// The types of the kinds that are always there, and of what goes in and out beside them.
    pub fn built_in() -> Self {
        let mut generator = SchemaSettings::draft2020_12().into_generator();
        register(&mut generator);
        let definitions = generator.take_definitions(false);
        let mut types = BTreeMap::new();
        for (name, schema) in &definitions {
            if let Some(map) = schema.as_object().filter(|map| is_struct(name, map)) {
                types.insert(Cow::Owned(name.clone()), read_type(map, &definitions));
            }
        }
        for (name, definition) in &mut types {
            mark_zeros(name, definition);
        }
        let mut schemas = Self { types };
        facts::add_to(&mut schemas);
        schemas
    }
}

/// Which fields say nothing by a zero, as the messages of the same types have it. A type that is no message keeps all.
fn mark_zeros(name: &str, definition: &mut Type) {
    let name =
        name.strip_prefix("io.k8s.api.").or_else(|| name.strip_prefix("io.k8s.apimachinery.pkg.apis."));
    for field in name.into_iter().flat_map(protobuf::fields_that_omit_zero) {
        if let Some(field) = definition.fields.get_mut(field) {
            field.omits_zero = true;
        }
    }
}

fn register(generator: &mut SchemaGenerator) {
    generator.subschema_for::<core::v1::Namespace>();
    generator.subschema_for::<core::v1::Pod>();
    generator.subschema_for::<core::v1::Node>();
    generator.subschema_for::<core::v1::ConfigMap>();
    generator.subschema_for::<core::v1::Secret>();
    generator.subschema_for::<core::v1::Service>();
    generator.subschema_for::<core::v1::Endpoints>();
    generator.subschema_for::<core::v1::ServiceAccount>();
    generator.subschema_for::<core::v1::Event>();
    generator.subschema_for::<core::v1::Binding>();
    generator.subschema_for::<discovery::v1::EndpointSlice>();
    generator.subschema_for::<apps::v1::Deployment>();
    generator.subschema_for::<apps::v1::ReplicaSet>();
    generator.subschema_for::<coordination::v1::Lease>();
    generator.subschema_for::<events::v1::Event>();
    generator.subschema_for::<autoscaling::v1::Scale>();
    generator.subschema_for::<meta::v1::Status>();
    generator.subschema_for::<meta::v1::DeleteOptions>();
    generator.subschema_for::<meta::v1::ListMeta>();
}

/// Whether a definition has fields of its own; the others are scalars in a coat, and are named by a [`Shape`].
fn is_struct(name: &str, map: &Map<String, Value>) -> bool {
    map.contains_key("properties")
        || (map.get("type").and_then(Value::as_str) == Some("object") && shape_of_named(name).is_none())
}

fn shape_of_named(name: &str) -> Option<Shape> {
    match name.rsplit('.').next()? {
        "Quantity" if name == QUANTITY => Some(Shape::Quantity),
        "IntOrString" if name == INT_OR_STRING => Some(Shape::IntOrString),
        "Time" => Some(Shape::Time),
        "MicroTime" => Some(Shape::MicroTime),
        "FieldsV1" | "RawExtension" | "JSON" => Some(Shape::Any),
        _ => None,
    }
}

fn read_type(map: &Map<String, Value>, definitions: &Map<String, Value>) -> Type {
    let empty = Map::new();
    let properties = map.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    Type {
        doc: doc_of(map),
        fields: properties
            .iter()
            .filter_map(|(name, schema)| {
                Some((Cow::Owned(name.clone()), read_field(schema.as_object()?, definitions)))
            })
            .collect(),
        required: map
            .get("required")
            .and_then(Value::as_array)
            .map(|names| {
                names.iter().filter_map(Value::as_str).map(|name| Cow::Owned(name.to_owned())).collect()
            })
            .unwrap_or_default(),
        preserve_unknown: false,
        atomic: false,
    }
}

fn read_field(map: &Map<String, Value>, definitions: &Map<String, Value>) -> Field {
    Field {
        doc: doc_of(map),
        shape: read_shape(map, definitions),
        default: None,
        omits_zero: false,
        patch: PatchStrategy::default(),
        list: ListType::Atomic,
        atomic_map: false,
    }
}

fn doc_of(map: &Map<String, Value>) -> Cow<'static, str> {
    Cow::Owned(map.get("description").and_then(Value::as_str).unwrap_or("").to_owned())
}

fn read_shape(map: &Map<String, Value>, definitions: &Map<String, Value>) -> Shape {
    if let Some(name) = reference(map) {
        return match shape_of_named(name) {
            Some(shape) => shape,
            None => match definitions.get(name).and_then(Value::as_object) {
                Some(target) if !is_struct(name, target) => read_shape(target, definitions),
                _ => Shape::Ref(Cow::Owned(name.to_owned())),
            },
        };
    }
    if map.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        return Shape::IntOrString;
    }
    let nested = |key: &str| {
        let inner = map.get(key).and_then(Value::as_object);
        Box::new(inner.map_or(Shape::Any, |inner| read_shape(inner, definitions)))
    };
    let format = || map.get("format").and_then(Value::as_str);
    match map.get("type").and_then(Value::as_str) {
        Some("string") => Shape::String(format().map(|format| Cow::Owned(format.to_owned()))),
        Some("integer") => Shape::Integer(Cow::Owned(format().unwrap_or("int64").to_owned())),
        Some("number") => Shape::Number,
        Some("boolean") => Shape::Boolean,
        Some("array") => Shape::Array(nested("items")),
        Some("object") if map.contains_key("additionalProperties") => {
            Shape::Map(nested("additionalProperties"))
        }
        _ => Shape::Any,
    }
}

/// The definition a schema points to; a field with words of its own wraps the pointer in `allOf`.
fn reference(map: &Map<String, Value>) -> Option<&str> {
    let direct = map.get("$ref").and_then(Value::as_str);
    let wrapped = || map.get("allOf")?.as_array()?.first()?.get("$ref")?.as_str();
    direct.or_else(wrapped)?.rsplit('/').next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(path: &str, expect: Expect) {
        let schemas = Schemas::built_in();
        let mut steps = path.split('/');
        let type_name = steps.next().unwrap();
        let steps: Vec<&str> = steps.collect();
        let field = schemas.field(type_name, &steps).unwrap();
        expect.assert_eq(&format!(
            "{:?} {:?} {:?} {:?}{}",
            field.shape,
            field.default,
            field.patch.merge_key,
            field.list,
            if field.omits_zero { " omits zero" } else { "" }
        ));
    }

    #[test]
    fn fields_have_shapes_and_facts() {
        check(
            "io.k8s.api.core.v1.Pod/spec/containers/ports",
            expect![[
                r#"Array(Ref("io.k8s.api.core.v1.ContainerPort")) None Some("containerPort") Map(["containerPort", "protocol"]) omits zero"#
            ]],
        );
        check(
            "io.k8s.api.apps.v1.Deployment/spec/template/spec/containers/resources/limits",
            expect!["Map(Quantity) None None Atomic omits zero"],
        );
        check(
            "io.k8s.api.core.v1.Secret/data",
            expect![[r#"Map(String(Some("byte"))) None None Atomic omits zero"#]],
        );
        check(
            "io.k8s.api.core.v1.Pod/metadata/creationTimestamp",
            expect!["Time None None Atomic omits zero"],
        );
        check("io.k8s.api.core.v1.Pod/metadata/managedFields/fieldsV1", expect!["Any None None Atomic"]);
        check(
            "io.k8s.api.apps.v1.Deployment/spec/replicas",
            expect![[r#"Integer("int32") Some(Number(1)) None Atomic"#]],
        );
        check(
            "io.k8s.api.core.v1.Service/spec/ports/targetPort",
            expect!["IntOrString None None Atomic omits zero"],
        );
    }

    #[test]
    fn every_type_that_a_field_names_is_there_and_has_fields_with_words() {
        let schemas = Schemas::built_in();
        for (name, definition) in &schemas.types {
            for (field_name, field) in &definition.fields {
                if let Some(target) = field.shape.innermost().as_ref_name() {
                    assert!(schemas.get(target).is_some(), "{name}.{field_name} -> {target}");
                }
                assert!(!field.doc.is_empty(), "{name}.{field_name}");
            }
        }
        assert!(schemas.types.len() > 150, "{}", schemas.types.len());
    }
}
