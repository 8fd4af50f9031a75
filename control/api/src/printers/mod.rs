//! In preparation.

use crate::resource::Column;

/// Columns of Namespaces.
pub const NAMESPACE: &[Column] = &[];
/// Columns of Pods.
pub const POD: &[Column] = &[];
/// Columns of Nodes.
pub const NODE: &[Column] = &[];
/// Columns of ConfigMaps.
pub const CONFIG_MAP: &[Column] = &[];
/// Columns of Secrets.
pub const SECRET: &[Column] = &[];
/// Columns of Services.
pub const SERVICE: &[Column] = &[];
/// Columns of Endpoints.
pub const ENDPOINTS: &[Column] = &[];
/// Columns of EndpointSlices.
pub const ENDPOINT_SLICE: &[Column] = &[];
/// Columns of ServiceAccounts.
pub const SERVICE_ACCOUNT: &[Column] = &[];
/// Columns of Events.
pub const EVENT: &[Column] = &[];
/// Columns of Deployments.
pub const DEPLOYMENT: &[Column] = &[];
/// Columns of ReplicaSets.
pub const REPLICA_SET: &[Column] = &[];
/// Columns of Leases.
pub const LEASE: &[Column] = &[];
/// Columns of all other kinds.
pub const DEFAULT: &[Column] = &[];
