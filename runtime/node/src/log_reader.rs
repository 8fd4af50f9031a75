//! Reading a container's log: the end of a file, from a time on, and what is still to come.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use jiff::{SignedDuration, Timestamp};

use crate::{log_format, log_sink::LogSink};

const CHUNK: usize = 32 << 10;

/// Which log is wanted, and how much of it.
#[derive(Clone, Debug, Default)]
pub struct LogRequest {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's UID; empty for whichever pod has the name.
    pub uid: String,
    /// The container; empty for the only one.
    pub container: String,
    /// Go on until the container ends.
    pub follow: bool,
    /// The run before the current one.
    pub previous: bool,
    /// Only so many lines from the end.
    pub tail_lines: Option<u64>,
    /// Only what is not older than so many seconds.
    pub since_seconds: Option<u64>,
    /// Only what is not older than this.
    pub since_time: Option<Timestamp>,
    /// Each line begins with its time.
    pub timestamps: bool,
    /// Only so many bytes.
    pub limit_bytes: Option<u64>,
}

/// A log as it is read.
pub type LogStream = BoxStream<'static, io::Result<Bytes>>;

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// The pod is not on this node.
    #[error("pod {0:?} not found")]
    NotFound(String),
    /// There is no log to this request, in upstream's words.
    #[error("{0}")]
    BadRequest(String),
    /// A file cannot be read.
    #[error("reading the log")]
    Io(#[from] io::Error),
}

/// A log being read.
struct Reader {
    path: PathBuf,
    file: Option<File>,
    /// The run that still writes, if its end is to be waited for.
    live: Option<Arc<LogSink>>,
    /// The beginning of a line whose end was not read yet.
    rest: Vec<u8>,
    since: Option<Timestamp>,
    timestamps: bool,
    left: Option<u64>,
    /// The last part of a line did not end it.
    in_line: bool,
}

/// Reads a log file, and goes on with what `live` writes.
pub(crate) fn read(
    path: PathBuf,
    live: Option<Arc<LogSink>>,
    request: &LogRequest,
    now: Timestamp,
) -> io::Result<LogStream> {
    let mut file = match open(&path)? {
        // It is being put aside at this moment.
        None => open(&aside(&path, 1))?,
        file => file,
    };
    if let (Some(file), Some(lines)) = (&mut file, request.tail_lines) {
        seek_tail(file, lines)?;
    }
    let ago = request.since_seconds.and_then(|secs| i64::try_from(secs).ok());
    let since =
        ago.and_then(|secs| now.checked_sub(SignedDuration::from_secs(secs)).ok()).or(request.since_time);
    let reader = Reader {
        path,
        file,
        live: live.filter(|_| request.follow),
        rest: Vec::new(),
        since,
        timestamps: request.timestamps,
        left: request.limit_bytes,
        in_line: false,
    };
    let stream = futures::stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        match reader.next().await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some(reader))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    });
    Ok(stream.boxed())
}

/// The last lines of a run's log as text, at most so many lines and bytes: for a container's termination message.
pub(crate) fn tail(path: &Path, lines: u64, max_bytes: usize) -> String {
    let Ok(Some(mut file)) = open(path) else { return String::new() };
    let mut raw = Vec::new();
    if seek_tail(&mut file, lines).is_err() || file.take(1 << 20).read_to_end(&mut raw).is_err() {
        return String::new();
    }
    let mut text = Vec::new();
    for line in raw.split(|byte| *byte == b'\n').filter_map(log_format::parse) {
        text.extend_from_slice(line.text);
        if line.is_full {
            text.push(b'\n');
        }
    }
    let start = text.len().saturating_sub(max_bytes);
    String::from_utf8_lossy(&text[start..]).into_owned()
}

/// A log that was never written to has no file.
fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The name of the file that was put aside so many files ago.
fn aside(path: &Path, n: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    PathBuf::from(name)
}

/// A log's files that are there: the current one, then those put aside, the newest first.
fn newest_first(path: &Path) -> io::Result<Vec<File>> {
    let mut files: Vec<File> = open(path)?.into_iter().collect();
    for n in 1_u32.. {
        match open(&aside(path, n))? {
            Some(file) => files.push(file),
            None => break,
        }
    }
    Ok(files)
}

/// Goes to where the last `lines` lines begin.
fn seek_tail(file: &mut File, lines: u64) -> io::Result<()> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let size = end;
    let mut found = 0;
    let mut buffer = vec![0; CHUNK];
    while end > 0 {
        let start = end.saturating_sub(u64::try_from(CHUNK).unwrap_or(u64::MAX));
        let length = usize::try_from(end - start).unwrap_or(CHUNK);
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut buffer[..length])?;
        for (at, byte) in buffer[..length].iter().enumerate().rev() {
            let position = start + u64::try_from(at).unwrap_or(0) + 1;
            if *byte == b'\n' && position < size + u64::from(lines == 0) {
                found += 1;
                if found >= lines {
                    file.seek(SeekFrom::Start(position))?;
                    return Ok(());
                }
            }
        }
        end = start;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(())
}

impl Reader {
    /// The next piece; `None` at the end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if self.left == Some(0) {
                return Ok(None);
            }
            let live = self.live.clone();
            let (written, complete) = match &live {
                Some(sink) => {
                    // Enabled before the file is read, so that no write between is missed.
                    let mut written = Box::pin(sink.written());
                    written.as_mut().enable();
                    (Some(written), sink.is_complete())
                }
                None => (None, true),
            };
            let mut out = Vec::new();
            let n = self.read_chunk(&mut out)?;
            if !out.is_empty() {
                return Ok(Some(Bytes::from(self.limited(out))));
            }
            if n > 0 || self.reopen_rotated()? {
                continue;
            }
            match written {
                Some(written) if !complete => written.await,
                _ => return Ok(None),
            }
        }
    }

    fn read_chunk(&mut self, out: &mut Vec<u8>) -> io::Result<usize> {
        if self.file.is_none() {
            // Nothing was there at first, so what is there now is read from its beginning.
            self.file = newest_first(&self.path)?.pop();
        }
        let Some(file) = &mut self.file else { return Ok(0) };
        let mut raw = vec![0; CHUNK];
        let n = file.read(&mut raw)?;
        self.rest.extend_from_slice(&raw[..n]);
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines: Vec<u8> = self.rest.drain(..whole).collect();
        for line in lines.split(|byte| *byte == b'\n').filter_map(log_format::parse) {
            let time = || line.time.parse::<Timestamp>().ok();
            if self.since.is_some_and(|since| time().is_some_and(|time| time < since)) {
                continue;
            }
            if self.timestamps && !self.in_line {
                out.extend_from_slice(line.time.as_bytes());
                out.push(b' ');
            }
            out.extend_from_slice(line.text);
            if line.is_full {
                out.push(b'\n');
            }
            self.in_line = !line.is_full;
        }
        Ok(n)
    }

    /// When the file read to its end is not the log's current one any more, goes on with the one after it.
    fn reopen_rotated(&mut self) -> io::Result<bool> {
        let (Some(file), true) = (&self.file, self.live.is_some()) else { return Ok(false) };
        let inode = file.metadata()?.ino();
        let mut newer = None;
        for file in newest_first(&self.path)? {
            if file.metadata()?.ino() == inode {
                break;
            }
            newer = Some(file);
        }
        let found = newer.is_some();
        if found {
            self.file = newer;
        }
        Ok(found)
    }

    fn limited(&mut self, mut out: Vec<u8>) -> Vec<u8> {
        if let Some(left) = &mut self.left {
            out.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= u64::try_from(out.len()).unwrap_or(*left);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{log_format::Source, log_sink::LogWriter};

    async fn all(mut stream: LogStream) -> String {
        let mut text = Vec::new();
        while let Some(bytes) = stream.next().await {
            text.extend_from_slice(&bytes.unwrap());
        }
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn a_log_is_read_from_its_end_from_a_time_and_up_to_a_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut text = String::new();
        for n in 0..5 {
            text += &format!("2026-01-01T00:00:0{n}.000000000Z stdout F line {n}\n");
        }
        text += "2026-01-01T00:00:05.000000000Z stderr P par\n2026-01-01T00:00:05.000000000Z stderr F tial\n";
        std::fs::write(&path, text).unwrap();
        let now: Timestamp = "2026-01-01T00:00:06Z".parse().unwrap();
        let check = async |request: LogRequest, expect: &str| {
            let stream = read(path.clone(), None, &request, now).unwrap();
            assert_eq!(all(stream).await, expect, "{request:?}");
        };
        let base = LogRequest::default;
        check(base(), "line 0\nline 1\nline 2\nline 3\nline 4\npartial\n").await;
        check(LogRequest { tail_lines: Some(3), ..base() }, "line 4\npartial\n").await;
        check(LogRequest { tail_lines: Some(0), ..base() }, "").await;
        check(LogRequest { tail_lines: Some(99), limit_bytes: Some(9), ..base() }, "line 0\nli").await;
        check(LogRequest { since_seconds: Some(2), ..base() }, "line 4\npartial\n").await;
        check(
            LogRequest { tail_lines: Some(3), timestamps: true, ..base() },
            "2026-01-01T00:00:04.000000000Z line 4\n2026-01-01T00:00:05.000000000Z partial\n",
        )
        .await;
        assert_eq!(tail(&path, 3, 100), "line 4\npartial\n");
        assert_eq!(tail(&path, 3, 5), "tial\n");
        assert_eq!(tail(&dir.path().join("none"), 3, 5), "");
        let none = read(dir.path().join("none"), None, &base(), now).unwrap();
        assert_eq!(all(none).await, "");
    }

    #[tokio::test]
    async fn in_the_middle_of_a_rotation_the_newest_file_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        for n in [1_u32, 2] {
            let line = |k| format!("2026-01-01T00:00:00.000000000Z stdout F file {n} line {k}\n");
            std::fs::write(aside(&path, n), line(1) + &line(2)).unwrap();
        }
        let request = LogRequest { tail_lines: Some(1), ..LogRequest::default() };
        let stream = read(path, None, &request, Timestamp::now()).unwrap();
        assert_eq!(all(stream).await, "file 1 line 2\n");
    }

    #[tokio::test]
    async fn following_a_log_ends_with_the_container_and_crosses_rotations() {
        let dir = tempfile::tempdir().unwrap();
        let writer = LogWriter::start(20_000, 10).unwrap();
        let sink = writer.sink(dir.path().join("0.log"));
        let request = LogRequest { follow: true, ..LogRequest::default() };
        let stream =
            read(sink.path().to_owned(), Some(Arc::clone(&sink)), &request, Timestamp::now()).unwrap();
        let writing = async {
            let mut out = sink.stream(Source::Stdout).p2_stream();
            for n in 0..200 {
                out.write(Bytes::from(format!("{n:0>300}\n"))).unwrap();
                out.ready().await;
                tokio::task::yield_now().await;
            }
            sink.finish().await;
        };
        let (text, ()) = tokio::join!(all(stream), writing);
        assert!(text.starts_with(&format!("{:0>300}\n", 0)));
        assert!(text.ends_with(&format!("{:0>300}\n", 199)), "{}", &text[text.len().saturating_sub(310)..]);
        writer.close();
    }
}
