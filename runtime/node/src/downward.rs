//! The downward API: a pod's own fields and resources, as text for its containers.

use k8s_openapi::{
    api::core::v1::{Container, Pod, ResourceFieldSelector},
    apimachinery::pkg::api::resource::Quantity,
};

use crate::{quantity, spec};

/// What is known of a pod and its node besides the object.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// The pod's address.
    pub(crate) pod_ip: String,
    /// The node's address.
    pub(crate) host_ip: String,
    /// The node's CPU in thousandths: what a container without a limit may use.
    pub(crate) node_cpu_millis: u64,
    /// The node's memory in bytes.
    pub(crate) node_memory: u64,
}

/// The text of a field, or why there is none.
pub(crate) fn field(pod: &Pod, facts: &Facts, path: &str) -> Result<String, String> {
    let spec = spec::spec(pod);
    if let Some((map, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        let map = match map {
            "metadata.labels" => &pod.metadata.labels,
            "metadata.annotations" => &pod.metadata.annotations,
            _ => return Err(unsupported(path)),
        };
        return Ok(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => spec::name(pod).to_owned(),
        "metadata.namespace" => spec::namespace(pod).to_owned(),
        "metadata.uid" => spec::uid(pod).to_owned(),
        "metadata.labels" => lines(pod.metadata.labels.iter().flatten()),
        "metadata.annotations" => lines(pod.metadata.annotations.iter().flatten()),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => {
            spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default()
        }
        "status.hostIP" | "status.hostIPs" => facts.host_ip.clone(),
        "status.podIP" | "status.podIPs" => facts.pod_ip.clone(),
        _ => return Err(unsupported(path)),
    })
}

fn unsupported(path: &str) -> String {
    format!("unsupported fieldPath: {path}")
}

fn lines<'a>(entries: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    entries.map(|(key, value)| format!("{key}={value:?}")).collect::<Vec<_>>().join("\n")
}

/// The text of a container's request or limit, in units of the divisor, rounded up. Without a limit it is the node's.
pub(crate) fn resource(
    container: &Container,
    facts: &Facts,
    selector: &ResourceFieldSelector,
) -> Result<String, String> {
    let unsupported = || format!("unsupported container resource : {}", selector.resource);
    let (list, name) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let stated = match list {
        "limits" => quantity::limit(container, name),
        "requests" => {
            requests.and_then(|requests| requests.get(name)).or_else(|| quantity::limit(container, name))
        }
        _ => return Err(unsupported()),
    };
    let value = match (stated, list, name) {
        (Some(quantity), ..) => quantity::millis(quantity).ok_or_else(unsupported)?,
        (None, "limits", "cpu") => i128::from(facts.node_cpu_millis),
        (None, "limits", "memory") => i128::from(facts.node_memory) * 1000,
        (None, ..) => 0,
    };
    let one = Quantity("1".to_owned());
    let divisor = selector.divisor.as_ref().filter(|divisor| divisor.0 != "0").unwrap_or(&one);
    let divisor = quantity::millis(divisor).filter(|divisor| *divisor > 0).ok_or_else(unsupported)?;
    Ok(((value + divisor - 1) / divisor).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ResourceRequirements;
    use std::collections::BTreeMap;

    fn facts() -> Facts {
        Facts {
            pod_ip: "10.244.0.5".to_owned(),
            host_ip: "127.0.0.1".to_owned(),
            node_cpu_millis: 2000,
            node_memory: 1 << 30,
        }
    }

    #[test]
    fn a_pods_fields_are_told_as_text() {
        let mut pod = crate::fixtures::pod("Always a");
        pod.metadata.labels = Some(BTreeMap::from([("app".to_owned(), "web \"1\"".to_owned())]));
        let check = |path: &str, expect: Result<&str, &str>| {
            let got = field(&pod, &facts(), path);
            assert_eq!(got.as_deref().map_err(String::as_str), expect, "{path}");
        };
        check("metadata.name", Ok("web"));
        check("metadata.uid", Ok("u1"));
        check("metadata.labels['app']", Ok("web \"1\""));
        check("metadata.labels['none']", Ok(""));
        check("metadata.labels", Ok("app=\"web \\\"1\\\"\""));
        check("spec.nodeName", Ok("node"));
        check("status.podIP", Ok("10.244.0.5"));
        check("spec.dnsPolicy", Err("unsupported fieldPath: spec.dnsPolicy"));
    }

    #[test]
    fn a_containers_resources_are_told_in_units_of_the_divisor() {
        let quantity = |text: &str| Quantity(text.to_owned());
        let limits =
            BTreeMap::from([("memory".to_owned(), quantity("100Mi")), ("cpu".to_owned(), quantity("250m"))]);
        let resources = ResourceRequirements { limits: Some(limits), ..ResourceRequirements::default() };
        let container = Container { resources: Some(resources), ..Container::default() };
        let check = |container: &Container, resource_name: &str, divisor: &str, expect: &str| {
            let selector = ResourceFieldSelector {
                resource: resource_name.to_owned(),
                divisor: Some(quantity(divisor)),
                container_name: None,
            };
            assert_eq!(
                resource(container, &facts(), &selector).unwrap(),
                expect,
                "{resource_name} {divisor}"
            );
        };
        check(&container, "limits.memory", "1Mi", "100");
        check(&container, "limits.memory", "0", "104857600");
        check(&container, "limits.cpu", "1", "1");
        check(&container, "limits.cpu", "1m", "250");
        check(&container, "requests.memory", "1Ki", "102400");
        check(&Container::default(), "limits.cpu", "1", "2");
        check(&Container::default(), "limits.memory", "1Mi", "1024");
        check(&Container::default(), "requests.cpu", "1m", "0");
    }
}
