//! The first bytes of a connection, which tell HTTP/2 from HTTP/1.
//!
//! hyper waits for them without end; here they are waited for in time, and handed to it together with the rest.

use bytes::{Buf, Bytes, BytesMut};
use runtime_net::Stream;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What an HTTP/2 client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The first read: most requests' whole head.
const FIRST_READ: usize = 8192;

/// A connection of which the first bytes were read already.
#[derive(Debug)]
pub(crate) struct Opened {
    first: Bytes,
    stream: Stream,
}

/// Reads until it is known which HTTP the client speaks. `None`: it went without a word that tells.
pub(crate) async fn open(mut stream: Stream) -> io::Result<Option<Opened>> {
    let mut first = BytesMut::with_capacity(FIRST_READ);
    while is_undecided(&first) {
        if stream.read_buf(&mut first).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(Opened { first: first.freeze(), stream }))
}

/// Whether more bytes must tell if this is the preface.
fn is_undecided(first: &[u8]) -> bool {
    first.len() < PREFACE.len() && PREFACE.starts_with(first)
}

impl AsyncRead for Opened {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let n = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first[..n]);
        self.first.advance(n);
        if self.first.is_empty() {
            // Its memory is not needed any more.
            self.first = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Opened {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_tells_http_1_and_the_whole_preface_http_2() {
        for (first, undecided) in [
            ("", true),
            ("G", false),
            ("P", true),
            ("POST", false),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r", true),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", false),
            ("PRI * HTTP/1.1\r\n", false),
        ] {
            assert_eq!(is_undecided(first.as_bytes()), undecided, "{first:?}");
        }
    }
}
