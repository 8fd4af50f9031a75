//! What a write's query may say, checked in upstream's words.

use crate::query::Query;
use control_api::decode::FieldValidation;
use control_api::error::ApiError;
use control_api::validate::FieldError;
use control_api::write;
use control_registry::WriteOptions;
use http::HeaderMap;
use http::header::USER_AGENT;
use serde_json::Value;

/// What every write may say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WriteQuery {
    pub(super) dry_run: bool,
    pub(super) field_validation: FieldValidation,
    pub(super) field_manager: Option<String>,
    pub(super) user_agent: String,
}

/// Reads a write's query; `kind` is the options' kind (`CreateOptions`).
pub(super) fn write_query(kind: &str, query: &Query, headers: &HeaderMap) -> Result<WriteQuery, ApiError> {
    let mut faults = Vec::new();
    let dry_run = dry_run(query, &mut faults);
    let field_validation = match query.get("fieldValidation") {
        None | Some("" | "Warn") => FieldValidation::Warn,
        Some("Strict") => FieldValidation::Strict,
        Some("Ignore") => FieldValidation::Ignore,
        Some(other) => {
            faults.push(FieldError::not_supported(
                "fieldValidation",
                other,
                &["", "Ignore", "Strict", "Warn"],
            ));
            FieldValidation::Warn
        }
    };
    let field_manager = query.text("fieldManager").map(str::to_owned);
    if field_manager.as_ref().is_some_and(|manager| manager.len() > 128) {
        faults.push(FieldError::too_long("fieldManager", 128));
    }
    if field_manager.as_ref().is_some_and(|manager| manager.chars().any(char::is_control)) {
        faults.push(FieldError::invalid(
            "fieldManager",
            field_manager.clone().unwrap_or_default(),
            "should only contain printable characters",
        ));
    }
    refuse(kind, &faults)?;
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    Ok(WriteQuery { dry_run, field_validation, field_manager, user_agent: agent.to_owned() })
}

impl WriteQuery {
    /// As the registry takes them.
    pub(super) fn options(&self) -> WriteOptions {
        let manager = write::manager_name(self.field_manager.as_deref(), &self.user_agent);
        WriteOptions { dry_run: self.dry_run, manager }
    }
}

/// Whether nothing is to be kept.
fn dry_run(query: &Query, faults: &mut Vec<FieldError>) -> bool {
    let values: Vec<&str> = query.all("dryRun").filter(|value| !value.is_empty()).collect();
    if values.iter().any(|value| *value != "All") {
        let value = Value::from(values.clone());
        faults.push(FieldError::not_supported("dryRun", value, &["All"]));
    }
    !values.is_empty()
}

/// 422 for options that make no sense.
pub(super) fn refuse(kind: &str, faults: &[FieldError]) -> Result<(), ApiError> {
    match faults {
        [] => Ok(()),
        faults => Err(ApiError::invalid("meta.k8s.io", kind, "", faults)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(query: &str, expect: &Expect) {
        let result = write_query("CreateOptions", &Query::parse(query), &HeaderMap::new());
        expect.assert_eq(&result.map_or_else(|e| format!("{} {}", e.code, e.message), |q| format!("{q:?}")));
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        check(
            "fieldValidation=Foo",
            &expect![[
                r#"422 CreateOptions.meta.k8s.io "" is invalid: fieldValidation: Unsupported value: "Foo": supported values: "", "Ignore", "Strict", "Warn""#
            ]],
        );
        check(
            "dryRun=Foo",
            &expect![[
                r#"422 CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: ["Foo"]: supported values: "All""#
            ]],
        );
        check(
            "dryRun=All&fieldValidation=Strict&fieldManager=me",
            &expect![[
                r#"WriteQuery { dry_run: true, field_validation: Strict, field_manager: Some("me"), user_agent: "" }"#
            ]],
        );
    }
}
