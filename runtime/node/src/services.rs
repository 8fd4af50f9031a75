//! kube-proxy's part: from Services and EndpointSlices to the network's table.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::api::{
    core::v1::Service,
    discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice},
};
use runtime_net::{Endpoint, Protocol, ServicePort};

use crate::service_env;

type Key = (String, String);

/// The Services there are, with their EndpointSlices.
#[derive(Debug, Default)]
pub(crate) struct Services(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    services: BTreeMap<Key, Arc<Service>>,
    /// By namespace and the Service's name, then by the slice's name.
    slices: BTreeMap<Key, BTreeMap<String, Arc<EndpointSlice>>>,
    /// To which Service a slice belongs.
    owners: BTreeMap<Key, String>,
}

/// What is to be done to the network's table.
#[derive(Debug)]
pub(crate) enum Change {
    Upsert(Box<runtime_net::Service>),
    Remove(String, String),
    Nothing,
}

impl Services {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn put(&self, service: Arc<Service>) -> Change {
        let key = key(&service.metadata);
        let mut tables = self.lock();
        tables.services.insert(key.clone(), service);
        tables.change(&key)
    }

    pub(crate) fn remove(&self, namespace: &str, name: &str) -> Change {
        let key = (namespace.to_owned(), name.to_owned());
        self.lock().services.remove(&key);
        Change::Remove(key.0, key.1)
    }

    /// What changes for the Service that the slice was of, and for the one it is of.
    pub(crate) fn put_slice(&self, slice: Arc<EndpointSlice>) -> [Change; 2] {
        let labels = slice.metadata.labels.as_ref();
        let owner = labels.and_then(|labels| labels.get("kubernetes.io/service-name")).cloned();
        let (namespace, name) = key(&slice.metadata);
        let mut tables = self.lock();
        let slice_key = (namespace, name);
        let before = match tables.owners.get(&slice_key) {
            before if before == owner.as_ref() => Change::Nothing,
            _ => tables.remove_slice(&slice_key),
        };
        let Some(owner) = owner else { return [before, Change::Nothing] };
        tables.owners.insert(slice_key.clone(), owner.clone());
        let key = (slice_key.0, owner);
        tables.slices.entry(key.clone()).or_default().insert(slice_key.1, slice);
        [before, tables.change(&key)]
    }

    pub(crate) fn remove_slice(&self, namespace: &str, name: &str) -> Change {
        self.lock().remove_slice(&(namespace.to_owned(), name.to_owned()))
    }

    /// The object of a Service, for an event about it.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<Service>> {
        self.lock().services.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// The environment variables that tell a pod of Services: the API's always, those of its namespace if it wants.
    pub(crate) fn variables(&self, namespace: &str, links: bool) -> Vec<(String, String)> {
        let tables = self.lock();
        let mut all = Vec::new();
        if let Some(service) = tables.services.get(&("default".to_owned(), "kubernetes".to_owned())) {
            service_env::variables(service, &mut all);
        }
        if links {
            let from = (namespace.to_owned(), String::new());
            let own = tables.services.range(from..).take_while(|((of, _), _)| of == namespace);
            for (_, service) in
                own.filter(|((of, name), _)| (of.as_str(), name.as_str()) != ("default", "kubernetes"))
            {
                service_env::variables(service, &mut all);
            }
        }
        all
    }
}

fn key(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Key {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

impl Tables {
    fn remove_slice(&mut self, slice: &Key) -> Change {
        let Some(owner) = self.owners.remove(slice) else { return Change::Nothing };
        let key = (slice.0.clone(), owner);
        if let Some(slices) = self.slices.get_mut(&key) {
            slices.remove(&slice.1);
            if slices.is_empty() {
                self.slices.remove(&key);
            }
        }
        self.change(&key)
    }

    fn change(&self, key: &Key) -> Change {
        match self.services.get(key) {
            Some(service) => Change::Upsert(Box::new(table_entry(
                service,
                self.slices.get(key).into_iter().flat_map(BTreeMap::values),
            ))),
            None => Change::Nothing,
        }
    }
}

/// A Service as the network needs it.
fn table_entry<'a>(
    service: &Service,
    slices: impl Iterator<Item = &'a Arc<EndpointSlice>> + Clone,
) -> runtime_net::Service {
    let (namespace, name) = key(&service.metadata);
    let spec = service.spec.clone().unwrap_or_default();
    let cluster_ip: Option<IpAddr> = spec.cluster_ip.as_deref().and_then(|ip| ip.parse().ok());
    let unready_too = spec.publish_not_ready_addresses.unwrap_or(false);
    let number = |port: i32| u16::try_from(port).unwrap_or(0);
    let mut ports: Vec<ServicePort> = Vec::new();
    for port in spec.ports.iter().flatten() {
        let protocol = match port.protocol.as_deref() {
            None | Some("TCP") => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            // The network carries no other; the API warns of it.
            Some(_) => continue,
        };
        let name = port.name.clone().unwrap_or_default();
        let endpoints = slices.clone().flat_map(|slice| of_port(slice, &name, unready_too)).collect();
        let node_port = port.node_port.map(number).filter(|port| *port > 0);
        ports.push(ServicePort { name, protocol, port: number(port.port), node_port, endpoints });
    }
    if ports.is_empty() && cluster_ip.is_none() {
        let endpoints = slices.flat_map(|slice| of_slice(slice, 0, unready_too)).collect();
        ports.push(ServicePort {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: 0,
            node_port: None,
            endpoints,
        });
    }
    let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let client = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
        let secs = client.and_then(|client| client.timeout_seconds).unwrap_or(10_800);
        Duration::from_secs(u64::try_from(secs).unwrap_or(10_800))
    });
    let external_name = spec.external_name.filter(|_| spec.type_.as_deref() == Some("ExternalName"));
    runtime_net::Service { namespace, name, cluster_ip, ports, session_affinity: affinity, external_name }
}

/// The endpoints of a slice behind the Service's port of this name.
fn of_port(slice: &EndpointSlice, port_name: &str, unready_too: bool) -> Vec<Endpoint> {
    let ports = slice.ports.iter().flatten();
    let port =
        ports.filter(|port| port.name.as_deref().unwrap_or_default() == port_name).find_map(|port| port.port);
    match port.and_then(|port| u16::try_from(port).ok()) {
        Some(port) => of_slice(slice, port, unready_too),
        None => Vec::new(),
    }
}

fn of_slice(slice: &EndpointSlice, port: u16, unready_too: bool) -> Vec<Endpoint> {
    let endpoints = slice.endpoints.iter().flatten();
    let each = |endpoint: &SliceEndpoint| {
        let conditions = endpoint.conditions.as_ref();
        let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
        let serving = conditions.and_then(|conditions| conditions.serving).unwrap_or(true);
        let terminating = conditions.and_then(|conditions| conditions.terminating).unwrap_or(false);
        Some(Endpoint {
            ip: endpoint.addresses.first()?.parse().ok()?,
            port,
            ready: ready || unready_too,
            draining: serving && terminating,
            hostname: endpoint.hostname.clone(),
        })
    };
    endpoints.filter_map(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    fn service(spec: serde_json::Value) -> Arc<Service> {
        let object = json!({"metadata": {"name": "web", "namespace": "n"}, "spec": spec});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn slice(name: &str, port: serde_json::Value, endpoints: &[(&str, bool)]) -> Arc<EndpointSlice> {
        let endpoints: Vec<_> = endpoints
            .iter()
            .map(|(ip, ready)| json!({"addresses": [ip], "conditions": {"ready": ready}}))
            .collect();
        let object = json!({
            "metadata": {"name": name, "namespace": "n", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "ports": [port], "endpoints": endpoints,
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn check(change: &Change, expect: Expect) {
        let text = match change {
            Change::Nothing => "nothing".to_owned(),
            Change::Remove(namespace, name) => format!("remove {namespace}/{name}"),
            Change::Upsert(service) => {
                let mut text = format!("{}/{} {:?}", service.namespace, service.name, service.cluster_ip);
                for port in &service.ports {
                    text += &format!("\n{:?} {} {:?}:", port.protocol, port.port, port.node_port);
                    for endpoint in &port.endpoints {
                        text += &format!(
                            " {}:{}{}",
                            endpoint.ip,
                            endpoint.port,
                            match (endpoint.ready, endpoint.draining) {
                                (true, _) => "",
                                (false, true) => "~",
                                (false, false) => "!",
                            }
                        );
                    }
                }
                text
            }
        };
        expect.assert_eq(&text);
    }

    /// A slice that has not moved.
    fn put_slice(services: &Services, slice: Arc<EndpointSlice>) -> Change {
        let [before, now] = services.put_slice(slice);
        assert!(matches!(before, Change::Nothing), "{before:?}");
        now
    }

    #[test]
    fn a_slice_that_changes_hands_leaves_its_old_service() {
        let services = Services::default();
        let spec = json!({"clusterIP": "10.96.0.9", "ports": [{"port": 80}]});
        services.put(service(spec));
        let mut moved = slice("a", json!({"name": "", "port": 8080}), &[("10.244.0.2", true)]);
        put_slice(&services, Arc::clone(&moved));
        let gone = expect![[r#"
            n/web Some(10.96.0.9)
            Tcp 80 None:"#]];
        let labels = Arc::make_mut(&mut moved).metadata.labels.as_mut().unwrap();
        labels.insert("kubernetes.io/service-name".to_owned(), "other".to_owned());
        let [before, now] = services.put_slice(Arc::clone(&moved));
        check(&before, gone);
        check(&now, expect!["nothing"]);
        Arc::make_mut(&mut moved).metadata.labels = None;
        let [before, now] = services.put_slice(moved);
        check(&before, expect!["nothing"]);
        check(&now, expect!["nothing"]);
        check(&services.remove_slice("n", "a"), expect!["nothing"]);
    }

    #[test]
    fn a_service_and_its_slices_meet_in_whatever_order_they_come() {
        let services = Services::default();
        let port = json!({"name": "", "port": 8080});
        check(&put_slice(&services, slice("a", port.clone(), &[("10.244.0.2", true)])), expect!["nothing"]);
        let spec = json!({"clusterIP": "10.96.0.9", "ports": [{"port": 80, "nodePort": 30080}]});
        check(
            &services.put(service(spec)),
            expect![[r#"
            n/web Some(10.96.0.9)
            Tcp 80 Some(30080): 10.244.0.2:8080"#]],
        );
        check(
            &put_slice(&services, slice("b", port, &[("10.244.0.3", false)])),
            expect![[r#"
            n/web Some(10.96.0.9)
            Tcp 80 Some(30080): 10.244.0.2:8080 10.244.0.3:8080!"#]],
        );
        check(
            &services.remove_slice("n", "a"),
            expect![[r#"
            n/web Some(10.96.0.9)
            Tcp 80 Some(30080): 10.244.0.3:8080!"#]],
        );
        check(&services.remove("n", "web"), expect!["remove n/web"]);
        check(&services.remove_slice("n", "b"), expect!["nothing"]);
    }

    #[test]
    fn an_endpoint_that_ends_but_serves_is_kept_apart() {
        let services = Services::default();
        services.put(service(json!({"clusterIP": "10.96.0.9", "ports": [{"port": 80}]})));
        let ending = |ip: &str, serving: bool| json!({"addresses": [ip], "conditions": {"ready": false, "serving": serving, "terminating": true}});
        let object = json!({
            "metadata": {"name": "a", "namespace": "n", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "ports": [{"name": "", "port": 8080}],
            "endpoints": [ending("10.244.0.2", true), ending("10.244.0.3", false)],
        });
        check(
            &put_slice(&services, serde_json::from_value(object).unwrap()),
            expect![[r#"
            n/web Some(10.96.0.9)
            Tcp 80 None: 10.244.0.2:8080~ 10.244.0.3:8080!"#]],
        );
    }

    #[test]
    fn a_headless_service_without_ports_has_its_endpoints_all_the_same() {
        let services = Services::default();
        let spec = json!({"clusterIP": "None", "publishNotReadyAddresses": true});
        services.put(service(spec));
        check(
            &put_slice(&services, slice("a", json!({}), &[("10.244.0.2", false)])),
            expect![[r#"
            n/web None
            Tcp 0 None: 10.244.0.2:0"#]],
        );
    }
}
