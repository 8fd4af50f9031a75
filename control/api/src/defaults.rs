//! Defaulting: the values of [`Field::default`](crate::schema::Field::default) for what is absent, all the way down.
//!
//! Defaults that depend on other fields are in the `default` function of a kind's row, which runs after this.

use crate::resource::{Resource, Resources};
use crate::schema::{Schemas, Shape};
use serde_json::Value;

/// Fills in what the type and the kind say of absent fields. Doing it twice is doing it once.
pub fn apply(resources: &Resources, resource: &Resource, object: &mut Value) {
    fill_type(resources.schemas(), &resource.schema, object);
    (resource.strategy.default)(object);
}

fn fill_type(schemas: &Schemas, type_name: &str, value: &mut Value) {
    let (Some(definition), Some(map)) = (schemas.get(type_name), value.as_object_mut()) else { return };
    for (name, field) in &definition.fields {
        if let Some(default) = &field.default
            && map.get(name.as_ref()).is_none_or(Value::is_null)
        {
            map.insert(name.to_string(), default.clone());
        }
        if let Some(inner) = map.get_mut(name.as_ref()) {
            fill_shape(schemas, &field.shape, inner);
        }
    }
}

fn fill_shape(schemas: &Schemas, shape: &Shape, value: &mut Value) {
    match (shape, value) {
        (Shape::Ref(name), value) => fill_type(schemas, name, value),
        (Shape::Array(inner), Value::Array(items)) => {
            items.iter_mut().for_each(|item| fill_shape(schemas, inner, item));
        }
        (Shape::Map(inner), Value::Object(map)) => {
            map.values_mut().for_each(|item| fill_shape(schemas, inner, item));
        }
        _ => (),
    }
}
