//! Leases.

use crate::object;
use crate::resource::{Resource, Strategy};
use crate::validate::FieldError;
use serde_json::Value;
use std::borrow::Cow;

pub(super) const ROW: Resource = Resource {
    group: Cow::Borrowed("coordination.k8s.io"),
    kind: Cow::Borrowed("Lease"),
    plural: Cow::Borrowed("leases"),
    singular: Cow::Borrowed("lease"),
    schema: Cow::Borrowed("io.k8s.api.coordination.v1.Lease"),
    strategy: Strategy {
        validate,
        free_finalizers: true,
        create_on_update: true,
        unconditional_update: false,
        ..Strategy::PLAIN
    },
    columns: crate::printers::LEASE,
    ..Resource::PLAIN
};

fn validate(lease: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, least, detail) in [
        ("leaseDurationSeconds", 1, "must be greater than 0"),
        ("leaseTransitions", 0, "must be greater than or equal to 0"),
    ] {
        if let Some(number) = object::integer(lease, &["spec", key]).filter(|number| *number < least) {
            errors.push(FieldError::invalid(format!("spec.{key}"), number, detail));
        }
    }
    errors
}
