//! Environment variables that tell a container of the Services there are.

use k8s_openapi::api::core::v1::Service;

/// The variables for one Service: host, ports, and Docker's link variables. A headless Service has none.
pub(crate) fn variables(service: &Service, into: &mut Vec<(String, String)>) {
    let Some(spec) = &service.spec else { return };
    let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else { return };
    let Some(ports) = spec.ports.as_deref().filter(|ports| !ports.is_empty()) else { return };
    let name = upper(service.metadata.name.as_deref().unwrap_or_default());
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    let mut push = |key: String, value: String| into.push((key, value));
    push(format!("{name}_SERVICE_HOST"), ip.to_owned());
    push(format!("{name}_SERVICE_PORT"), ports[0].port.to_string());
    for port in ports {
        if let Some(port_name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            push(format!("{name}_SERVICE_PORT_{}", upper(port_name)), port.port.to_string());
        }
    }
    for (index, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
        if index == 0 {
            push(format!("{name}_PORT"), url.clone());
        }
        let prefix = format!("{name}_PORT_{}_{}", port.port, protocol.to_uppercase());
        push(prefix.clone(), url);
        push(format!("{prefix}_PROTO"), protocol.to_lowercase());
        push(format!("{prefix}_PORT"), port.port.to_string());
        push(format!("{prefix}_ADDR"), ip.to_owned());
    }
}

fn upper(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use k8s_openapi::api::core::v1::{ServicePort, ServiceSpec};

    #[test]
    fn a_service_becomes_variables() {
        let mut service = Service::default();
        service.metadata.name = Some("redis-primary".to_owned());
        let port = ServicePort { name: Some("db".to_owned()), port: 6379, ..ServicePort::default() };
        let spec = ServiceSpec {
            cluster_ip: Some("10.96.0.11".to_owned()),
            ports: Some(vec![port]),
            ..ServiceSpec::default()
        };
        service.spec = Some(spec);
        let mut all = Vec::new();
        variables(&service, &mut all);
        let text: String = all.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        expect![[r#"
            REDIS_PRIMARY_SERVICE_HOST=10.96.0.11
            REDIS_PRIMARY_SERVICE_PORT=6379
            REDIS_PRIMARY_SERVICE_PORT_DB=6379
            REDIS_PRIMARY_PORT=tcp://10.96.0.11:6379
            REDIS_PRIMARY_PORT_6379_TCP=tcp://10.96.0.11:6379
            REDIS_PRIMARY_PORT_6379_TCP_PROTO=tcp
            REDIS_PRIMARY_PORT_6379_TCP_PORT=6379
            REDIS_PRIMARY_PORT_6379_TCP_ADDR=10.96.0.11
        "#]]
        .assert_eq(&text);
        service.spec.as_mut().unwrap().cluster_ip = Some("None".to_owned());
        let mut none = Vec::new();
        variables(&service, &mut none);
        assert_eq!(none, []);
    }
}
