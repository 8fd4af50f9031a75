//! Whole pods on a node.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics, also in its helpers")]

mod ends;
mod http;
mod starts;
mod volumes;
mod world;
