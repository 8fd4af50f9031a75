//! Columns of kinds that hold data: ConfigMap, Secret, ServiceAccount, Lease; and of Namespace.

use super::cells::{AGE, NAME, text};
use crate::object;
use crate::resource::Column;
use serde_json::Value;

/// Columns of Namespace.
pub const NAMESPACE: &[Column] = &[
    NAME,
    text("Status", "The status of the namespace", |namespace, _| {
        object::text(namespace, &["status", "phase"]).into()
    }),
    AGE,
];

/// Columns of ConfigMap.
pub const CONFIG_MAP: &[Column] = &[
    NAME,
    text(
        "Data",
        "Data contains the configuration data. Each key must consist of alphanumeric characters, '-', '_' or '.'. \
         Values with non-UTF-8 byte sequences must use the BinaryData field. The keys stored in Data must not \
         overlap with the keys in the BinaryData field, this is enforced during validation process.",
        |config_map, _| (count(config_map, "data") + count(config_map, "binaryData")).into(),
    ),
    AGE,
];

/// Columns of Secret.
pub const SECRET: &[Column] = &[
    NAME,
    text(
        "Type",
        "Used to facilitate programmatic handling of secret data. More info: \
         https://kubernetes.io/docs/concepts/configuration/secret/#secret-types",
        |secret, _| object::text(secret, &["type"]).into(),
    ),
    text(
        "Data",
        "Data contains the secret data. Each key must consist of alphanumeric characters, '-', '_' or '.'. The \
         serialized form of the secret data is a base64 encoded string, representing the arbitrary (possibly \
         non-string) data value here. Described in https://tools.ietf.org/html/rfc4648#section-4",
        |secret, _| count(secret, "data").into(),
    ),
    AGE,
];

/// Columns of ServiceAccount.
pub const SERVICE_ACCOUNT: &[Column] = &[
    NAME,
    text(
        "Secrets",
        "Secrets is a list of the secrets in the same namespace that pods running using this ServiceAccount are \
         allowed to use. More info: https://kubernetes.io/docs/concepts/configuration/secret",
        |account, _| object::list(account, &["secrets"]).len().into(),
    ),
    AGE,
];

/// Columns of Lease.
pub const LEASE: &[Column] = &[
    NAME,
    text("Holder", "holderIdentity contains the identity of the holder of a current lease.", |lease, _| {
        object::text(lease, &["spec", "holderIdentity"]).into()
    }),
    AGE,
];

fn count(object: &Value, field: &str) -> usize {
    object::map(object, &[field]).map_or(0, serde_json::Map::len)
}
