//! How lists of built-in types are patched and applied, as upstream's OpenAPI document for v1.36 says.
//!
//! A list that is not here is replaced by a patch and atomic to server-side apply. Strategic merge and server-side
//! apply need *different* keys for the same list: `ports` has `containerPort` against `containerPort` and `protocol`.

/// What strategic merge patch does with a field.
#[derive(Debug, Clone, Copy)]
pub(super) enum Patch {
    /// Replaces it.
    Replace,
    /// Merges lists of objects that have the same value under this key.
    Merge(&'static str),
    /// Merges lists of scalars.
    MergeScalars,
    /// Merges, and drops keys of an element that the patch does not retain.
    MergeRetainingKeys(&'static str),
    /// Drops keys of the object that the patch does not retain.
    RetainKeys,
}

/// What server-side apply does with a list.
#[derive(Debug, Clone, Copy)]
pub(super) enum Apply {
    /// Takes it as a whole.
    Atomic,
    /// Takes each scalar by itself.
    Set,
    /// Takes each object by itself, told apart by these keys.
    Map(&'static [&'static str]),
}

/// One field: type, field, patch, apply.
pub(super) type Row = (&'static str, &'static str, Patch, Apply);

/// The fields with facts. `core.v1.PodSpec` is `io.k8s.api.core.v1.PodSpec`, `meta.v1.` is upstream's meta group.
pub(super) const FIELDS: &[Row] = &[
    ("apps.v1.DeploymentSpec", "strategy", Patch::RetainKeys, Apply::Atomic),
    ("apps.v1.DeploymentStatus", "conditions", Patch::Merge("type"), Apply::Map(&["type"])),
    ("apps.v1.ReplicaSetStatus", "conditions", Patch::Merge("type"), Apply::Map(&["type"])),
    ("core.v1.Container", "env", Patch::Merge("name"), Apply::Map(&["name"])),
    ("core.v1.Container", "ports", Patch::Merge("containerPort"), Apply::Map(&["containerPort", "protocol"])),
    ("core.v1.Container", "volumeDevices", Patch::Merge("devicePath"), Apply::Map(&["devicePath"])),
    ("core.v1.Container", "volumeMounts", Patch::Merge("mountPath"), Apply::Map(&["mountPath"])),
    ("core.v1.ContainerRestartRuleOnExitCodes", "values", Patch::Replace, Apply::Set),
    ("core.v1.ContainerStatus", "allocatedResourcesStatus", Patch::Merge("name"), Apply::Map(&["name"])),
    ("core.v1.ContainerStatus", "volumeMounts", Patch::Merge("mountPath"), Apply::Map(&["mountPath"])),
    ("core.v1.EphemeralContainer", "env", Patch::Merge("name"), Apply::Map(&["name"])),
    (
        "core.v1.EphemeralContainer",
        "ports",
        Patch::Merge("containerPort"),
        Apply::Map(&["containerPort", "protocol"]),
    ),
    ("core.v1.EphemeralContainer", "volumeDevices", Patch::Merge("devicePath"), Apply::Map(&["devicePath"])),
    ("core.v1.EphemeralContainer", "volumeMounts", Patch::Merge("mountPath"), Apply::Map(&["mountPath"])),
    ("core.v1.NamespaceStatus", "conditions", Patch::Merge("type"), Apply::Map(&["type"])),
    ("core.v1.NodeAllocatableResourceClaimStatus", "containers", Patch::Replace, Apply::Set),
    ("core.v1.NodeSpec", "podCIDRs", Patch::MergeScalars, Apply::Set),
    ("core.v1.NodeStatus", "addresses", Patch::Merge("type"), Apply::Map(&["type"])),
    ("core.v1.NodeStatus", "conditions", Patch::Merge("type"), Apply::Map(&["type"])),
    ("core.v1.PodSpec", "containers", Patch::Merge("name"), Apply::Map(&["name"])),
    ("core.v1.PodSpec", "ephemeralContainers", Patch::Merge("name"), Apply::Map(&["name"])),
    ("core.v1.PodSpec", "hostAliases", Patch::Merge("ip"), Apply::Map(&["ip"])),
    ("core.v1.PodSpec", "imagePullSecrets", Patch::Merge("name"), Apply::Map(&["name"])),
    ("core.v1.PodSpec", "initContainers", Patch::Merge("name"), Apply::Map(&["name"])),
    ("core.v1.PodSpec", "resourceClaims", Patch::MergeRetainingKeys("name"), Apply::Map(&["name"])),
    ("core.v1.PodSpec", "schedulingGates", Patch::Merge("name"), Apply::Map(&["name"])),
    (
        "core.v1.PodSpec",
        "topologySpreadConstraints",
        Patch::Merge("topologyKey"),
        Apply::Map(&["topologyKey", "whenUnsatisfiable"]),
    ),
    ("core.v1.PodSpec", "volumes", Patch::MergeRetainingKeys("name"), Apply::Map(&["name"])),
    ("core.v1.PodStatus", "conditions", Patch::Merge("type"), Apply::Map(&["type"])),
    ("core.v1.PodStatus", "hostIPs", Patch::Merge("ip"), Apply::Atomic),
    ("core.v1.PodStatus", "podIPs", Patch::Merge("ip"), Apply::Map(&["ip"])),
    ("core.v1.PodStatus", "resourceClaimStatuses", Patch::MergeRetainingKeys("name"), Apply::Map(&["name"])),
    ("core.v1.ResourceRequirements", "claims", Patch::Replace, Apply::Map(&["name"])),
    ("core.v1.ResourceStatus", "resources", Patch::Replace, Apply::Map(&["resourceID"])),
    ("core.v1.ServiceAccount", "secrets", Patch::Merge("name"), Apply::Map(&["name"])),
    ("core.v1.ServiceSpec", "ports", Patch::Merge("port"), Apply::Map(&["port", "protocol"])),
    ("core.v1.ServiceStatus", "conditions", Patch::Merge("type"), Apply::Map(&["type"])),
    ("discovery.v1.Endpoint", "addresses", Patch::Replace, Apply::Set),
    ("meta.v1.ObjectMeta", "finalizers", Patch::MergeScalars, Apply::Set),
    ("meta.v1.ObjectMeta", "ownerReferences", Patch::Merge("uid"), Apply::Map(&["uid"])),
];

/// Types that server-side apply takes as a whole.
pub(super) const ATOMIC_TYPES: &[&str] = &[
    "core.v1.ConfigMapKeySelector",
    "core.v1.EndpointAddress",
    "core.v1.EndpointPort",
    "core.v1.FileKeySelector",
    "core.v1.LocalObjectReference",
    "core.v1.NodeSelector",
    "core.v1.NodeSelectorTerm",
    "core.v1.ObjectFieldSelector",
    "core.v1.ObjectReference",
    "core.v1.ResourceFieldSelector",
    "core.v1.SecretKeySelector",
    "core.v1.TypedLocalObjectReference",
    "discovery.v1.EndpointPort",
    "meta.v1.LabelSelector",
    "meta.v1.OwnerReference",
];

/// Maps that server-side apply takes as a whole.
pub(super) const ATOMIC_MAPS: &[(&str, &str)] =
    &[("core.v1.PodSpec", "nodeSelector"), ("core.v1.ServiceSpec", "selector")];
