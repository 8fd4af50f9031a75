//! `resource.Quantity`: numbers with a unit, such as `100m`, `1.5Gi`, `12e6`.
//!
//! A quantity is exact in steps of a billionth (what is smaller is rounded away from zero) and lies within ±(2^63-1), as
//! upstream has it, so one `i128` of nano-units holds every one of them. How it was written is remembered for printing.

mod parse;

use parse::{Parts, Unit};
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

#[cfg(test)]
mod tests;
