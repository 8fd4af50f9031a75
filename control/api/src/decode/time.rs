//! Times as Go's decoder reads them: strictly RFC 3339, and written anew in UTC.

use crate::object;
use jiff::civil::{Date, Time};
use jiff::tz::Offset;
use serde_json::Value;

/// How long the fraction of a second is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Precision {
    /// `metav1.Time`: any fraction is taken, and dropped.
    Seconds,
    /// `metav1.MicroTime`: six digits, no more and no fewer.
    Micros,
}

/// A time in its canonical form; what is wrong with it, in the words of Go's `time.Parse`.
pub(super) fn canonical(text: &str, precision: Precision) -> Result<Value, String> {
    let fault = |why: Fault<'_>| match why {
        Fault::Element(rest, element) => {
            let layout = match precision {
                Precision::Seconds => "2006-01-02T15:04:05Z07:00",
                Precision::Micros => "2006-01-02T15:04:05.000000Z07:00",
            };
            format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {element:?}")
        }
        Fault::Range(part) => format!("parsing time {text:?}: {part} out of range"),
        Fault::Extra(rest) => format!("parsing time {text:?}: extra text: {rest:?}"),
    };
    let time = parse(text, precision).map_err(fault)?;
    Ok(match precision {
        Precision::Seconds => object::time(time),
        Precision::Micros => object::micro_time(time),
    })
}

enum Fault<'a> {
    /// The text from here on is not this element of the layout.
    Element(&'a str, &'static str),
    /// A number that no such part of a time has.
    Range(&'static str),
    /// Something stands behind the time.
    Extra(&'a str),
}

fn parse(text: &str, precision: Precision) -> Result<jiff::Timestamp, Fault<'_>> {
    let mut rest = text;
    let year = number(&mut rest, 4, "2006")?;
    literal(&mut rest, "-")?;
    let month = number(&mut rest, 2, "01")?;
    literal(&mut rest, "-")?;
    let day = number(&mut rest, 2, "02")?;
    literal(&mut rest, "T")?;
    let hour = number(&mut rest, 2, "15")?;
    literal(&mut rest, ":")?;
    let minute = number(&mut rest, 2, "04")?;
    literal(&mut rest, ":")?;
    let second = number(&mut rest, 2, "05")?;
    let nanos = match precision {
        Precision::Seconds => any_fraction(&mut rest),
        Precision::Micros => micros(&mut rest)?,
    };
    let offset_secs = offset(&mut rest)?;
    if !rest.is_empty() {
        return Err(Fault::Extra(rest));
    }
    for (part, value, range) in [
        ("month", month, 1..=12),
        ("hour", hour, 0..=23),
        ("minute", minute, 0..=59),
        ("second", second, 0..=59),
        ("day", day, 1..=31),
    ] {
        if !range.contains(&value) {
            return Err(Fault::Range(part));
        }
    }
    let small = |number: i32| i8::try_from(number).expect("no part of a time but the year is above 59");
    let year = i16::try_from(year).expect("four digits fit");
    let date = Date::new(year, small(month), small(day)).ok().ok_or(Fault::Range("day"))?;
    let time = Time::new(small(hour), small(minute), small(second), nanos).expect("each part was checked");
    let offset = Offset::from_seconds(offset_secs).ok().ok_or(Fault::Range("time zone offset hour"))?;
    let time = offset.to_timestamp(date.to_datetime(time)).ok().ok_or(Fault::Range("year"))?;
    // A year of four digits has to remain one in UTC.
    let is_printable = (0..=9999).contains(&Offset::UTC.to_datetime(time).year());
    if is_printable { Ok(time) } else { Err(Fault::Range("year")) }
}

fn number<'a>(rest: &mut &'a str, n_digits: usize, element: &'static str) -> Result<i32, Fault<'a>> {
    let fault = Fault::Element(rest, element);
    let Some((digits, after)) = rest.split_at_checked(n_digits) else { return Err(fault) };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(fault);
    }
    *rest = after;
    Ok(digits.parse().expect("a few digits are a number"))
}

fn literal<'a>(rest: &mut &'a str, text: &'static str) -> Result<(), Fault<'a>> {
    *rest = rest.strip_prefix(text).ok_or(Fault::Element(rest, text))?;
    Ok(())
}

/// Nanoseconds of a fraction of any length, or of none.
fn any_fraction(rest: &mut &str) -> i32 {
    let Some(fraction) = rest.strip_prefix('.') else { return 0 };
    let n_digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
    if n_digits == 0 {
        return 0;
    }
    let (digits, after) = fraction.split_at(n_digits);
    *rest = after;
    let nanos = digits.bytes().chain(std::iter::repeat(b'0')).take(9);
    nanos.fold(0, |nanos, digit| nanos * 10 + i32::from(digit - b'0'))
}

/// Nanoseconds of a fraction of six digits.
fn micros<'a>(rest: &mut &'a str) -> Result<i32, Fault<'a>> {
    let start = *rest;
    let mut digits = rest.strip_prefix('.').ok_or(Fault::Element(start, ".000000"))?;
    let Ok(micros) = number(&mut digits, 6, ".000000") else { return Err(Fault::Element(start, ".000000")) };
    *rest = digits;
    Ok(micros * 1000)
}

/// Seconds east of Greenwich.
fn offset<'a>(rest: &mut &'a str) -> Result<i32, Fault<'a>> {
    let start = *rest;
    if let Some(after) = rest.strip_prefix('Z') {
        *rest = after;
        return Ok(0);
    }
    let fault = |_| Fault::Element(start, "Z07:00");
    let sign = match start.bytes().next() {
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return Err(Fault::Element(start, "Z07:00")),
    };
    *rest = &start[1..];
    let hours = number(rest, 2, "Z07:00").map_err(fault)?;
    literal(rest, ":").map_err(fault)?;
    let minutes = number(rest, 2, "Z07:00").map_err(fault)?;
    if hours > 24 {
        return Err(Fault::Range("time zone offset hour"));
    }
    if minutes > 59 {
        return Err(Fault::Range("time zone offset minute"));
    }
    Ok(sign * (hours * 60 + minutes) * 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(precision: Precision, texts: &[&str], expect: Expect) {
        let lines: Vec<String> = texts
            .iter()
            .map(|text| match canonical(text, precision) {
                Ok(time) => time.to_string(),
                Err(fault) => fault,
            })
            .collect();
        expect.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn times_are_taken_by_the_letter_and_written_in_utc() {
        check(
            Precision::Seconds,
            &[
                "2026-01-02T03:04:05Z",
                "2026-01-02T03:04:05.9Z",
                "2026-01-02T03:04:05+02:30",
                "2026-01-01T23:59:59-04:00",
                "0000-01-01T00:00:00Z",
            ],
            expect![[r#"
                "2026-01-02T03:04:05Z"
                "2026-01-02T03:04:05Z"
                "2026-01-02T00:34:05Z"
                "2026-01-02T03:59:59Z"
                "0000-01-01T00:00:00Z""#]],
        );
        check(
            Precision::Seconds,
            &[
                "",
                "2026-01-02 03:04:05Z",
                "2026-01-02T02:21:58-04",
                "2026-01-02T03:04:05Z[UTC]",
                "2026-01-02t03:04:05z",
                "2026-1-2T03:04:05Z",
                "2026-13-02T03:04:05Z",
                "2026-02-30T03:04:05Z",
                "2026-01-02T24:00:00Z",
                "2026-01-02T03:04:60Z",
                "2026-01-02T03:04:05.Z",
                "2026-01-02T03:04:05",
                "9999-12-31T23:59:59-01:00",
                "2026-01-02T03:04:05+25:00",
                "ä026-01-02T03:04:05Z",
            ],
            expect![[r#"
                parsing time "" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "2006"
                parsing time "2026-01-02 03:04:05Z" as "2006-01-02T15:04:05Z07:00": cannot parse " 03:04:05Z" as "T"
                parsing time "2026-01-02T02:21:58-04" as "2006-01-02T15:04:05Z07:00": cannot parse "-04" as "Z07:00"
                parsing time "2026-01-02T03:04:05Z[UTC]": extra text: "[UTC]"
                parsing time "2026-01-02t03:04:05z" as "2006-01-02T15:04:05Z07:00": cannot parse "t03:04:05z" as "T"
                parsing time "2026-1-2T03:04:05Z" as "2006-01-02T15:04:05Z07:00": cannot parse "1-2T03:04:05Z" as "01"
                parsing time "2026-13-02T03:04:05Z": month out of range
                parsing time "2026-02-30T03:04:05Z": day out of range
                parsing time "2026-01-02T24:00:00Z": hour out of range
                parsing time "2026-01-02T03:04:60Z": second out of range
                parsing time "2026-01-02T03:04:05.Z" as "2006-01-02T15:04:05Z07:00": cannot parse ".Z" as "Z07:00"
                parsing time "2026-01-02T03:04:05" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "Z07:00"
                parsing time "9999-12-31T23:59:59-01:00": year out of range
                parsing time "2026-01-02T03:04:05+25:00": time zone offset hour out of range
                parsing time "ä026-01-02T03:04:05Z" as "2006-01-02T15:04:05Z07:00": cannot parse "ä026-01-02T03:04:05Z" as "2006""#]],
        );
    }

    #[test]
    fn micro_times_have_six_digits() {
        check(
            Precision::Micros,
            &[
                "2026-01-02T03:04:05.000006Z",
                "2026-01-02T03:04:05.123456+01:00",
                "2026-01-02T03:04:05Z",
                "2026-01-02T03:04:05.1Z",
                "2026-01-02T03:04:05.1234567Z",
            ],
            expect![[r#"
                "2026-01-02T03:04:05.000006Z"
                "2026-01-02T02:04:05.123456Z"
                parsing time "2026-01-02T03:04:05Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000"
                parsing time "2026-01-02T03:04:05.1Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse ".1Z" as ".000000"
                parsing time "2026-01-02T03:04:05.1234567Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "7Z" as "Z07:00""#]],
        );
    }
}
