//! The syntax of quantities: sign, digits, unit.

use super::{Format, MAX, QuantityError};

/// The pieces of a text.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) negative: bool,
    pub(super) whole: &'a str,
    pub(super) fraction: &'a str,
    pub(super) suffix: &'a str,
}

impl<'a> Parts<'a> {
    pub(super) fn split(text: &'a str) -> Result<Self, QuantityError> {
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
    pub(super) fn nanos(&self, unit: Unit) -> i128 {
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
pub(super) struct Unit {
    exponent: i64,
    factor: i128,
    pub(super) format: Format,
}

impl Unit {
    pub(super) fn parse(suffix: &str) -> Result<Self, QuantityError> {
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
