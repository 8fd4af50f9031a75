//! Who may do what. One pure function; role-based access control takes its place later.

use crate::authenticate::User;
use crate::request_info::RequestInfo;
use control_api::error::{ApiError, Reason};

/// Paths that anybody may read, as upstream's role `system:public-info-viewer` has them.
const PUBLIC: [&str; 4] = ["/healthz", "/livez", "/readyz", "/version"];

/// Whether a path is open to those who are nobody.
pub(crate) fn public(info: &RequestInfo) -> bool {
    let below = |root: &str| {
        info.path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    matches!(info.verb, "get" | "head") && info.resource.is_none() && PUBLIC.iter().any(|&root| below(root))
}

/// Whether a user may do this. Members of `system:masters` may do all, others nothing.
pub(crate) fn authorize(user: &User, info: &RequestInfo) -> Result<(), ApiError> {
    if public(info) || user.groups.iter().any(|group| group == "system:masters") {
        return Ok(());
    }
    Err(refusal(user, info))
}

fn refusal(user: &User, info: &RequestInfo) -> ApiError {
    let Some(resource) = &info.resource else {
        return ApiError::new(
            Reason::Forbidden,
            format!("forbidden: User {:?} cannot {} path {:?}", user.name, info.verb, info.path),
        );
    };
    let what = match &resource.subresource {
        Some(subresource) => format!("{}/{subresource}", resource.resource),
        None => resource.resource.clone(),
    };
    let place = match &resource.namespace {
        Some(namespace) => format!("in the namespace {namespace:?}"),
        None => "at the cluster scope".to_owned(),
    };
    let name = resource.name.as_deref().unwrap_or_default();
    let why = format!(
        "User {:?} cannot {} resource {what:?} in API group {:?} {place}",
        user.name, info.verb, resource.group
    );
    ApiError::forbidden(&resource.group, &resource.resource, name, &why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Query;
    use expect_test::{Expect, expect};

    fn check(groups: &[&str], method: &str, path: &str, expect: &Expect) {
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        let user = User { name: "jane".to_owned(), groups, until: jiff::Timestamp::MAX };
        let info = RequestInfo::parse(&method.parse().unwrap(), path, &Query::default());
        expect.assert_eq(&authorize(&user, &info).map_or_else(|e| e.message, |()| "yes".to_owned()));
    }

    #[test]
    fn masters_may_do_all() {
        check(&["system:masters"], "DELETE", "/api/v1/nodes", &expect!["yes"]);
    }

    #[test]
    fn others_are_refused_in_upstreams_words() {
        check(
            &[],
            "GET",
            "/api/v1/namespaces/default/pods",
            &expect![[
                r#"pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default""#
            ]],
        );
        check(
            &["dev"],
            "GET",
            "/api/v1/namespaces/default/pods/a/log",
            &expect![[
                r#"pods "a" is forbidden: User "jane" cannot get resource "pods/log" in API group "" in the namespace "default""#
            ]],
        );
        check(
            &["dev"],
            "POST",
            "/api/v1/nodes",
            &expect![[
                r#"nodes is forbidden: User "jane" cannot create resource "nodes" in API group "" at the cluster scope"#
            ]],
        );
        check(
            &["dev"],
            "PATCH",
            "/apis/apps/v1/namespaces/x/deployments/web",
            &expect![[
                r#"deployments.apps "web" is forbidden: User "jane" cannot patch resource "deployments" in API group "apps" in the namespace "x""#
            ]],
        );
        check(
            &["dev"],
            "GET",
            "/metrics",
            &expect![[r#"forbidden: User "jane" cannot get path "/metrics""#]],
        );
    }

    #[test]
    fn health_and_version_are_open() {
        check(&[], "GET", "/readyz/ping", &expect!["yes"]);
        check(&[], "GET", "/version", &expect!["yes"]);
        check(&[], "GET", "/versions", &expect![[r#"forbidden: User "jane" cannot get path "/versions""#]]);
        check(&[], "POST", "/version", &expect![[r#"forbidden: User "jane" cannot post path "/version""#]]);
    }
}
