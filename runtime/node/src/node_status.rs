//! The Node object's status. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ContainerImage, NodeAddress, NodeCondition, NodeStatus, NodeSystemInfo},
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::Time},
};
use runtime_images::ImageRecord;

use crate::config::NodeConfig;

/// The release whose behaviour the node has.
const KUBELET_VERSION: &str = "v1.36.0";

/// What the node measures of itself.
#[derive(Clone, Debug)]
pub(crate) struct Measured<'a> {
    /// When the node began: its conditions hold since then.
    pub(crate) began: Timestamp,
    pub(crate) now: Timestamp,
    /// How many guests the engine can hold at once.
    pub(crate) max_guests: u32,
    /// The size of the disk that logs and volumes lie on; 0 if it is not known.
    pub(crate) disk_bytes: u64,
    pub(crate) images: &'a [ImageRecord],
}

/// The node's status.
pub(crate) fn node_status(config: &NodeConfig, measured: &Measured<'_>) -> NodeStatus {
    let machine = &config.machine;
    let pods = config.max_pods.min(measured.max_guests);
    let quantity = |text: String| Quantity(text);
    let mut capacity = BTreeMap::from([
        ("cpu".to_owned(), quantity(cpu(machine.cpu_millis))),
        ("ephemeral-storage".to_owned(), quantity(format!("{}Ki", measured.disk_bytes / 1024))),
        ("memory".to_owned(), quantity(format!("{}Ki", machine.memory_bytes / 1024))),
        ("pods".to_owned(), quantity(pods.to_string())),
    ]);
    capacity.extend(machine.extended.iter().map(|(name, value)| (name.clone(), quantity(value.clone()))));
    let condition = |type_: &str, status: &str, reason: &str, message: String| NodeCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_heartbeat_time: Some(Time(measured.now)),
        last_transition_time: Some(Time(measured.began)),
    };
    let ready = if measured.max_guests < config.max_pods {
        format!(
            "kubelet is posting ready status. Room for {pods} pods: the kernel's vm.max_map_count bounds how many guests fit; raise it with: sysctl -w vm.max_map_count=1048576"
        )
    } else {
        "kubelet is posting ready status".to_owned()
    };
    NodeStatus {
        allocatable: Some(capacity.clone()),
        capacity: Some(capacity),
        addresses: Some(vec![
            NodeAddress { type_: "InternalIP".to_owned(), address: config.address.to_string() },
            NodeAddress { type_: "Hostname".to_owned(), address: config.name.clone() },
        ]),
        conditions: Some(vec![
            condition(
                "MemoryPressure",
                "False",
                "KubeletHasSufficientMemory",
                "kubelet has sufficient memory available".to_owned(),
            ),
            condition(
                "DiskPressure",
                "False",
                "KubeletHasNoDiskPressure",
                "kubelet has no disk pressure".to_owned(),
            ),
            condition(
                "PIDPressure",
                "False",
                "KubeletHasSufficientPID",
                "kubelet has sufficient PID available".to_owned(),
            ),
            condition("Ready", "True", "KubeletReady", ready),
        ]),
        images: Some(images(config, measured.images)),
        node_info: Some(NodeSystemInfo {
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            }
            .to_owned(),
            boot_id: machine.boot_id.clone(),
            container_runtime_version: "wasmtime://48".to_owned(),
            kernel_version: machine.kernel.clone(),
            kubelet_version: KUBELET_VERSION.to_owned(),
            machine_id: machine.machine_id.clone(),
            operating_system: "linux".to_owned(),
            os_image: machine.os_image.clone(),
            system_uuid: machine.machine_id.clone(),
            ..NodeSystemInfo::default()
        }),
        ..NodeStatus::default()
    }
}

fn cpu(millis: u64) -> String {
    if millis.is_multiple_of(1000) { (millis / 1000).to_string() } else { format!("{millis}m") }
}

/// The largest images first, as upstream lists them, and no more than a status should hold.
fn images(config: &NodeConfig, records: &[ImageRecord]) -> Vec<ContainerImage> {
    let mut records: Vec<&ImageRecord> = records.iter().collect();
    records.sort_by_key(|record| std::cmp::Reverse(record.size));
    let image = |record: &ImageRecord| ContainerImage {
        names: Some(vec![record.name.clone()]),
        size_bytes: i64::try_from(record.size).ok(),
    };
    records.into_iter().take(config.max_status_images).map(image).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_node_has_room_for_whatever_a_pod_may_ask_for() {
        let mut config = NodeConfig::new("node", "/var/lib/wharf");
        config.machine.cpu_millis = 1500;
        config.machine.memory_bytes = 4 << 30;
        config.machine.extended.insert("example.com/dongle".to_owned(), "4".to_owned());
        let now = Timestamp::UNIX_EPOCH;
        let measured = Measured { began: now, now, max_guests: 100, disk_bytes: 100 << 30, images: &[] };
        let status = node_status(&config, &measured);
        assert_eq!(status.capacity, status.allocatable);
        let capacity = status.capacity.unwrap();
        let lines: Vec<String> =
            capacity.iter().map(|(name, amount)| format!("{name} {}", amount.0)).collect();
        expect!["cpu 1500m, ephemeral-storage 104857600Ki, example.com/dongle 4, memory 4194304Ki, pods 100"]
            .assert_eq(&lines.join(", "));
    }
}
