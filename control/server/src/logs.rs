//! What the server asks of whoever keeps the containers' output.

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use jiff::Timestamp;
use std::io;
use std::sync::Arc;

/// Opens the output of a container. The stream ends where the output does, or never while it is followed.
pub type LogOpener = Arc<dyn Fn(LogRequest) -> BoxFuture<'static, Result<LogStream, LogError>> + Send + Sync>;

/// The output of a container, in pieces of any size.
pub type LogStream = BoxStream<'static, Result<Bytes, io::Error>>;

/// Which output is asked for. The pod and its container exist, and have output to show by the pod's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRequest {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// The pod's uid: a later pod of the same name is another.
    pub uid: String,
    /// Name of the container.
    pub container: String,
    /// Stay, and send what comes.
    pub follow: bool,
    /// The run before the present one.
    pub previous: bool,
    /// Only so many lines from the end.
    pub tail_lines: Option<u64>,
    /// Only lines of the last so many seconds.
    pub since_seconds: Option<u64>,
    /// Only lines from this moment on.
    pub since_time: Option<Timestamp>,
    /// Each line is headed by its time.
    pub timestamps: bool,
    /// At most so many bytes.
    pub limit_bytes: Option<u64>,
}

/// Why there is no output.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The request cannot be met, and the client is told why.
    #[error("{0}")]
    BadRequest(String),
    /// There is no such output.
    #[error("{0}")]
    NotFound(String),
    /// Reading failed.
    #[error("cannot read the log")]
    Internal(#[source] io::Error),
}
