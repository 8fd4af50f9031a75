//! The subsets of endpoints: which addresses offer which ports, in as few subsets as say it.
//!
//! Ports that are offered by the same addresses share a subset, so an address may stand in several. Addresses are ordered
//! as upstream orders them, by the text of the IP. Upstream orders ports and subsets by a hash; here ports are ordered by
//! name, and subsets by their first addresses.

use super::{Member, is_headless, target_ref};
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Service};
use std::collections::BTreeMap;

/// What tells ports apart: name, number, protocol, application protocol.
type Port<'a> = (&'a str, i32, &'a str, Option<&'a str>);

/// Packs the pods that answer for a service.
pub(super) fn pack(service: &Service, members: Vec<Member<'_>>) -> Vec<EndpointSubset> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let publish_not_ready = spec.publish_not_ready_addresses == Some(true);
    let is_v6 = spec.ip_families.iter().flatten().next().is_some_and(|family| family == "IPv6");
    let without_ports = spec.ports.as_ref().is_none_or(Vec::is_empty) && is_headless(spec);
    let members = members.iter().filter(|member| !member.terminating || publish_not_ready);
    let mut members: Vec<(&str, &Member<'_>)> = members
        .filter_map(|member| {
            Some((member.addresses.iter().find(|ip| ip.contains(':') == is_v6)?.as_str(), member))
        })
        .collect();
    members.sort_by_key(|(ip, member)| (*ip, member.pod.metadata.uid.as_deref()));

    // Members are told by their place in the list.
    let mut offered: BTreeMap<Port<'_>, Vec<usize>> = BTreeMap::new();
    for (at, (_, member)) in members.iter().enumerate() {
        for (port, number) in member.ports() {
            let port = (
                port.name.as_deref().unwrap_or_default(),
                number,
                port.protocol.as_deref().unwrap_or("TCP"),
                port.app_protocol.as_deref(),
            );
            offered.entry(port).or_default().push(at);
        }
    }
    let mut together: BTreeMap<Vec<usize>, Vec<EndpointPort>> = BTreeMap::new();
    for (port, by) in offered {
        together.entry(by).or_default().push(endpoint_port(port));
    }
    if without_ports && !members.is_empty() {
        together.insert((0..members.len()).collect(), Vec::new());
    }
    let subsets = together.into_iter().map(|(by, ports)| {
        let (ready, not_ready): (Vec<_>, Vec<_>) =
            by.into_iter().map(|at| members[at]).partition(|(_, member)| member.serving || publish_not_ready);
        let addresses = |members: Vec<(&str, &Member<'_>)>| {
            members.into_iter().map(|(ip, member)| address(ip, member)).collect::<Vec<_>>()
        };
        subset(addresses(ready), addresses(not_ready), ports)
    });
    subsets.collect()
}

fn subset(
    ready: Vec<EndpointAddress>,
    not_ready: Vec<EndpointAddress>,
    ports: Vec<EndpointPort>,
) -> EndpointSubset {
    EndpointSubset {
        addresses: (!ready.is_empty()).then_some(ready),
        not_ready_addresses: (!not_ready.is_empty()).then_some(not_ready),
        ports: (!ports.is_empty()).then_some(ports),
    }
}

fn endpoint_port((name, port, protocol, app_protocol): Port<'_>) -> EndpointPort {
    EndpointPort {
        name: (!name.is_empty()).then(|| name.to_owned()),
        port,
        protocol: Some(protocol.to_owned()),
        app_protocol: app_protocol.map(str::to_owned),
    }
}

fn address(ip: &str, member: &Member<'_>) -> EndpointAddress {
    EndpointAddress {
        ip: ip.to_owned(),
        hostname: member.hostname.clone(),
        node_name: crate::pods::node(member.pod).map(str::to_owned),
        target_ref: Some(target_ref(member.pod)),
    }
}

/// Leaves addresses out so that at most `full` stay, ready ones before others, of each subset in proportion. Whether it
/// had to.
pub(super) fn truncate(subsets: &mut Vec<EndpointSubset>, full: usize) -> bool {
    let count = |list: fn(&EndpointSubset) -> &Option<Vec<EndpointAddress>>| -> usize {
        subsets.iter().map(|subset| list(subset).as_ref().map_or(0, Vec::len)).sum()
    };
    let n_ready = count(|subset| &subset.addresses);
    let n_not_ready = count(|subset| &subset.not_ready_addresses);
    if n_ready + n_not_ready <= full {
        return false;
    }
    if n_ready > full {
        subsets.iter_mut().for_each(|subset| subset.not_ready_addresses = None);
        share(subsets.iter_mut().map(|subset| &mut subset.addresses), n_ready, full);
    } else {
        let rest = full - n_ready;
        share(subsets.iter_mut().map(|subset| &mut subset.not_ready_addresses), n_not_ready, rest);
    }
    subsets.retain(|subset| subset.addresses.is_some() || subset.not_ready_addresses.is_some());
    true
}

/// Cuts lists of `total` addresses to `room` addresses, each in proportion, rounded up as long as there is room.
fn share<'a>(lists: impl Iterator<Item = &'a mut Option<Vec<EndpointAddress>>>, total: usize, room: usize) {
    let mut left = room;
    for place in lists {
        let Some(list) = place else { continue };
        list.truncate((list.len() * room).div_ceil(total).min(left));
        left -= list.len();
        if list.is_empty() {
            *place = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::members;
    use super::*;
    use crate::object::SERVICES;
    use crate::testing::{add_pods, world};
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    /// A subset a line: ports, then addresses, `-` before those that are not ready.
    fn text(subsets: &[EndpointSubset]) -> String {
        let line = |subset: &EndpointSubset| {
            let ports = subset.ports.iter().flatten();
            let ports =
                ports.map(|port| format!("{}:{}", port.name.as_deref().unwrap_or_default(), port.port));
            let ready = subset.addresses.iter().flatten().map(|address| address.ip.clone());
            let others = subset.not_ready_addresses.iter().flatten();
            let others = others.map(|address| format!("-{}", address.ip));
            format!(
                "[{}] {}\n",
                ports.collect::<Vec<_>>().join(" "),
                ready.chain(others).collect::<Vec<_>>().join(" ")
            )
        };
        subsets.iter().map(line).collect()
    }

    fn check(spec: Value, pods: &str, expect: Expect) {
        let mut service = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec});
        service["spec"]["selector"] = json!({"app": "web"});
        let mut world = world(&[(SERVICES, service)]);
        add_pods(&mut world, pods);
        let service = world.service("default", "web").unwrap();
        expect.assert_eq(&text(&pack(service, members(&world, service))));
    }

    #[test]
    fn ready_pods_and_others_are_told_apart_and_ending_ones_left_out() {
        let pods = "a:ready app=web ip=1.1.1.1; b:running app=web ip=1.1.1.2; c:ready app=web ip=1.1.1.3 deleting; \
            d:pending app=web";
        let ports = json!([{"port": 80, "targetPort": 8080}]);
        check(
            json!({"ports": ports}),
            pods,
            expect![[r#"
            [:8080] 1.1.1.1 -1.1.1.2
        "#]],
        );
        check(
            json!({"ports": ports, "publishNotReadyAddresses": true}),
            pods,
            expect![[r#"
            [:8080] 1.1.1.1 1.1.1.2 1.1.1.3
        "#]],
        );
    }

    #[test]
    fn addresses_and_ports_are_in_order_whatever_the_pods_are_called() {
        check(
            json!({"ports": [{"name": "web", "port": 80}, {"name": "admin", "port": 81}]}),
            "a:ready app=web ip=1.1.1.9; b:ready app=web ip=1.1.1.2; c:ready app=web ip=1.1.1.10",
            expect![[r#"
                [admin:81 web:80] 1.1.1.10 1.1.1.2 1.1.1.9
            "#]],
        );
    }

    #[test]
    fn ports_of_the_same_addresses_share_a_subset() {
        check(
            json!({"ports": [{"name": "http", "port": 80, "targetPort": "http"}, {"name": "admin", "port": 9000}]}),
            "a:ready app=web port=http:80 ip=1.1.1.1; b:ready app=web port=http:81 ip=1.1.1.2; \
                c:running app=web port=http:80 ip=1.1.1.3; d:ready app=web ip=1.1.1.4",
            expect![[r#"
                [admin:9000] 1.1.1.1 1.1.1.2 1.1.1.4 -1.1.1.3
                [http:80] 1.1.1.1 -1.1.1.3
                [http:81] 1.1.1.2
            "#]],
        );
    }

    #[test]
    fn only_a_headless_service_needs_no_ports() {
        let pods = "a:ready app=web ip=1.1.1.2; b:ready app=web ip=1.1.1.1";
        check(
            json!({"clusterIP": "None"}),
            pods,
            expect![[r#"
            [] 1.1.1.1 1.1.1.2
        "#]],
        );
        check(json!({}), pods, expect![""]);
        let named = json!([{"port": 80, "targetPort": "http"}]);
        check(json!({"clusterIP": "None", "ports": named}), pods, expect![""]);
    }

    #[test]
    fn addresses_are_of_the_services_first_family() {
        check(
            json!({"ipFamilies": ["IPv6"], "ports": [{"port": 80}]}),
            "a:ready app=web ip=1.1.1.1",
            expect![""],
        );
        check(
            json!({"ipFamilies": ["IPv6"], "ports": [{"port": 80}]}),
            "a:ready app=web ip=fd00::1",
            expect![[r#"
                [:80] fd00::1
            "#]],
        );
    }

    #[test]
    fn what_is_too_much_is_left_out_in_proportion_and_ready_addresses_last() {
        let subsets = |sizes: &[(usize, usize)]| -> Vec<EndpointSubset> {
            let some = |n: usize| vec![EndpointAddress::default(); n];
            sizes.iter().map(|(ready, others)| subset(some(*ready), some(*others), Vec::new())).collect()
        };
        let check = |sizes: &[(usize, usize)], cut: bool, left: &[(usize, usize)]| {
            let mut cut_subsets = subsets(sizes);
            assert_eq!(truncate(&mut cut_subsets, 10), cut, "{sizes:?}");
            assert_eq!(cut_subsets, subsets(left), "{sizes:?}");
        };
        check(&[(5, 5)], false, &[(5, 5)]);
        check(&[(5, 6)], true, &[(5, 5)]);
        check(&[(4, 9), (2, 3)], true, &[(4, 3), (2, 1)]);
        check(&[(12, 3), (0, 4), (8, 1)], true, &[(6, 0), (4, 0)]);
        check(&[(7, 0), (7, 0), (1, 0)], true, &[(5, 0), (5, 0)]);
    }
}
