//! Which container's output a request for a log means, and whether there is any: pure decisions over the Pod.

use crate::logs::LogRequest;
use crate::query::Query;
use control_api::error::ApiError;
use control_api::object;
use control_api::validate::FieldError;
use jiff::Timestamp;
use serde_json::Value;

/// What to send of a log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LogAnswer {
    /// The pod has no node yet, and so no output.
    Nothing,
    /// This.
    Open(LogRequest),
}

/// Reads a request for a Pod's log.
pub(crate) fn plan(pod: &Value, query: &Query) -> Result<LogAnswer, ApiError> {
    let (namespace, name) = (object::namespace(pod), object::name(pod));
    let mut faults = Vec::new();
    let tail_lines = number(query, "tailLines", 0, &mut faults)?;
    let since_seconds = number(query, "sinceSeconds", 1, &mut faults)?;
    let limit_bytes = number(query, "limitBytes", 1, &mut faults)?;
    let since_time = match query.text("sinceTime") {
        None => None,
        Some(text) => Some(text.parse::<Timestamp>().map_err(|_ignored| {
            ApiError::bad_request(format!(
                "parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\""
            ))
        })?),
    };
    if since_time.is_some() && since_seconds.is_some() {
        faults
            .push(FieldError::forbidden("", "at most one of `sinceTime` or `sinceSeconds` may be specified"));
    }
    if !faults.is_empty() {
        return Err(ApiError::invalid("", "PodLogOptions", name, &faults));
    }
    let container = choose_container(pod, query.text("container"))?;
    if object::text(pod, &["spec", "nodeName"]).is_empty() {
        return Ok(LogAnswer::Nothing);
    }
    let previous = query.flag("previous");
    has_output(pod, &container, previous).map_err(ApiError::bad_request)?;
    Ok(LogAnswer::Open(LogRequest {
        namespace: namespace.to_owned(),
        pod: name.to_owned(),
        uid: object::uid(pod).to_owned(),
        container,
        follow: query.flag("follow"),
        previous,
        tail_lines,
        since_seconds,
        since_time,
        timestamps: query.flag("timestamps"),
        limit_bytes,
    }))
}

fn number(
    query: &Query,
    key: &str,
    least: i64,
    faults: &mut Vec<FieldError>,
) -> Result<Option<u64>, ApiError> {
    let Some(number) = query.integer(key)? else { return Ok(None) };
    if number < least {
        let bound = if least == 0 { "must be greater than or equal to 0" } else { "must be greater than 0" };
        faults.push(FieldError::invalid(key, number, bound));
    }
    Ok(u64::try_from(number).ok())
}

fn names<'a>(pod: &'a Value, list: &str) -> Vec<&'a str> {
    object::list(pod, &["spec", list]).iter().map(|container| object::text(container, &["name"])).collect()
}

fn choose_container(pod: &Value, wanted: Option<&str>) -> Result<String, ApiError> {
    let (containers, inits) = (names(pod, "containers"), names(pod, "initContainers"));
    let ephemeral = names(pod, "ephemeralContainers");
    let pod_name = object::name(pod);
    match (wanted, containers.as_slice()) {
        (Some(wanted), _) => {
            match containers.iter().chain(&inits).chain(&ephemeral).any(|name| *name == wanted) {
                true => Ok(wanted.to_owned()),
                false => {
                    Err(ApiError::bad_request(format!("container {wanted} is not valid for pod {pod_name}")))
                }
            }
        }
        (None, [only]) => Ok((*only).to_owned()),
        (None, []) => {
            Err(ApiError::bad_request(format!("a container name must be specified for pod {pod_name}")))
        }
        (None, several) => {
            let mut text = format!(
                "a container name must be specified for pod {pod_name}, choose one of: [{}]",
                several.join(" ")
            );
            if !inits.is_empty() {
                text += &format!(" or one of the init containers: [{}]", inits.join(" "));
            }
            Err(ApiError::bad_request(text))
        }
    }
}

/// Whether a container has run, as its status tells.
fn has_output(pod: &Value, container: &str, previous: bool) -> Result<(), String> {
    let pod_name = object::name(pod);
    let lists = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
    let mut statuses = lists.iter().flat_map(|list| object::list(pod, &["status", list]));
    let Some(status) = statuses.find(|status| object::text(status, &["name"]) == container) else {
        return Err(format!("container {container:?} in pod {pod_name:?} is not available"));
    };
    let ran_before = !object::text(status, &["lastState", "terminated", "containerID"]).is_empty();
    if previous {
        return match ran_before {
            true => Ok(()),
            false => {
                Err(format!("previous terminated container {container:?} in pod {pod_name:?} not found"))
            }
        };
    }
    let is = |state: &str| object::at(status, &["state", state]).is_some();
    let ran = is("running") || !object::text(status, &["state", "terminated", "containerID"]).is_empty();
    if ran || ran_before {
        return Ok(());
    }
    if is("terminated") {
        return Err(format!("container {container:?} in pod {pod_name:?} is terminated"));
    }
    let waits = format!("container {container:?} in pod {pod_name:?} is waiting to start");
    match object::text(status, &["state", "waiting", "reason"]) {
        "" if !is("waiting") => Err(format!("{waits} - no logs yet")),
        "ErrImagePull" => Err(format!("{waits}: image can't be pulled")),
        "ImagePullBackOff" => Err(format!("{waits}: trying and failing to pull image")),
        reason => Err(format!("{waits}: {reason}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    fn pod(containers: &str, inits: &str, status: &Value) -> Value {
        let list =
            |names: &str| names.split_whitespace().map(|name| json!({ "name": name })).collect::<Vec<_>>();
        json!({
            "metadata": { "name": "p", "namespace": "default", "uid": "u" },
            "spec": { "nodeName": "n", "containers": list(containers), "initContainers": list(inits) },
            "status": { "containerStatuses": [status] },
        })
    }

    fn check(pod: &Value, query: &str, expect: &Expect) {
        let text = match plan(pod, &Query::parse(query)) {
            Ok(LogAnswer::Nothing) => "nothing".to_owned(),
            Ok(LogAnswer::Open(request)) => format!("open {} {:?}", request.container, request.tail_lines),
            Err(error) => format!("{} {}", error.code, error.message),
        };
        expect.assert_eq(&text);
    }

    #[test]
    fn the_container_is_chosen_as_upstream_chooses_it() {
        let running = json!({ "name": "a", "state": { "running": {} } });
        check(&pod("a", "i", &running), "", &expect!["open a None"]);
        check(
            &pod("a b", "", &running),
            "",
            &expect!["400 a container name must be specified for pod p, choose one of: [a b]"],
        );
        check(
            &pod("a b", "i", &running),
            "",
            &expect![
                "400 a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
            ],
        );
        check(&pod("a b", "", &running), "container=a&tailLines=5", &expect!["open a Some(5)"]);
        check(&pod("a b", "", &running), "container=x", &expect!["400 container x is not valid for pod p"]);
    }

    #[test]
    fn a_container_that_never_ran_says_why() {
        let waiting = |reason: &str| json!({ "name": "a", "state": { "waiting": { "reason": reason } } });
        check(
            &pod("a", "", &waiting("ContainerCreating")),
            "",
            &expect![[r#"400 container "a" in pod "p" is waiting to start: ContainerCreating"#]],
        );
        check(
            &pod("a", "", &waiting("ErrImagePull")),
            "",
            &expect![[r#"400 container "a" in pod "p" is waiting to start: image can't be pulled"#]],
        );
        check(
            &pod("a", "", &waiting("ImagePullBackOff")),
            "",
            &expect![[
                r#"400 container "a" in pod "p" is waiting to start: trying and failing to pull image"#
            ]],
        );
        check(
            &pod("a", "", &json!({ "name": "other" })),
            "",
            &expect![[r#"400 container "a" in pod "p" is not available"#]],
        );
        let crashed = json!({ "name": "a", "state": { "waiting": { "reason": "CrashLoopBackOff" } }, "lastState": { "terminated": { "containerID": "wharf://1" } } });
        check(&pod("a", "", &crashed), "", &expect!["open a None"]);
        check(&pod("a", "", &crashed), "previous=true", &expect!["open a None"]);
        let running = json!({ "name": "a", "state": { "running": {} } });
        check(
            &pod("a", "", &running),
            "previous=true",
            &expect![[r#"400 previous terminated container "a" in pod "p" not found"#]],
        );
    }

    #[test]
    fn bad_options_are_all_told() {
        let running = json!({ "name": "a", "state": { "running": {} } });
        check(
            &pod("a", "", &running),
            "tailLines=-1&limitBytes=0",
            &expect![[
                r#"422 PodLogOptions "p" is invalid: [tailLines: Invalid value: -1: must be greater than or equal to 0, limitBytes: Invalid value: 0: must be greater than 0]"#
            ]],
        );
        check(
            &pod("a", "", &running),
            "tailLines=x",
            &expect![[r#"400 strconv.ParseInt: parsing "x": invalid syntax"#]],
        );
        check(
            &pod("a", "", &running),
            "sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z",
            &expect![[
                r#"422 PodLogOptions "p" is invalid: : Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"#
            ]],
        );
    }

    #[test]
    fn a_pod_without_a_node_has_no_output() {
        let mut pod = pod("a", "", &json!({}));
        pod["spec"]["nodeName"] = Value::Null;
        check(&pod, "", &expect!["nothing"]);
    }
}
