//! What others may ask of a node while it runs: its containers' output, and how many pods it holds.

use std::{
    fmt,
    sync::{Arc, PoisonError},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::{
    log_reader::{self, LogRequest, LogStream, LogsError},
    mounts::Places,
    spec,
    state::Run,
    worker::{Inner, PodEntry},
};

/// A way to ask a node for something; clones are cheap.
#[derive(Clone)]
pub struct NodeHandle {
    pub(crate) inner: Arc<Inner>,
}

impl fmt::Debug for NodeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeHandle").field("node", &self.inner.config.name).finish_non_exhaustive()
    }
}

impl NodeHandle {
    /// Opens a container's log.
    pub fn logs(&self, request: &LogRequest) -> Result<LogStream, LogsError> {
        let entry = self.inner.find(&request.namespace, &request.pod, &request.uid);
        let entry = entry.ok_or_else(|| LogsError::NotFound(request.pod.clone()))?;
        let (path, sink) = {
            let data = entry.lock();
            let index = choose_container(&data.pod, &request.container)?;
            let name = spec::container(&data.pod, index).map_or("", |container| container.name.as_str());
            let container = &data.state.containers[index];
            let places = Places::of(&self.inner.config, &data.pod);
            if request.previous {
                if container.restarts == 0 {
                    return Err(LogsError::BadRequest(format!(
                        "previous terminated container {name:?} in pod {:?} not found",
                        request.pod
                    )));
                }
                (places.log(name, container.restarts - 1), None)
            } else {
                let path = places.log(name, container.restarts);
                match &container.run {
                    Run::Waiting { .. } if container.last.is_some() && container.restarts > 0 => {
                        (places.log(name, container.restarts - 1), None)
                    }
                    Run::Waiting { reason, .. } if container.last.is_none() && container.restarts == 0 => {
                        let reason = if reason.is_empty() { "ContainerCreating" } else { reason };
                        return Err(LogsError::BadRequest(format!(
                            "container {name:?} in pod {:?} is waiting to start: {reason}",
                            request.pod
                        )));
                    }
                    _ => (path, data.handles[index].as_ref().map(|handle| Arc::clone(&handle.sink))),
                }
            }
        };
        Ok(log_reader::read(path, sink, request, Timestamp::now())?)
    }

    /// How many pods the node holds.
    pub fn pods(&self) -> usize {
        self.inner.entries().len()
    }
}

fn choose_container(pod: &Pod, name: &str) -> Result<usize, LogsError> {
    let mains = spec::n_init(pod)..;
    let names: Vec<&str> = spec::containers(pod).map(|container| container.name.as_str()).collect();
    if name.is_empty() {
        let mains: Vec<&str> = names.iter().copied().skip(mains.start).collect();
        return match mains.as_slice() {
            [_] => Ok(names.len() - 1),
            _ => Err(LogsError::BadRequest(format!(
                "a container name must be specified for pod {}, choose one of: [{}]",
                spec::name(pod),
                mains.join(" ")
            ))),
        };
    }
    names.iter().position(|other| *other == name).ok_or_else(|| {
        LogsError::BadRequest(format!("container {name} is not valid for pod {}", spec::name(pod)))
    })
}

impl Inner {
    fn find(&self, namespace: &str, name: &str, uid: &str) -> Option<Arc<PodEntry>> {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        if !uid.is_empty() {
            return pods.get(uid).cloned();
        }
        let is_it = |entry: &&Arc<PodEntry>| {
            let data = entry.lock();
            spec::namespace(&data.pod) == namespace && spec::name(&data.pod) == name
        };
        pods.values().find(is_it).cloned()
    }
}
