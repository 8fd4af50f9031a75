//! Quantities of CPU, memory and time, as far as a node needs them.

use std::time::Duration;

use k8s_openapi::{api::core::v1::Container, apimachinery::pkg::api::resource::Quantity};

/// A quantity in thousandths, rounded up; `None` if it is not one.
pub(crate) fn millis(quantity: &Quantity) -> Option<i128> {
    let text = quantity.0.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (numerator, denominator): (i128, i128) = match suffix {
        "n" => (1, 1_000_000),
        "u" => (1, 1_000),
        "m" => (1, 1),
        "" => (1_000, 1),
        "k" => (1_000_000, 1),
        "M" => (1_000 * 1_000_000, 1),
        "G" => (1_000 * 1_000_000_000, 1),
        "T" => (1_000 * 1_000_000_000_000, 1),
        "P" => (1_000 * 1_000_000_000_000_000, 1),
        "E" => (1_000 * 1_000_000_000_000_000_000, 1),
        "Ki" => (1_000 << 10, 1),
        "Mi" => (1_000 << 20, 1),
        "Gi" => (1_000 << 30, 1),
        "Ti" => (1_000 << 40, 1),
        "Pi" => (1_000 << 50, 1),
        "Ei" => (1_000 << 60, 1),
        exponent => {
            let exponent: u32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            (1_000_i128.checked_mul(10_i128.checked_pow(exponent)?)?, 1)
        }
    };
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > 18 {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = denominator.checked_mul(10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
    let value = digits.checked_mul(numerator)?;
    let rounded = value.checked_add(scale - 1)? / scale;
    Some(if negative { -rounded } else { rounded })
}

/// A quantity in whole units, rounded up; not negative.
pub(crate) fn units(quantity: &Quantity) -> Option<u64> {
    u64::try_from(millis(quantity)?.checked_add(999)? / 1000).ok()
}

/// What a container may have of a resource, if that is bounded: a limit of zero is none, as upstream has it.
pub(crate) fn limit<'a>(container: &'a Container, resource: &str) -> Option<&'a Quantity> {
    let limit = container.resources.as_ref()?.limits.as_ref()?.get(resource)?;
    (millis(limit) != Some(0)).then_some(limit)
}

/// A time in upstream's notation, whole milliseconds: `0s`, `15ms`, `1.5s`, `1m2s`.
pub(crate) fn duration(duration: Duration) -> String {
    let secs = duration.as_secs();
    let millis = duration.subsec_millis();
    if secs == 0 && millis > 0 {
        return format!("{millis}ms");
    }
    let fraction = format!(".{millis:03}");
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    match (secs / 3600, secs / 60 % 60, secs % 60) {
        (0, 0, secs) => format!("{secs}{fraction}s"),
        (0, mins, secs) => format!("{mins}m{secs}{fraction}s"),
        (hours, mins, secs) => format!("{hours}h{mins}m{secs}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_zero_is_none() {
        let check = |amount: &str, expect: Option<&str>| {
            let container = serde_json::json!({"name": "a", "resources": {"limits": {"memory": amount}}});
            let container: Container = serde_json::from_value(container).unwrap();
            assert_eq!(limit(&container, "memory").map(|limit| limit.0.as_str()), expect);
            assert_eq!(limit(&container, "cpu"), None);
        };
        check("64Mi", Some("64Mi"));
        check("0", None);
        check("0Gi", None);
    }

    #[test]
    fn quantities_are_read_in_every_notation() {
        let check = |text: &str, expect: Option<i128>| {
            assert_eq!(millis(&Quantity(text.to_owned())), expect, "{text}");
        };
        check("1", Some(1000));
        check("250m", Some(250));
        check("0.5", Some(500));
        check(".5", Some(500));
        check("1.5Gi", Some(1_610_612_736_000));
        check("128Mi", Some(134_217_728_000));
        check("1e3", Some(1_000_000));
        check("100u", Some(1));
        check("-1", Some(-1000));
        check("x", None);
        check("", None);
        check("1Zi", None);
        assert_eq!(units(&Quantity("1500m".to_owned())), Some(2));
        assert_eq!(units(&Quantity("64Ki".to_owned())), Some(65_536));
    }

    #[test]
    fn a_time_is_written_as_go_writes_it() {
        let check = |micros, expect: &str| assert_eq!(duration(Duration::from_micros(micros)), expect);
        check(0, "0s");
        check(900, "0s");
        check(15_900, "15ms");
        check(1_000_000, "1s");
        check(1_500_000, "1.5s");
        check(61_020_000, "1m1.02s");
        check(3_600_000_000, "1h0m0s");
    }
}
