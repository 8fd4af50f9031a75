//! What a request asks for: one pure parser from method, path and query to a [`RequestInfo`].
//!
//! Authorization, metrics and routing all read the same value, so that none of them can see another request than the
//! others do. Whether the resource exists, and whether it has the verb, is left to `route`.

use crate::query::{self, Query};
use http::Method;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestInfo {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; the method in lower case for
    /// paths that are no resource.
    pub(crate) verb: &'static str,
    /// The path as sent.
    pub(crate) path: String,
    /// The resource, if the path is one's.
    pub(crate) resource: Option<ResourceInfo>,
}

/// The resource that a path names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ResourceInfo {
    /// API group; empty for the core group.
    pub(crate) group: String,
    /// API version.
    pub(crate) version: String,
    /// Namespace, where the path names one.
    pub(crate) namespace: Option<String>,
    /// Plural name, for example `pods`.
    pub(crate) resource: String,
    /// Name of the object, where the path names one.
    pub(crate) name: Option<String>,
    /// Part below the object, for example `log`.
    pub(crate) subresource: Option<String>,
    /// What follows the subresource (paths of a proxy), without its first slash.
    pub(crate) rest: String,
}

impl RequestInfo {
    /// Reads a request. HEAD counts as GET; a path that is no resource's is told by `resource: None`.
    pub(crate) fn parse(method: &Method, path: &str, query: &Query) -> Self {
        let parts: Vec<String> =
            path.split('/').filter(|part| !part.is_empty()).map(query::decode_path).collect();
        let (plain_verb, other) = verbs(method);
        let nothing = || Self { verb: other, path: path.to_owned(), resource: None };
        let mut parts = parts.into_iter();
        let group = match parts.next().as_deref() {
            Some("api") => Some(String::new()),
            Some("apis") => parts.next(),
            _ => None,
        };
        let (Some(group), Some(version)) = (group, parts.next()) else { return nothing() };
        let mut parts: Vec<String> = parts.collect();
        let watch_prefix = parts.first().is_some_and(|part| part == "watch");
        if watch_prefix {
            parts.remove(0);
        }
        let mut info = ResourceInfo { group, version, ..ResourceInfo::default() };
        if parts.len() > 1 && parts[0] == "namespaces" {
            info.namespace = Some(parts[1].clone());
            // `namespaces/x/status` is the Namespace's own; `namespaces/x/pods` lies in it.
            if parts.len() > 2 && !matches!(parts[2].as_str(), "status" | "finalize") {
                parts.drain(..2);
            }
        }
        let mut parts = parts.into_iter();
        let Some(resource) = parts.next() else { return nothing() };
        info.resource = resource;
        info.name = parts.next();
        info.subresource = parts.next();
        info.rest = parts.collect::<Vec<_>>().join("/");
        let verb = match (plain_verb, info.name.is_some()) {
            _ if watch_prefix && plain_verb == "get" => "watch",
            ("get", false) if query.flag("watch") => "watch",
            ("get", false) => "list",
            ("delete", false) => "deletecollection",
            (verb, _) => verb,
        };
        Self { verb, path: path.to_owned(), resource: Some(info) }
    }

    /// Whether a request may last as long as its client likes, and so takes no part in limits on time and number.
    pub(crate) fn long_running(&self, query: &Query) -> bool {
        let streams = ["exec", "attach", "portforward", "proxy"];
        let Some(resource) = &self.resource else { return false };
        match resource.subresource.as_deref() {
            Some("log") => query.flag("follow"),
            Some(subresource) => streams.contains(&subresource),
            None => self.verb == "watch",
        }
    }

    /// Whether a request may change something.
    pub(crate) fn mutating(&self) -> bool {
        !matches!(self.verb, "get" | "list" | "watch" | "head" | "options")
    }
}

/// The verb for a resource, and for other paths.
fn verbs(method: &Method) -> (&'static str, &'static str) {
    match method.as_str() {
        "GET" => ("get", "get"),
        "HEAD" => ("get", "head"),
        "POST" => ("create", "post"),
        "PUT" => ("update", "put"),
        "PATCH" => ("patch", "patch"),
        "DELETE" => ("delete", "delete"),
        "OPTIONS" => ("options", "options"),
        _ => ("unknown", "unknown"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// One line a request: verb, group/version, namespace, resource, name, subresource, rest.
    fn check(requests: &str, expect: &Expect) {
        let mut text = String::new();
        for line in requests.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (method, uri) = line.split_once(' ').unwrap();
            let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
            let info = RequestInfo::parse(&method.parse().unwrap(), path, &Query::parse(query));
            text += &match &info.resource {
                None => format!("{} {}\n", info.verb, info.path),
                Some(r) => format!(
                    "{} {}/{} ns={} {} name={} sub={} rest={}\n",
                    info.verb,
                    r.group,
                    r.version,
                    r.namespace.as_deref().unwrap_or("-"),
                    r.resource,
                    r.name.as_deref().unwrap_or("-"),
                    r.subresource.as_deref().unwrap_or("-"),
                    r.rest
                ),
            };
        }
        expect.assert_eq(&text);
    }

    #[test]
    fn paths_and_methods_become_verbs_and_resources() {
        check(
            "GET /api/v1/namespaces
             GET /api/v1/namespaces/default
             PUT /api/v1/namespaces/default/status
             PUT /api/v1/namespaces/default/finalize
             GET /api/v1/namespaces/default/pods
             GET /api/v1/namespaces/default/pods?watch=true
             GET /api/v1/namespaces/default/pods?watch=0
             GET /api/v1/namespaces/default/pods?watch
             HEAD /api/v1/namespaces/default/pods/web-1
             GET /api/v1/namespaces/default/pods/web-1/log?follow=true
             POST /api/v1/namespaces/default/pods/web-1/binding
             GET /api/v1/namespaces/default/services/https:web:http/proxy/a/b
             PATCH /apis/apps/v1/namespaces/default/deployments/web/scale
             DELETE /apis/apps/v1/namespaces/default/deployments
             DELETE /apis/apps/v1/namespaces/default/deployments/web
             POST /apis/apps/v1/namespaces/default/deployments
             GET /api/v1/watch/pods
             GET /api/v1/watch/namespaces/default/pods
             GET /api/v1/watch/namespaces/default/pods/web-1
             GET /api/v1/watch/namespaces
             GET /api/v1/nodes/n1/status
             GET /apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
            &expect![[r#"
                list /v1 ns=- namespaces name=- sub=- rest=
                get /v1 ns=default namespaces name=default sub=- rest=
                update /v1 ns=default namespaces name=default sub=status rest=
                update /v1 ns=default namespaces name=default sub=finalize rest=
                list /v1 ns=default pods name=- sub=- rest=
                watch /v1 ns=default pods name=- sub=- rest=
                list /v1 ns=default pods name=- sub=- rest=
                watch /v1 ns=default pods name=- sub=- rest=
                get /v1 ns=default pods name=web-1 sub=- rest=
                get /v1 ns=default pods name=web-1 sub=log rest=
                create /v1 ns=default pods name=web-1 sub=binding rest=
                get /v1 ns=default services name=https:web:http sub=proxy rest=a/b
                patch apps/v1 ns=default deployments name=web sub=scale rest=
                deletecollection apps/v1 ns=default deployments name=- sub=- rest=
                delete apps/v1 ns=default deployments name=web sub=- rest=
                create apps/v1 ns=default deployments name=- sub=- rest=
                watch /v1 ns=- pods name=- sub=- rest=
                watch /v1 ns=default pods name=- sub=- rest=
                watch /v1 ns=default pods name=web-1 sub=- rest=
                watch /v1 ns=- namespaces name=- sub=- rest=
                get /v1 ns=- nodes name=n1 sub=status rest=
                get rbac.authorization.k8s.io/v1 ns=- clusterroles name=system:node sub=- rest=
            "#]],
        );
    }

    #[test]
    fn other_paths_are_no_resource() {
        check(
            "GET /
             GET /api
             GET /api/v1
             GET /apis
             GET /apis/apps
             GET /apis/apps/v1
             HEAD /healthz
             POST /version
             GET /openapi/v3/apis/apps/v1",
            &expect![[r#"
                get /
                get /api
                get /api/v1
                get /apis
                get /apis/apps
                get /apis/apps/v1
                head /healthz
                post /version
                get /openapi/v3/apis/apps/v1
            "#]],
        );
    }
}
