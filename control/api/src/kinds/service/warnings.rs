//! What a Service may ask for and does not get here.

use crate::kinds::unserved::{Row, row, tell, unless};
use crate::object;
use serde_json::Value;

/// Of a field that changes nothing.
const NO_EFFECT: &str = "accepted, and has no effect here yet";

const OF_SPEC: &[Row] = &[
    row("externalIPs", NO_EFFECT),
    row("loadBalancerIP", NO_EFFECT),
    row("loadBalancerClass", NO_EFFECT),
    row("loadBalancerSourceRanges", NO_EFFECT),
    unless(&["Cluster"], "externalTrafficPolicy", NO_EFFECT),
    unless(&["Cluster"], "internalTrafficPolicy", NO_EFFECT),
    row("trafficDistribution", NO_EFFECT),
    row("healthCheckNodePort", NO_EFFECT),
];

const OF_PORT: &[Row] = &[unless(&["TCP", "UDP"], "protocol", NO_EFFECT)];

/// Warnings for a Service.
pub(super) fn warnings(service: &Value) -> Vec<String> {
    let spec = &service["spec"];
    let mut told = Vec::new();
    OF_SPEC.iter().for_each(|row| tell(&mut told, spec, "spec", row));
    for (index, port) in object::list(spec, &["ports"]).iter().enumerate() {
        OF_PORT.iter().for_each(|row| tell(&mut told, port, &format!("spec.ports[{index}]"), row));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn what_has_no_effect_is_said_and_defaults_are_not() {
        let service = json!({ "spec": {
            "externalIPs": ["203.0.113.7"], "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Cluster",
            "trafficDistribution": "PreferClose", "ports": [{ "protocol": "TCP" }, { "protocol": "SCTP" }],
        } });
        expect![[r#"
            spec.externalIPs: accepted, and has no effect here yet
            spec.externalTrafficPolicy: accepted, and has no effect here yet
            spec.trafficDistribution: accepted, and has no effect here yet
            spec.ports[1].protocol: accepted, and has no effect here yet"#]]
        .assert_eq(&warnings(&service).join("\n"));
        let plain = json!({ "spec": {
            "type": "NodePort", "externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Cluster",
            "ports": [{ "protocol": "UDP", "nodePort": 30000 }], "loadBalancerIP": "", "externalIPs": [],
        } });
        assert!(warnings(&plain).is_empty());
    }
}
