//! From what a request asks for to what is served: the row of the kind and the action, or why there is none.

use crate::request_info::RequestInfo;
use control_api::resource::{Resource, Resources, Subresource};
use std::sync::Arc;

/// What a request is to be answered by.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    /// The kind.
    pub(crate) resource: Arc<Resource>,
    /// The action.
    pub(crate) action: Action,
}

/// What is done to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Of one object.
    Get,
    /// Of all objects in a namespace, or of all.
    List,
    /// Of one object, of a namespace's, or of all.
    Watch,
    /// A new object.
    Create,
    /// A whole object, or the part of it that this subresource is.
    Update(Option<Part>),
    /// A part of an object, or of the part of it that this subresource is.
    Patch(Option<Part>),
    /// Of one object.
    Delete,
    /// Of all objects in a namespace that are selected.
    DeleteCollection,
    /// The object itself, under the path of its status.
    GetStatus,
    /// The object's Scale.
    GetScale,
    /// The output of a container.
    Log,
    /// A Pod to its node.
    Bind,
}

/// A part of an object that is written by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// `status`
    Status,
    /// `scale`
    Scale,
    /// `finalize` of a Namespace: its `spec.finalizers`.
    Finalize,
}

impl Part {
    /// As it stands in paths.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Scale => "scale",
            Self::Finalize => "finalize",
        }
    }
}

/// Why nothing answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoRoute {
    /// There is no such path.
    NotFound,
    /// The path is there; these methods are served.
    MethodNotAllowed(&'static str),
}

/// Finds what answers a request for a resource.
pub(crate) fn route(resources: &Resources, info: &RequestInfo) -> Result<Route, NoRoute> {
    let wanted = info.resource.as_ref().ok_or(NoRoute::NotFound)?;
    let resource = resources
        .by_plural(&wanted.group, &wanted.version, &wanted.resource)
        .ok_or(NoRoute::NotFound)?
        .clone();
    let (named, in_namespace) = (wanted.name.is_some(), wanted.namespace.is_some());
    let is_namespaces = wanted.group.is_empty() && wanted.resource == "namespaces";
    if resource.is_namespaced() {
        if named && !in_namespace {
            return Err(NoRoute::NotFound);
        }
    } else if in_namespace && !is_namespaces {
        return Err(NoRoute::NotFound);
    }
    if !wanted.rest.is_empty() {
        return Err(NoRoute::NotFound);
    }
    let part = match wanted.subresource.as_deref() {
        None => None,
        Some("finalize") if is_namespaces => Some(Sub::Finalize),
        Some(text) => match Subresource::parse(text).filter(|part| resource.has(*part)) {
            Some(Subresource::Status) => Some(Sub::Status),
            Some(Subresource::Scale) => Some(Sub::Scale),
            Some(Subresource::Log) => Some(Sub::Log),
            Some(Subresource::Binding) => Some(Sub::Binding),
            _ => return Err(NoRoute::NotFound),
        },
    };
    let all_namespaces = resource.is_namespaced() && !in_namespace;
    let (actions, allowed) = actions(named, part, all_namespaces, resource.strategy.delete_collection);
    match actions.iter().find(|(verb, _)| *verb == info.verb) {
        Some((_, action)) => Ok(Route { resource, action: *action }),
        None => Err(NoRoute::MethodNotAllowed(allowed)),
    }
}

#[derive(Clone, Copy)]
enum Sub {
    Status,
    Scale,
    Finalize,
    Log,
    Binding,
}

type Actions = &'static [(&'static str, Action)];

fn actions(
    named: bool,
    sub: Option<Sub>,
    all_namespaces: bool,
    delete_collection: bool,
) -> (Actions, &'static str) {
    use Action::{
        Bind, Create, Delete, DeleteCollection, Get, GetScale, GetStatus, List, Log, Patch, Update, Watch,
    };
    match sub {
        Some(Sub::Status) => (
            &[
                ("get", GetStatus),
                ("update", Update(Some(Part::Status))),
                ("patch", Patch(Some(Part::Status))),
            ],
            "GET, PATCH, PUT",
        ),
        Some(Sub::Scale) => (
            &[("get", GetScale), ("update", Update(Some(Part::Scale))), ("patch", Patch(Some(Part::Scale)))],
            "GET, PATCH, PUT",
        ),
        Some(Sub::Finalize) => (&[("update", Update(Some(Part::Finalize)))], "PUT"),
        Some(Sub::Log) => (&[("get", Log)], "GET"),
        Some(Sub::Binding) => (&[("create", Bind)], "POST"),
        None if named => (
            &[
                ("get", Get),
                ("watch", Watch),
                ("update", Update(None)),
                ("patch", Patch(None)),
                ("delete", Delete),
            ],
            "DELETE, GET, PATCH, PUT",
        ),
        None if all_namespaces => (&[("list", List), ("watch", Watch)], "GET"),
        None if !delete_collection => (&[("list", List), ("watch", Watch), ("create", Create)], "GET, POST"),
        None => (
            &[("list", List), ("watch", Watch), ("create", Create), ("deletecollection", DeleteCollection)],
            "DELETE, GET, POST",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Query;
    use expect_test::{Expect, expect};

    fn check(requests: &str, expect: &Expect) {
        let resources = Resources::built_in();
        let mut text = String::new();
        for line in requests.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (method, uri) = line.split_once(' ').unwrap();
            let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
            let info = RequestInfo::parse(&method.parse().unwrap(), path, &Query::parse(query));
            text += &match route(&resources, &info) {
                Ok(route) => format!("{} {:?}\n", route.resource.kind, route.action),
                Err(error) => format!("{error:?}\n"),
            };
        }
        expect.assert_eq(&text);
    }

    #[test]
    fn every_verb_of_a_kind_has_its_action() {
        check(
            "GET /api/v1/namespaces/default/pods
             GET /api/v1/pods?watch=1
             GET /api/v1/watch/namespaces/default/pods/a
             POST /api/v1/namespaces/default/pods
             DELETE /api/v1/namespaces/default/pods
             GET /api/v1/namespaces/default/pods/a
             PUT /api/v1/namespaces/default/pods/a
             PATCH /api/v1/namespaces/default/pods/a/status
             GET /api/v1/namespaces/default/pods/a/status
             GET /api/v1/namespaces/default/pods/a/log
             POST /api/v1/namespaces/default/pods/a/binding
             GET /apis/apps/v1/namespaces/default/deployments/a/scale
             PUT /api/v1/namespaces/default/finalize
             PUT /api/v1/namespaces/default/status
             DELETE /api/v1/namespaces/default
             HEAD /api/v1/nodes",
            &expect![[r#"
                Pod List
                Pod Watch
                Pod Watch
                Pod Create
                Pod DeleteCollection
                Pod Get
                Pod Update(None)
                Pod Patch(Some(Status))
                Pod GetStatus
                Pod Log
                Pod Bind
                Deployment GetScale
                Namespace Update(Some(Finalize))
                Namespace Update(Some(Status))
                Namespace Delete
                Node List
            "#]],
        );
    }

    #[test]
    fn what_is_not_served_says_whether_the_path_or_the_method_is_wrong() {
        check(
            "GET /api/v1/things
             GET /api/v2/pods
             GET /apis/apps/v1/pods
             GET /api/v1/pods/a
             GET /api/v1/namespaces/default/nodes
             GET /api/v1/namespaces/default/pods/a/nothing
             GET /api/v1/namespaces/default/configmaps/a/status
             GET /api/v1/namespaces/default/pods/a/log/x
             POST /api/v1/pods
             DELETE /api/v1/pods
             DELETE /api/v1/namespaces
             POST /api/v1/namespaces/default/pods/a
             DELETE /api/v1/namespaces/default/pods/a/status
             OPTIONS /api/v1/nodes",
            &expect![[r#"
                NotFound
                NotFound
                NotFound
                NotFound
                NotFound
                NotFound
                NotFound
                NotFound
                MethodNotAllowed("GET")
                MethodNotAllowed("GET")
                MethodNotAllowed("GET, POST")
                MethodNotAllowed("DELETE, GET, PATCH, PUT")
                MethodNotAllowed("GET, PATCH, PUT")
                MethodNotAllowed("DELETE, GET, POST")
            "#]],
        );
    }
}
