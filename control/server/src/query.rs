//! The query of a request, read as upstream reads it: the first of repeated values, numbers told by Go's words.

use control_api::error::ApiError;

/// The query of a request, decoded, in the order sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the text after the `?`.
    pub(crate) fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The first value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// The first value of a key; an empty one counts as absent.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|value| !value.is_empty())
    }

    /// Every value of a key.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// Whether a key is set: without a value, or with one that is neither `0` nor `false`.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
    }

    /// As [`Query::flag`], told apart from an absent key.
    pub(crate) fn flag_option(&self, key: &str) -> Option<bool> {
        self.get(key).map(|_| self.flag(key))
    }

    /// A whole number.
    pub(crate) fn integer(&self, key: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.get(key) else { return Ok(None) };
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(e) => {
                use std::num::IntErrorKind::{NegOverflow, PosOverflow};
                let error: std::num::ParseIntError = e;
                let why = match error.kind() {
                    PosOverflow | NegOverflow => "value out of range",
                    _ => "invalid syntax",
                };
                Err(ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: {why}")))
            }
        }
    }
}

/// Decodes a segment of a path: `%3A` to `:`. Broken UTF-8 becomes the replacement character.
pub(crate) fn decode_path(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_and_broken_ones_kept() {
        let query = Query::parse("labelSelector=a%3Db%2Cc+in+%28d%29&x&limit=5&broken=%zz%4&limit=6");
        assert_eq!(query.get("labelSelector"), Some("a=b,c in (d)"));
        assert_eq!(query.get("x"), Some(""));
        assert_eq!(query.get("broken"), Some("%zz%4"));
        assert_eq!(query.integer("limit").unwrap(), Some(5));
        assert_eq!(query.all("limit").collect::<Vec<_>>(), ["5", "6"]);
        assert_eq!(decode_path("system%3Anode+1"), "system:node+1");
    }

    #[test]
    fn flags_are_read_as_upstream_reads_them() {
        let query = Query::parse("a&b=&c=0&d=False&e=yes");
        let flags = ["a", "b", "c", "d", "e", "f"].map(|key| query.flag(key));
        assert_eq!(flags, [true, true, false, false, true, false]);
    }

    #[test]
    fn a_bad_number_is_told_in_upstreams_words() {
        let message = |text: &str| Query::parse(text).integer("limit").unwrap_err().message;
        assert_eq!(message("limit=abc"), "strconv.ParseInt: parsing \"abc\": invalid syntax");
        assert_eq!(
            message("limit=99999999999999999999"),
            "strconv.ParseInt: parsing \"99999999999999999999\": value out of range"
        );
    }
}
