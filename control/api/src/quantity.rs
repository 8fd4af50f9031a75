//! `resource.Quantity`: numbers with a unit, such as `100m`, `1.5Gi`, `12e6`.
//!
//! A quantity is exact in steps of a billionth (what is smaller is rounded away from zero) and lies within ±(2^63-1), as
//! upstream has it, so one `i128` of nano-units holds every one of them. How it was written is remembered for printing.

use serde_json::Value;
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

const NANO: i128 = 1_000_000_000;
/// The largest magnitude, in nano-units.
const MAX: i128 = 0x7fff_ffff_ffff_ffff * NANO;

/// An exact amount. Compared by value, whatever the unit it was written in.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// The family of units that a quantity is printed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `12e6`.
    DecimalExponent,
    /// `12Mi`.
    BinarySi,
    /// `12M`.
    DecimalSi,
}

/// Why a text is no quantity, in upstream's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum QuantityError {
    /// Not of the syntax at all.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// No number in front.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// A unit that is none.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self { nanos: 0, format: Format::DecimalSi };

    /// A whole number.
    pub fn from_units(units: i64, format: Format) -> Self {
        Self::new(i128::from(units) * NANO, format)
    }

    /// Thousandths, as CPUs are counted.
    pub fn from_millis(millis: i64) -> Self {
        Self::new(i128::from(millis) * (NANO / 1000), Format::DecimalSi)
    }

    /// Of a JSON text or number.
    pub fn from_value(value: &Value) -> Result<Self, QuantityError> {
        match value {
            Value::String(text) => text.parse(),
            Value::Number(number) => number.to_string().parse(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(QuantityError::Format),
        }
    }

    /// In whole units, rounded up (away from zero).
    pub fn value(self) -> i64 {
        self.scaled(NANO)
    }

    /// In thousandths, rounded up (away from zero), at most what an `i64` holds.
    pub fn milli_value(self) -> i64 {
        self.scaled(NANO / 1000)
    }

    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Whether it is below nothing.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// The sum; nothing takes the other's format.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let format = if self.nanos == 0 { other.format } else { self.format };
        Self::new(self.nanos + other.nanos, format)
    }

    /// The difference; nothing takes the other's format.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.plus(Self { nanos: -other.nanos, format: other.format })
    }

    fn new(nanos: i128, format: Format) -> Self {
        Self { nanos: nanos.clamp(-MAX, MAX), format }
    }

    fn scaled(self, unit: i128) -> i64 {
        let up = div_away(self.nanos, unit);
        i64::try_from(up).unwrap_or(if up < 0 { i64::MIN } else { i64::MAX })
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let parts = Parts::split(text)?;
        let unit = Unit::parse(parts.suffix)?;
        if parts.whole.is_empty() && parts.fraction.is_empty() {
            return Err(QuantityError::Numeric);
        }
        let mut nanos = parts.nanos(unit).min(MAX);
        let mut format = unit.format;
        if format == Format::BinarySi && nanos > 0 && nanos < NANO {
            format = Format::DecimalSi;
        }
        if parts.negative {
            nanos = -nanos;
        }
        Ok(Self { nanos, format })
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest unit that allows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let small = self.nanos.abs() < 1024 * NANO;
        match self.format {
            Format::BinarySi if !small => {
                let (mantissa, steps) = strip_factors(div_away(self.nanos, NANO), 1024, 6);
                let unit = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][steps];
                write!(f, "{mantissa}{unit}")
            }
            Format::DecimalExponent => {
                let (mantissa, exponent) = thousands(self.nanos);
                if exponent == 0 { write!(f, "{mantissa}") } else { write!(f, "{mantissa}e{exponent}") }
            }
            Format::BinarySi | Format::DecimalSi => {
                let (mantissa, exponent) = thousands(self.nanos);
                let unit = match exponent {
                    -9 => "n",
                    -6 => "u",
                    -3 => "m",
                    3 => "k",
                    6 => "M",
                    9 => "G",
                    12 => "T",
                    15 => "P",
                    18 => "E",
                    _ => "",
                };
                write!(f, "{mantissa}{unit}")
            }
        }
    }
}

/// Mantissa and exponent (a multiple of three) of nano-units.
fn thousands(nanos: i128) -> (i128, i32) {
    let (mantissa, steps) = strip_factors(nanos, 1000, 9);
    (mantissa, i32::try_from(steps).expect("at most nine") * 3 - 9)
}

/// Divides by a factor as long as nothing is lost, `most` times at most.
fn strip_factors(mut value: i128, factor: i128, most: usize) -> (i128, usize) {
    let mut steps = 0;
    while steps < most && value % factor == 0 {
        value /= factor;
        steps += 1;
    }
    (value, steps)
}

/// A quotient, rounded away from zero.
fn div_away(value: i128, unit: i128) -> i128 {
    let quotient = value / unit;
    if value % unit == 0 { quotient } else { quotient + value.signum() }
}

/// The pieces of a text.
#[derive(Debug)]
struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

impl<'a> Parts<'a> {
    fn split(text: &'a str) -> Result<Self, QuantityError> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let (whole, rest) = digits(unsigned);
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(rest) => digits(rest),
            None => ("", rest),
        };
        let exponent = suffix.trim_start_matches(|c: char| "eEinumkKMGTP".contains(c));
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        if text.is_empty() || !digits(exponent).1.is_empty() {
            return Err(QuantityError::Format);
        }
        Ok(Self { negative: text.starts_with('-'), whole, fraction, suffix })
    }

    /// The magnitude in nano-units, rounded up; anything too large is just above `MAX`.
    fn nanos(&self, unit: Unit) -> i128 {
        // value = digits * 10^(exponent - fraction's length) * factor
        let shift = unit
            .exponent
            .saturating_add(9)
            .saturating_sub(i64::try_from(self.fraction.len()).unwrap_or(i64::MAX));
        let all = self.whole.bytes().chain(self.fraction.bytes()).map(|digit| i128::from(digit - b'0'));
        let (mut value, mut lost, mut n_digits) = (0_i128, false, 0_i64);
        let length = i64::try_from(self.whole.len() + self.fraction.len()).unwrap_or(i64::MAX);
        for digit in all {
            n_digits += 1;
            // The place of this digit, in powers of ten of a nano-unit, before the factor.
            let place = length - n_digits + shift;
            if place < -GUARD {
                lost |= digit != 0;
            } else if value > MAX * 10 {
                return MAX + 1;
            } else {
                value = value * 10 + digit;
            }
        }
        let kept_place = shift.max(-GUARD);
        if value == 0 {
            return i128::from(lost);
        }
        if kept_place >= 0 {
            for _ in 0..kept_place {
                value *= 10;
                if value > MAX {
                    return MAX + 1;
                }
            }
            return value.saturating_mul(unit.factor).min(MAX + 1);
        }
        let Some(scaled) = value.checked_mul(unit.factor) else { return MAX + 1 };
        let divisor = 10_i128.pow(u32::try_from(-kept_place).expect("between 1 and the guard"));
        let up = scaled / divisor + i128::from(scaled % divisor != 0 || lost);
        up.min(MAX + 1)
    }
}

/// Digits kept below a nano-unit, for binary units to multiply.
const GUARD: i64 = 9;

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// What a suffix multiplies by: 10^exponent * factor.
#[derive(Debug, Clone, Copy)]
struct Unit {
    exponent: i64,
    factor: i128,
    format: Format,
}

impl Unit {
    fn parse(suffix: &str) -> Result<Self, QuantityError> {
        let decimal = |exponent| Self { exponent, factor: 1, format: Format::DecimalSi };
        let binary = |power: u32| Self { exponent: 0, factor: 1 << (10 * power), format: Format::BinarySi };
        Ok(match suffix {
            "" => decimal(0),
            "n" => decimal(-9),
            "u" => decimal(-6),
            "m" => decimal(-3),
            "k" => decimal(3),
            "M" => decimal(6),
            "G" => decimal(9),
            "T" => decimal(12),
            "P" => decimal(15),
            "E" => decimal(18),
            "Ki" => binary(1),
            "Mi" => binary(2),
            "Gi" => binary(3),
            "Ti" => binary(4),
            "Pi" => binary(5),
            "Ei" => binary(6),
            _ => {
                let exponent = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
                match exponent.parse::<i32>() {
                    Ok(exponent) => {
                        Self { exponent: exponent.into(), factor: 1, format: Format::DecimalExponent }
                    }
                    Err(_) => return Err(QuantityError::Suffix),
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    fn check(texts: &str, expect: Expect) {
        let mut out = String::new();
        for text in texts.split(' ') {
            match text.parse::<Quantity>() {
                Ok(quantity) => out += &format!("{text} = {quantity}\n"),
                Err(error) => out += &format!("{text}: {error}\n"),
            }
        }
        expect.assert_eq(&out);
    }

    #[test]
    fn quantities_print_in_canonical_form() {
        check(
            "0 00 100m 1000m 1500m 0.1 1.5 1.5Gi 1024Mi 1000Mi 512 1025Ki 12e6 12E6 1e3 1E 1.25k 100k 0.5Gi 0.5Ki 128974848 129e6 129M 123Mi -1.5 +5 .5 5. 2000 1536Mi 0.0001Ki",
            expect![[r#"
                0 = 0
                00 = 0
                100m = 100m
                1000m = 1
                1500m = 1500m
                0.1 = 100m
                1.5 = 1500m
                1.5Gi = 1536Mi
                1024Mi = 1Gi
                1000Mi = 1000Mi
                512 = 512
                1025Ki = 1025Ki
                12e6 = 12e6
                12E6 = 12e6
                1e3 = 1e3
                1E = 1E
                1.25k = 1250
                100k = 100k
                0.5Gi = 512Mi
                0.5Ki = 512
                128974848 = 128974848
                129e6 = 129e6
                129M = 129M
                123Mi = 123Mi
                -1.5 = -1500m
                +5 = 5
                .5 = 500m
                5. = 5
                2000 = 2k
                1536Mi = 1536Mi
                0.0001Ki = 102400u
            "#]],
        );
    }

    #[test]
    fn what_is_too_fine_rounds_up_and_what_is_too_large_is_capped() {
        check(
            "1n 0.1n 0.0000000001 1e-10 1e-400 -0.1n 9Ei 9223372036854775807 9223372036854775808 1e40 -1e40 99999999999999999999999999999999999999999999999999 8Ei 1.00000000000000000000000000000000001",
            expect![[r#"
                1n = 1n
                0.1n = 1n
                0.0000000001 = 1n
                1e-10 = 1e-9
                1e-400 = 1e-9
                -0.1n = -1n
                9Ei = 9223372036854775807
                9223372036854775807 = 9223372036854775807
                9223372036854775808 = 9223372036854775807
                1e40 = 9223372036854775807
                -1e40 = -9223372036854775807
                99999999999999999999999999999999999999999999999999 = 9223372036854775807
                8Ei = 9223372036854775807
                1.00000000000000000000000000000000001 = 1000000001n
            "#]],
        );
    }

    #[test]
    fn what_is_no_quantity_says_why_in_upstreams_words() {
        check(
            "abc 1x 1.2.3 1mm 1Kib 1e 1ee3 1e3m k . -- 1Mib 10Mo",
            expect![[r#"
                abc: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
                1x: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
                1.2.3: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
                1mm: unable to parse quantity's suffix
                1Kib: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
                1e: unable to parse quantity's suffix
                1ee3: unable to parse quantity's suffix
                1e3m: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
                k: unable to parse numeric part of quantity
                .: unable to parse numeric part of quantity
                --: unable to parse quantity's suffix
                1Mib: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
                10Mo: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
            "#]],
        );
    }

    #[test]
    fn values_round_up() {
        let quantity: Quantity = "100m".parse().unwrap();
        assert_eq!((quantity.value(), quantity.milli_value()), (1, 100));
        let quantity: Quantity = "1.5Gi".parse().unwrap();
        assert_eq!(quantity.value(), 1_610_612_736);
        assert_eq!("9Ei".parse::<Quantity>().unwrap().milli_value(), i64::MAX);
        assert_eq!(Quantity::from_value(&serde_json::json!(0.5)), "500m".parse());
    }

    fn any_quantity() -> impl Strategy<Value = Quantity> {
        (-1_000_000_000_i64..1_000_000_000, 0_usize..15).prop_map(|(number, unit)| {
            let units = ["n", "u", "m", "", "k", "M", "G", "Ki", "Mi", "Gi", "e3", "e-3", "E0", "e-9", "e1"];
            format!("{number}{}", units[unit]).parse().unwrap()
        })
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_the_same_quantity(quantity in any_quantity()) {
            let printed = quantity.to_string();
            let again: Quantity = printed.parse().unwrap();
            prop_assert_eq!(again, quantity);
            prop_assert_eq!(again.to_string(), printed);
        }

        #[test]
        fn a_sum_minus_one_part_is_the_other(left in any_quantity(), right in any_quantity()) {
            prop_assert_eq!(left.plus(right).minus(right), left);
            prop_assert_eq!(left.plus(right), right.plus(left));
        }

        #[test]
        fn order_agrees_with_difference(left in any_quantity(), right in any_quantity()) {
            prop_assert_eq!(left < right, left.minus(right).is_negative());
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9.eEinumkKMGTP+-]{0,40}") {
            let _ = text.parse::<Quantity>().map(|quantity| quantity.to_string());
        }
    }
}
