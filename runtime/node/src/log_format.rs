//! The lines of a container's log on disk, in CRI's form: `<time> <stream> <F or P> <text>`.

use jiff::Timestamp;

/// A longer line is cut into parts.
pub(crate) const MAX_LINE: usize = 16 << 10;

/// Where a guest wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Stdout,
    Stderr,
}

impl Source {
    fn word(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Takes what a guest wrote after `partial`, an unfinished line; appends whole lines to `out` and leaves the
/// unfinished rest, always shorter than [`MAX_LINE`].
pub(crate) fn append(
    out: &mut Vec<u8>,
    partial: &mut Vec<u8>,
    source: Source,
    mut bytes: &[u8],
    now: Timestamp,
) {
    while !bytes.is_empty() {
        let room = MAX_LINE - partial.len();
        match bytes.iter().take(room).position(|byte| *byte == b'\n') {
            Some(end) => {
                line(out, partial, &bytes[..end], source, 'F', now);
                bytes = &bytes[end + 1..];
            }
            None if bytes.len() < room => {
                partial.extend_from_slice(bytes);
                return;
            }
            None => {
                line(out, partial, &bytes[..room], source, 'P', now);
                bytes = &bytes[room..];
            }
        }
        *partial = Vec::new();
    }
}

/// Ends a line that its guest left unfinished.
pub(crate) fn finish(out: &mut Vec<u8>, partial: &mut Vec<u8>, source: Source, now: Timestamp) {
    if !partial.is_empty() {
        line(out, partial, &[], source, 'F', now);
        *partial = Vec::new();
    }
}

fn line(out: &mut Vec<u8>, start: &[u8], end: &[u8], source: Source, tag: char, now: Timestamp) {
    out.extend_from_slice(format!("{now:.9} {} {tag} ", source.word()).as_bytes());
    out.extend_from_slice(start);
    out.extend_from_slice(end);
    out.push(b'\n');
}

/// One line of a log file, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    pub(crate) time: &'a str,
    /// Whether the text ends with a line break.
    pub(crate) is_full: bool,
    pub(crate) text: &'a [u8],
}

/// Takes a line (without its line break) apart; `None` for one that is damaged.
pub(crate) fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let _stream = parts.next()?;
    let tag = parts.next()?;
    Some(Line { time, is_full: tag.starts_with(b"F"), text: parts.next()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn lines_are_written_whole_and_long_ones_in_parts() {
        let (mut out, mut partial) = (Vec::new(), Vec::new());
        let now = Timestamp::UNIX_EPOCH;
        append(&mut out, &mut partial, Source::Stdout, b"one\ntw", now);
        append(&mut out, &mut partial, Source::Stdout, b"o\n\nrest", now);
        finish(&mut out, &mut partial, Source::Stdout, now);
        expect![[r#"
            1970-01-01T00:00:00.000000000Z stdout F one
            1970-01-01T00:00:00.000000000Z stdout F two
            1970-01-01T00:00:00.000000000Z stdout F 
            1970-01-01T00:00:00.000000000Z stdout F rest
        "#]]
        .assert_eq(&String::from_utf8(out).unwrap());

        let (mut out, mut partial) = (Vec::new(), Vec::new());
        append(&mut out, &mut partial, Source::Stderr, &vec![b'x'; 2 * MAX_LINE + 5], now);
        assert_eq!(partial.len(), 5);
        let lines: Vec<Line<'_>> = out.split(|byte| *byte == b'\n').filter_map(parse).collect();
        assert_eq!(
            lines.iter().map(|line| (line.is_full, line.text.len())).collect::<Vec<_>>(),
            [(false, MAX_LINE); 2]
        );
    }
}
