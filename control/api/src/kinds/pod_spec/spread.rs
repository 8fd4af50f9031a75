//! Checks of `topologySpreadConstraints`.

use super::{affinity, one_of};
use crate::object;
use crate::validate::FieldError;
use serde_json::Value;

const WHEN_UNSATISFIABLE: [&str; 2] = ["DoNotSchedule", "ScheduleAnyway"];
const POSITIVE: &str = "must be greater than zero";

/// Faults of the constraints at `path`.
pub(super) fn validate(constraints: &[Value], path: &str, errors: &mut Vec<FieldError>) {
    let [topology, action] = ["topologyKey", "whenUnsatisfiable"]
        .map(|key| move |constraint: &Value| object::text(constraint, &[key]).to_owned());
    for (index, constraint) in constraints.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let skew = object::integer(constraint, &["maxSkew"]).unwrap_or(0);
        if skew <= 0 {
            errors.push(FieldError::invalid(format!("{path}.maxSkew"), skew, POSITIVE));
        }
        let (key, when) = (topology(constraint), action(constraint));
        if key.is_empty() {
            errors.push(FieldError::required(format!("{path}.topologyKey"), "can not be empty"));
        }
        if !WHEN_UNSATISFIABLE.contains(&when.as_str()) {
            let path = format!("{path}.whenUnsatisfiable");
            errors.push(FieldError::not_supported(path, when.as_str(), &WHEN_UNSATISFIABLE));
        }
        if constraints[index + 1..].iter().any(|other| topology(other) == key && action(other) == when) {
            let path = format!("{path}.{{topologyKey, whenUnsatisfiable}}");
            errors.push(FieldError::duplicate(path, format!("{{{key}, {when}}}")));
        }
        if let Some(domains) = object::integer(constraint, &["minDomains"]) {
            let path = format!("{path}.minDomains");
            if domains <= 0 {
                errors.push(FieldError::invalid(path.as_str(), domains, POSITIVE));
            }
            if when != "DoNotSchedule" {
                let detail =
                    format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}");
                errors.push(FieldError::invalid(path, domains, detail));
            }
        }
        for key in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            one_of(constraint, key, &["Honor", "Ignore"], &path, errors);
        }
        affinity::label_selector(constraint, "labelSelector", &path, errors);
    }
}
