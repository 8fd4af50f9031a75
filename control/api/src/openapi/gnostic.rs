//! The version 2 document in gnostic's protobuf (`openapi_v2.Document`).
//!
//! Written straight from the JSON document, for the parts that ours has; the field numbers are those of gnostic's
//! `OpenAPIv2.proto`.

use crate::protobuf::Writer;
use serde_json::Value;

/// `openapi_v2.Document`.
pub(super) fn document(json: &Value) -> Vec<u8> {
    let mut out = Writer::default();
    text(&mut out, 1, json, "swagger");
    message(&mut out, 2, |info| {
        text(info, 1, &json["info"], "title");
        text(info, 2, &json["info"], "version");
    });
    message(&mut out, 8, |paths| {
        named(paths, 2, &json["paths"], path_item);
    });
    message(&mut out, 9, |definitions| named(definitions, 1, &json["definitions"], schema));
    out.into_bytes()
}

fn path_item(out: &mut Writer, item: &Value) {
    for (number, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        if let Some(one) = item.get(method) {
            message(out, number, |out| operation(out, one));
        }
    }
    each(out, 9, item, "parameters", parameter);
}

fn operation(out: &mut Writer, operation: &Value) {
    texts(out, 1, operation, "tags");
    text(out, 3, operation, "description");
    texts(out, 6, operation, "produces");
    texts(out, 7, operation, "consumes");
    each(out, 8, operation, "parameters", parameter);
    message(out, 9, |responses| {
        named(responses, 1, &operation["responses"], |value, response| {
            message(value, 1, |out| {
                text(out, 1, response, "description");
                if let Some(answer) = response.get("schema") {
                    message(out, 2, |item| message(item, 1, |out| schema(out, answer)));
                }
            });
        });
    });
    texts(out, 10, operation, "schemes");
    extensions(out, 13, operation);
}

/// `ParametersItem`.
fn parameter(out: &mut Writer, parameter: &Value) {
    message(out, 1, |out| match parameter["in"].as_str() {
        Some("body") => message(out, 1, |body| {
            text(body, 1, parameter, "description");
            text(body, 2, parameter, "name");
            text(body, 3, parameter, "in");
            flag(body, 4, parameter, "required");
            message(body, 5, |out| schema(out, &parameter["schema"]));
        }),
        Some("path") => message(out, 2, |out| {
            message(out, 4, |path| {
                flag(path, 1, parameter, "required");
                text(path, 2, parameter, "in");
                text(path, 3, parameter, "description");
                text(path, 4, parameter, "name");
                text(path, 5, parameter, "type");
                flag(path, 19, parameter, "uniqueItems");
            });
        }),
        _ => message(out, 2, |out| {
            message(out, 3, |query| {
                flag(query, 1, parameter, "required");
                text(query, 2, parameter, "in");
                text(query, 3, parameter, "description");
                text(query, 4, parameter, "name");
                text(query, 6, parameter, "type");
                flag(query, 20, parameter, "uniqueItems");
            });
        }),
    });
}

fn schema(out: &mut Writer, json: &Value) {
    text(out, 1, json, "$ref");
    text(out, 2, json, "format");
    text(out, 4, json, "description");
    if let Some(default) = json.get("default") {
        message(out, 5, |out| any(out, default));
    }
    texts(out, 19, json, "required");
    if let Some(values) = json.get("additionalProperties") {
        message(out, 21, |item| message(item, 1, |out| schema(out, values)));
    }
    if let Some(kind) = json["type"].as_str() {
        message(out, 22, |item| item.bytes(1, kind.as_bytes()));
    }
    if let Some(items) = json.get("items") {
        message(out, 23, |item| message(item, 1, |out| schema(out, items)));
    }
    if let Some(properties) = json.get("properties") {
        message(out, 25, |out| named(out, 1, properties, schema));
    }
    extensions(out, 31, json);
}

/// Members beginning with `x-`, as `NamedAny`.
fn extensions(out: &mut Writer, number: u32, json: &Value) {
    for (name, value) in json.as_object().into_iter().flatten().filter(|(name, _)| name.starts_with("x-")) {
        message(out, number, |out| {
            out.bytes(1, name.as_bytes());
            message(out, 2, |out| any(out, value));
        });
    }
}

/// `Any`: the value as YAML, of which JSON is a part.
fn any(out: &mut Writer, value: &Value) {
    out.bytes(2, format!("{value}\n").as_bytes());
}

/// A member's entries, each a message of a name and a value.
fn named(out: &mut Writer, number: u32, members: &Value, write: impl Fn(&mut Writer, &Value)) {
    for (name, value) in members.as_object().into_iter().flatten() {
        message(out, number, |out| {
            out.bytes(1, name.as_bytes());
            message(out, 2, |out| write(out, value));
        });
    }
}

fn each(out: &mut Writer, number: u32, json: &Value, name: &str, write: impl Fn(&mut Writer, &Value)) {
    for item in json[name].as_array().into_iter().flatten() {
        message(out, number, |out| write(out, item));
    }
}

fn message(out: &mut Writer, number: u32, write: impl FnOnce(&mut Writer)) {
    let mut inner = Writer::default();
    write(&mut inner);
    out.bytes(number, &inner.into_bytes());
}

fn text(out: &mut Writer, number: u32, json: &Value, name: &str) {
    if let Some(text) = json[name].as_str() {
        out.bytes(number, text.as_bytes());
    }
}

fn texts(out: &mut Writer, number: u32, json: &Value, name: &str) {
    for text in json[name].as_array().into_iter().flatten().filter_map(Value::as_str) {
        out.bytes(number, text.as_bytes());
    }
}

fn flag(out: &mut Writer, number: u32, json: &Value, name: &str) {
    if json[name].as_bool() == Some(true) {
        out.varint(number, 1);
    }
}
