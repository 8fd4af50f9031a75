//! The registry against a store in memory: what the API promises, rule by rule.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod deletes;
mod lists;
mod namespaces;
mod watches;
mod world;
mod writes;
