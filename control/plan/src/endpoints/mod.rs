//! Endpoints of services: which pods answer for a service, told in two forms.
//!
//! Both forms come from the same [`members`]. Services without a selector are left alone: their endpoints are someone
//! else's, and what is told in the older form is told once more in the newer one ([`mirror`]).

mod legacy;
mod mirror;
mod slices;
mod subsets;

use crate::controller::{Controller, Wake};
use crate::object::{Change, ENDPOINTS as ENDPOINTS_KIND, Meta, Object, SERVICES, key};
use crate::pods;
use crate::world::World;
use control_api::object::Key;
use k8s_openapi::api::core::v1::{Pod, Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeSet;

/// The label and annotation by which headless services are told.
const HEADLESS: &str = "service.kubernetes.io/headless";

/// The controller of endpoint slices.
pub(crate) static SLICES: Controller = Controller {
    name: slices::NAME,
    wakes: &[
        Wake::on("", "services", crate::controller::itself),
        Wake::on("", "pods", services_of_pod),
        Wake::on("discovery.k8s.io", "endpointslices", service_of_slice),
    ],
    reconcile: slices::reconcile,
};

/// The controller of endpoints.
pub(crate) static ENDPOINTS: Controller = Controller {
    name: legacy::NAME,
    wakes: &[
        Wake::on("", "services", crate::controller::itself),
        Wake::on("", "pods", services_of_pod),
        Wake::on("", "endpoints", service_of_endpoints),
    ],
    reconcile: legacy::reconcile,
};

/// The controller of slices that mirror endpoints; a key is that of the endpoints.
pub(crate) static MIRROR: Controller = Controller {
    name: mirror::NAME,
    wakes: &[
        Wake::on("", "endpoints", crate::controller::itself),
        Wake::on("", "services", endpoints_of_service),
        Wake::on("discovery.k8s.io", "endpointslices", endpoints_of_mirror),
    ],
    reconcile: mirror::reconcile,
};

/// The services whose endpoints a pod's change may change.
fn services_of_pod(world: &World, change: &Change) -> Vec<Key> {
    let mut keys = BTreeSet::new();
    let pods: Vec<_> = change.states().filter_map(Object::pod).collect();
    // A change that no endpoint shows wakes nobody: most status writes are of that sort.
    if let [before, after] = pods.as_slice()
        && before.metadata.labels == after.metadata.labels
        && shown(before) == shown(after)
    {
        return Vec::new();
    }
    for pod in pods {
        for (key, object) in world.in_namespace(&SERVICES, pod.metadata.namespace_str()) {
            let Object::Service(service) = object else { continue };
            if selector(service)
                .is_some_and(|pairs| crate::selector::contains(pairs, pod.metadata.labels.as_ref()))
            {
                keys.insert(key.clone());
            }
        }
    }
    keys.into_iter().collect()
}

/// All of a pod that an endpoint may show.
fn shown(pod: &Pod) -> (Vec<String>, bool, bool, bool, Option<&str>) {
    (addresses(pod), pods::is_ready(pod), pod.metadata.is_deleting(), pods::is_terminal(pod), pods::node(pod))
}

fn service_of_slice(_: &World, change: &Change) -> Vec<Key> {
    change
        .states()
        .filter_map(|object| {
            Some(key(SERVICES, object.meta().namespace_str(), object.meta().label(slices::SERVICE)?))
        })
        .collect()
}

fn service_of_endpoints(_: &World, change: &Change) -> Vec<Key> {
    vec![Key { resource: SERVICES, ..change.key.clone() }]
}

fn endpoints_of_service(_: &World, change: &Change) -> Vec<Key> {
    vec![endpoints_key(&change.key)]
}

fn endpoints_of_mirror(_: &World, change: &Change) -> Vec<Key> {
    let mirrors = change.states().map(Object::meta).filter(|meta| mirror::is_mirror(meta));
    mirrors
        .filter_map(|meta| Some(key(ENDPOINTS_KIND, meta.namespace_str(), meta.label(slices::SERVICE)?)))
        .collect()
}

/// The selector of a service whose endpoints are ours to keep.
fn selector(service: &Service) -> Option<&crate::selector::Labels> {
    let spec = service.spec.as_ref().filter(|spec| spec.type_.as_deref() != Some("ExternalName"))?;
    spec.selector.as_ref().filter(|selector| !selector.is_empty())
}

fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some("None")
}

/// A pod that answers for a service.
struct Member<'a> {
    pod: &'a Pod,
    /// All of its addresses.
    addresses: Vec<String>,
    /// It is ready, or was before it began to end.
    serving: bool,
    terminating: bool,
    /// Its name below the service's, if it asked for one.
    hostname: Option<String>,
    /// All ports of the service.
    service_ports: &'a [ServicePort],
    /// Which of them (by index) this pod has, and by what number.
    numbers: Vec<(usize, i32)>,
}

impl<'a> Member<'a> {
    /// Ports of the service, with the numbers they have on this pod.
    fn ports(&self) -> impl Iterator<Item = (&'a ServicePort, i32)> {
        self.numbers.iter().map(|(at, number)| (&self.service_ports[*at], *number))
    }
}

/// The pods that answer for a service, by name. Those without an address and those that ended do not.
fn members<'a>(world: &'a World, service: &'a Service) -> Vec<Member<'a>> {
    let (Some(selector), Some(spec)) = (selector(service), service.spec.as_ref()) else {
        return Vec::new();
    };
    let name = service.metadata.name_str();
    let service_ports = spec.ports.as_deref().unwrap_or_default();
    let pods = world.pods_labelled(service.metadata.namespace_str(), selector);
    pods.filter(|pod| !pods::is_terminal(pod))
        .filter_map(|pod| {
            let addresses = addresses(pod);
            let numbers =
                service_ports.iter().enumerate().filter_map(|(at, port)| Some((at, target(pod, port)?)));
            let own = pod.spec.as_ref();
            let below = own.and_then(|own| own.subdomain.as_deref()) == Some(name);
            (!addresses.is_empty()).then(|| Member {
                pod,
                addresses,
                serving: pods::is_ready(pod),
                terminating: pod.metadata.is_deleting(),
                hostname: own.and_then(|own| own.hostname.clone()).filter(|name| below && !name.is_empty()),
                service_ports,
                numbers: numbers.collect(),
            })
        })
        .collect()
}

fn addresses(pod: &Pod) -> Vec<String> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let many: Vec<String> = status.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect();
    if many.is_empty() { status.pod_ip.iter().filter(|ip| !ip.is_empty()).cloned().collect() } else { many }
}

/// The number of a service's port on a pod; none when the pod has no port of that name.
fn target(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    match &port.target_port {
        None | Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let containers = spec.containers.iter().chain(pods::sidecars(pod));
            let ports = containers.flat_map(|container| container.ports.iter().flatten());
            let mut named = ports.filter(|port| port.name.as_deref() == Some(name));
            named
                .find(|port| port.protocol.as_deref().unwrap_or("TCP") == protocol)
                .map(|port| port.container_port)
        }
    }
}

/// What an endpoint refers to its pod by.
fn target_ref(pod: &Pod) -> k8s_openapi::api::core::v1::ObjectReference {
    k8s_openapi::api::core::v1::ObjectReference {
        kind: Some("Pod".to_owned()),
        name: pod.metadata.name.clone(),
        namespace: pod.metadata.namespace.clone(),
        uid: pod.metadata.uid.clone(),
        ..Default::default()
    }
}

fn endpoints_key(at: &Key) -> Key {
    Key { resource: ENDPOINTS_KIND, ..at.clone() }
}
