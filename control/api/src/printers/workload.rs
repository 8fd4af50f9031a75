//! Columns of Deployment and ReplicaSet.

use super::cells::{AGE, CONTAINERS, IMAGES, NAME, integer, number, selector, text, wide};
use crate::resource::Column;

/// Columns of Deployment.
pub const DEPLOYMENT: &[Column] = &[
    NAME,
    text("Ready", "Number of the pod with ready state", |deployment, _| {
        let ready = number(deployment, &["status", "readyReplicas"]);
        format!("{ready}/{}", number(deployment, &["spec", "replicas"])).into()
    }),
    text(
        "Up-to-date",
        "Total number of non-terminating pods targeted by this deployment that have the desired template spec.",
        |deployment, _| number(deployment, &["status", "updatedReplicas"]).into(),
    ),
    text(
        "Available",
        "Total number of available non-terminating pods (ready for at least minReadySeconds) targeted by this \
         deployment.",
        |deployment, _| number(deployment, &["status", "availableReplicas"]).into(),
    ),
    AGE,
    CONTAINERS,
    IMAGES,
    wide(text(
        "Selector",
        "Label selector for pods. Existing ReplicaSets whose pods are selected by this will be the ones affected by \
         this deployment.",
        |deployment, _| selector(deployment, &["spec", "selector"]),
    )),
];

/// Columns of ReplicaSet.
pub const REPLICA_SET: &[Column] = &[
    NAME,
    integer(
        "Desired",
        "Replicas is the number of desired pods. This is a pointer to distinguish between explicit zero and \
         unspecified. Defaults to 1. More info: \
         https://kubernetes.io/docs/concepts/workloads/controllers/replicaset",
        |set, _| number(set, &["spec", "replicas"]).into(),
    ),
    integer(
        "Current",
        "Replicas is the most recently observed number of non-terminating pods. More info: \
         https://kubernetes.io/docs/concepts/workloads/controllers/replicaset",
        |set, _| number(set, &["status", "replicas"]).into(),
    ),
    integer(
        "Ready",
        "The number of non-terminating pods targeted by this ReplicaSet with a Ready Condition.",
        |set, _| number(set, &["status", "readyReplicas"]).into(),
    ),
    AGE,
    CONTAINERS,
    IMAGES,
    wide(text(
        "Selector",
        "Selector is a label query over pods that should match the replica count. More info: \
         https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors",
        |set, _| selector(set, &["spec", "selector"]),
    )),
];
