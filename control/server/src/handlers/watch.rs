//! Watches: events as lines of JSON, as many in one write as there are.
//!
//! An event is `{"type":..,"object":..}` round the stored bytes, which are encoded once for all watchers. A watcher
//! that is too slow for the ring of events gets an ERROR with 410 and the end of its stream, and lists again.

use super::Call;
use super::output::Output;
use crate::app::panic_text;
use crate::negotiate::{self, Encoding};
use crate::respond::{self, Body};
use bytes::{BufMut, Bytes, BytesMut};
use control_api::error::ApiError;
use control_api::resource::Resource;
use control_registry::{WatchEvent, WatchOptions};
use futures::StreamExt;
use http::{Response, StatusCode};
use jiff::Timestamp;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

/// Events that are put into one write, if they are there.
const BATCH: usize = 128;

impl Call {
    /// Events, as they come.
    pub(super) fn watch(&self) -> Result<Response<Body>, ApiError> {
        let app = &self.context.app;
        let output = self.output()?;
        if self.context.encoding == Encoding::Yaml {
            return Err(negotiate::not_acceptable(&["application/json;stream=watch"]));
        }
        let query = &self.context.query;
        let list = self.list_options()?;
        let field_selector = match self.target.name.as_deref() {
            // The old form of a watch of one object names it in its path.
            Some(name) => format!("metadata.name={name}"),
            None => list.field_selector,
        };
        let options = WatchOptions {
            label_selector: list.label_selector,
            field_selector,
            resource_version: list.resource_version,
            resource_version_match: list.resource_version_match,
            allow_bookmarks: query.flag("allowWatchBookmarks"),
            send_initial_events: query.flag_option("sendInitialEvents"),
            timeout_seconds: query.integer("timeoutSeconds")?.and_then(|secs| u64::try_from(secs).ok()),
        };
        let events = app.registry.watch(&self.resource, self.namespace(), &options)?;
        let mut lines = Lines { output, resource: self.resource.clone(), first: true, now: app.now };
        let counted = app.metrics.long_running(&self.context.labels);
        let stream =
            events.take_until(app.stop.clone().cancelled_owned()).ready_chunks(BATCH).map(move |events| {
                // Counted as long as the stream lives.
                let _ = &counted;
                Ok(lines.write(events))
            });
        let stream = AssertUnwindSafe(stream).catch_unwind().filter_map(|piece| {
            futures::future::ready(match piece {
                Ok(piece) => Some(piece),
                Err(panic) => {
                    tracing::error!(panic = panic_text(&*panic), "a watch panicked");
                    None
                }
            })
        });
        Ok(respond::answer(StatusCode::OK, respond::JSON, respond::streamed(stream)))
    }
}

struct Lines {
    output: Output,
    resource: Arc<Resource>,
    /// No event was written yet.
    first: bool,
    now: fn() -> Timestamp,
}

impl Lines {
    fn write(&mut self, events: Vec<WatchEvent>) -> Bytes {
        let mut out = BytesMut::new();
        for event in events {
            let (kind, object) = self.event(event);
            out.reserve(object.len() + 40);
            out.put_slice(b"{\"type\":\"");
            out.put_slice(kind.as_bytes());
            out.put_slice(b"\",\"object\":");
            out.put_slice(&object);
            out.put_slice(b"}\n");
        }
        out.freeze()
    }

    fn event(&mut self, event: WatchEvent) -> (&'static str, Bytes) {
        let (kind, stored) = match event {
            WatchEvent::Added(object) => ("ADDED", object),
            WatchEvent::Modified(object) => ("MODIFIED", object),
            WatchEvent::Deleted(object) => ("DELETED", object),
            WatchEvent::Bookmark(object) => {
                let first = std::mem::take(&mut self.first);
                return ("BOOKMARK", self.output.value(&self.resource, object, first, (self.now)()));
            }
            WatchEvent::Error(error) => return ("ERROR", Bytes::from(error.to_status().to_string())),
        };
        let first = std::mem::take(&mut self.first);
        (kind, self.output.event(&self.resource, &stored, first, (self.now)()))
    }
}
