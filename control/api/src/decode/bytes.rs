//! Bytes as base64, read as Go reads them and written without line breaks.

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};

/// Go does not mind what the bits behind the last byte are.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// The canonical base64 of the same bytes; what is wrong with the text, in the words of Go's decoder.
pub(super) fn canonical(text: &str) -> Result<String, String> {
    // Line breaks stand in what comes out of `base64` on a command line.
    let without_breaks = text.replace(['\n', '\r'], "");
    match LENIENT.decode(&without_breaks) {
        Ok(bytes) => Ok(STANDARD.encode(bytes)),
        Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => {
            let mut places = text.bytes().enumerate().filter(|(_, byte)| !matches!(byte, b'\n' | b'\r'));
            let at = places.nth(at).map_or(text.len(), |(place, _)| place);
            Err(fault(at))
        }
        Err(base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding) => {
            Err(fault(text.len()))
        }
    }
}

fn fault(at: usize) -> String {
    format!("illegal base64 data at input byte {at}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_breaks_and_loose_bits_go() {
        for (text, expected) in [
            ("", Ok("")),
            ("YQ==", Ok("YQ==")),
            ("YWFh\nYWFh\r\n", Ok("YWFhYWFh")),
            ("Y\nQ=\n=", Ok("YQ==")),
            ("YR==", Ok("YQ==")),
            ("YQ", Err("illegal base64 data at input byte 2")),
            ("a\n!!!", Err("illegal base64 data at input byte 2")),
            ("YWFh YWFh", Err("illegal base64 data at input byte 4")),
        ] {
            let canonical = canonical(text);
            assert_eq!(canonical.as_deref().map_err(String::as_str), expected, "{text:?}");
        }
    }
}
