//! Secrets.

use super::data;
use crate::decode::json_type;
use crate::object;
use crate::resource::{Resource, Strategy};
use crate::validate::{self, FieldError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::borrow::Cow;

pub(super) const ROW: Resource = Resource {
    kind: Cow::Borrowed("Secret"),
    plural: Cow::Borrowed("secrets"),
    singular: Cow::Borrowed("secret"),
    schema: Cow::Borrowed("io.k8s.api.core.v1.Secret"),
    strategy: Strategy { default, prepare_update: keep_type, validate, validate_update, ..Strategy::PLAIN },
    columns: crate::printers::SECRET,
    ..Resource::PLAIN
};

/// `stringData` is written into `data`, and never read back.
fn default(secret: &mut Value) {
    let Some(text) = secret.as_object_mut().and_then(|map| map.remove("stringData")) else { return };
    for (key, value) in text.as_object().into_iter().flatten() {
        let encoded = STANDARD.encode(value.as_str().unwrap_or(""));
        object::map_mut(secret, &["data"]).insert(key.clone(), encoded.into());
    }
}

/// An update may leave out the type, which then stays.
fn keep_type(new: &mut Value, old: &Value) {
    if object::text(new, &["type"]).is_empty()
        && let Some(kind) = old.get("type")
    {
        object::map_mut(new, &[]).insert("type".to_owned(), kind.clone());
    }
}

fn validate(secret: &Value) -> Vec<FieldError> {
    let mut errors = data::validate_keys(secret, &["data"]);
    errors.extend(data::too_big(secret, "data", &[], &["data"]));
    let has = |key: &str| object::at(secret, &["data", key]).is_some();
    let mut need = |keys: &[&str]| {
        for key in keys.iter().filter(|key| !has(key)) {
            errors.push(FieldError::required(format!("data[{key}]"), ""));
        }
    };
    match object::text(secret, &["type"]) {
        "kubernetes.io/tls" => need(&["tls.crt", "tls.key"]),
        "kubernetes.io/dockercfg" => docker_config(secret, ".dockercfg", &mut errors),
        "kubernetes.io/dockerconfigjson" => docker_config(secret, ".dockerconfigjson", &mut errors),
        "kubernetes.io/ssh-auth" if object::text(secret, &["data", "ssh-privatekey"]).is_empty() => {
            errors.push(FieldError::required("data[ssh-privatekey]", ""));
        }
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            errors.push(FieldError::required("data[username]", ""));
            errors.push(FieldError::required("data[password]", ""));
        }
        "kubernetes.io/service-account-token"
            if object::annotation(secret, "kubernetes.io/service-account.name").unwrap_or("").is_empty() =>
        {
            errors.push(FieldError::required("metadata.annotations[kubernetes.io/service-account.name]", ""));
        }
        _ => (),
    }
    errors
}

/// A file of Docker's is JSON, and a map. What is in it is not told, as it is secret.
fn docker_config(secret: &Value, key: &str, errors: &mut Vec<FieldError>) {
    let path = format!("data[{key}]");
    let Some(content) = object::at(secret, &["data", key]).and_then(Value::as_str) else {
        errors.push(FieldError::required(path, ""));
        return;
    };
    let content = STANDARD.decode(content).unwrap_or_default();
    let detail = match serde_json::from_slice(&content) {
        Ok(Value::Object(_) | Value::Null) => return,
        Ok(other) => {
            format!(
                "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                json_type(&other)
            )
        }
        Err(error) => error.to_string(),
    };
    errors.push(FieldError::invalid(path, "<secret contents redacted>", detail));
}

fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> = validate::immutable(new, old, &["type"]).into_iter().collect();
    errors.extend(data::validate_update(new, old, &["data"]));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn a_file_of_dockers_is_a_map_in_json() {
        let told = |content: Option<&str>| {
            let data = content.map(|content| json!({ ".dockerconfigjson": STANDARD.encode(content) }));
            let secret = json!({ "type": "kubernetes.io/dockerconfigjson", "data": data });
            validate(&secret).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        expect![[""]].assert_eq(&told(Some(r#"{"auths":{}}"#)));
        expect![[r#"data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": json: cannot unmarshal array into Go value of type map[string]interface {}"#]].assert_eq(&told(Some("[]")));
        expect!["data[.dockerconfigjson]: Required value"].assert_eq(&told(None));
    }
}
