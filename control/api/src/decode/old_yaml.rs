//! What YAML 1.1, which upstream reads, takes for a number or a truth value, and the reader of 1.2 for a text.
//!
//! The reader does not tell whether a text stood in quotes. So it is the field that decides: `yes` stays a label's
//! value, and becomes what `hostNetwork` is.

use crate::schema::Shape;
use serde_json::Value;

/// The value that a text means in a field of this shape, if it is none there in YAML 1.2.
pub(super) fn meaning(shape: &Shape, text: &str) -> Option<Value> {
    match shape {
        Shape::Integer(_) => octal(text).map(Value::from),
        Shape::Boolean => match text {
            "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true.into()),
            "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false.into()),
            _ => None,
        },
        _ => None,
    }
}

/// `0644`.
fn octal(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('0').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    i64::from_str_radix(digits, 8).ok()
}
