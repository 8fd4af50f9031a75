//! `/livez`, `/readyz` and `/healthz`: named checks, told one by one on request.

use crate::query::Query;
use http::StatusCode;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

/// A check: nothing, or why it fails. It answers at once.
pub type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The checks of this process. Cheap to clone; parts of the process add theirs.
#[derive(Clone, Default)]
pub struct Health {
    ready: Arc<Mutex<BTreeMap<String, Check>>>,
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.checks().keys()).finish()
    }
}

impl Health {
    /// Adds a check to `/readyz`, or replaces the one of that name.
    pub fn add(&self, name: &str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), Arc::new(check));
    }

    fn checks(&self) -> BTreeMap<String, Check> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers a path below `/livez`, `/readyz` or `/healthz`; `None` where there is no such check.
    pub(crate) fn answer(&self, path: &str, query: &Query) -> Option<(StatusCode, String)> {
        let mut parts = path.trim_matches('/').splitn(2, '/');
        let endpoint = parts.next().unwrap_or_default();
        let mut checks: BTreeMap<String, Check> = match endpoint {
            "readyz" => self.checks(),
            // Alive is who can answer; a process that waits for its store is not helped by being killed.
            "livez" | "healthz" => BTreeMap::new(),
            _ => return None,
        };
        checks.insert("ping".to_owned(), Arc::new(|| Ok(())));
        if let Some(name) = parts.next() {
            let check = checks.get(name)?;
            return Some(match check() {
                Ok(()) => (StatusCode::OK, "ok".to_owned()),
                Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {why}\n")),
            });
        }
        let excluded: Vec<&str> = query.all("exclude").collect();
        let mut report = String::new();
        let mut failed = Vec::new();
        for (name, check) in &checks {
            let line = match (excluded.contains(&name.as_str()), check()) {
                (true, _) => format!("[+]{name} excluded: ok"),
                (false, Ok(())) => format!("[+]{name} ok"),
                (false, Err(why)) => {
                    failed.push(name.as_str());
                    format!("[-]{name} failed: {why}")
                }
            };
            writeln!(report, "{line}").expect("a String takes all");
        }
        Some(match (failed.is_empty(), query.flag("verbose")) {
            (true, false) => (StatusCode::OK, "ok".to_owned()),
            (true, true) => (StatusCode::OK, format!("{report}{endpoint} check passed\n")),
            (false, _) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{report}{endpoint} check failed\n")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(uri: &str, expect: &Expect) {
        let health = Health::default();
        health.add("store", || Ok(()));
        health.add("node", || Err("not started".to_owned()));
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let answer = health.answer(path, &Query::parse(query));
        expect.assert_eq(
            &answer.map_or("no such check".to_owned(), |(code, text)| format!("{} {text}", code.as_u16())),
        );
    }

    #[test]
    fn checks_are_told_one_by_one() {
        check("/livez", &expect!["200 ok"]);
        check(
            "/livez?verbose",
            &expect![[r#"
            200 [+]ping ok
            livez check passed
        "#]],
        );
        check(
            "/readyz",
            &expect![[r#"
            500 [-]node failed: not started
            [+]ping ok
            [+]store ok
            readyz check failed
        "#]],
        );
        check("/readyz/store", &expect!["200 ok"]);
        check(
            "/readyz/node",
            &expect![[r#"
            500 internal server error: not started
        "#]],
        );
        check("/readyz/nothing", &expect!["no such check"]);
        check("/readyz?exclude=node", &expect!["200 ok"]);
    }
}
