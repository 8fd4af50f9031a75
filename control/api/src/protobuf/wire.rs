//! Protobuf's wire format: tags, varints and lengths.

use thiserror::Error;

/// Why a body is no message.
#[derive(Debug, Error)]
pub(super) enum Fault {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Magic,
    #[error("unexpected EOF")]
    Cut,
    #[error("proto: integer overflow")]
    Overflow,
    #[error("proto: illegal tag or wire type {0}")]
    Tag(u64),
    #[error("proto: wrong wireType for field {0}")]
    WireType(String),
    #[error("proto: field {0} contains invalid UTF-8")]
    Utf8(String),
    #[error("proto: field {0} is out of range")]
    Range(String),
    #[error("proto: the message is nested too deep")]
    Depth,
    #[error("no kind {0:?} is registered for version {1:?} in scheme")]
    Kind(String, String),
    #[error("unsupported content in a protobuf envelope: {0}")]
    ContentType(String),
    #[error("the protobuf envelope holds malformed JSON")]
    Json,
}

/// One field's content.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

impl<'a> Wire<'a> {
    pub(super) fn varint(self, field: &str) -> Result<u64, Fault> {
        match self {
            Self::Varint(number) => Ok(number),
            Self::Fixed64(_) | Self::Bytes(_) | Self::Fixed32 => Err(Fault::WireType(field.to_owned())),
        }
    }

    pub(super) fn bytes(self, field: &str) -> Result<&'a [u8], Fault> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Varint(_) | Self::Fixed64(_) | Self::Fixed32 => Err(Fault::WireType(field.to_owned())),
        }
    }

    pub(super) fn text(self, field: &str) -> Result<&'a str, Fault> {
        str::from_utf8(self.bytes(field)?).ok().ok_or_else(|| Fault::Utf8(field.to_owned()))
    }
}

/// Reads a message field by field.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next field's number and content; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Wire<'a>)>, Fault> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = match u32::try_from(tag >> 3) {
            Ok(number) if number > 0 => number,
            _ => return Err(Fault::Tag(tag)),
        };
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
                let (bytes, rest) = self.rest.split_at_checked(length).ok_or(Fault::Cut)?;
                self.rest = rest;
                Wire::Bytes(bytes)
            }
            5 => {
                let _: [u8; 4] = self.array()?;
                Wire::Fixed32
            }
            _ => return Err(Fault::Tag(tag)),
        };
        Ok(Some((number, wire)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn varint(&mut self) -> Result<u64, Fault> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(Fault::Cut)?;
            self.rest = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Fault::Overflow)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Fault::Cut)?;
        self.rest = rest;
        Ok(*bytes)
    }
}

/// Writes a message field by field.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.raw_varint(u64::from(number) << 3 | 2);
        self.raw_varint(u64::try_from(bytes.len()).expect("no buffer is longer than a u64 can say"));
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn varint(&mut self, number: u32, value: u64) {
        self.raw_varint(u64::from(number) << 3);
        self.raw_varint(value);
    }

    pub(crate) fn fixed64(&mut self, number: u32, value: u64) {
        self.raw_varint(u64::from(number) << 3 | 1);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn raw_varint(&mut self, mut value: u64) {
        loop {
            let low = u8::try_from(value & 0x7f).expect("seven bits fit a byte");
            value >>= 7;
            if value == 0 {
                self.bytes.push(low);
                return;
            }
            self.bytes.push(low | 0x80);
        }
    }
}
