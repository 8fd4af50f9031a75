//! Update of an object, and through its subresources.

use crate::options::WriteOptions;
use crate::registry::{Registry, Written, unsaved};
use control_api::validate::FieldError;
use control_api::write::{self, Prepared};
use control_api::{ApiError, Reason, Resource, Subresource, object};
use serde_json::{Value, json};

/// What of an object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// All but the status.
    Main,
    /// The status alone.
    Status,
    /// Replicas, through a Scale.
    Scale,
    /// A Pod's node, through a Binding.
    Binding,
    /// `spec.finalizers` of a Namespace.
    Finalize,
}

impl Target {
    /// From a path; a kind that has no such subresource has no such path.
    pub(crate) fn parse(resource: &Resource, subresource: Option<&str>) -> Result<Self, ApiError> {
        let target = match subresource {
            None => return Ok(Self::Main),
            Some("finalize") if crate::namespace::is_namespace(resource) => return Ok(Self::Finalize),
            Some(text) => match Subresource::parse(text).filter(|one| resource.has(*one)) {
                Some(Subresource::Status) => Self::Status,
                Some(Subresource::Scale) => Self::Scale,
                Some(Subresource::Binding) => Self::Binding,
                Some(Subresource::Log) | None => return Err(ApiError::no_such_path()),
            },
        };
        Ok(target)
    }
}

impl Registry {
    /// Replaces an object, or what a subresource stands for. An object that names a resource version is written only
    /// over that one.
    pub async fn update(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        subresource: Option<&str>,
        new: Value,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        let target = Target::parse(resource, subresource)?;
        let context = self.context(namespace, &options.manager);
        if matches!(target, Target::Main | Target::Status) {
            check_conditional(resource, name, &new)?;
        }
        let decide = |old: &Value| self.prepare(resource, target, new.clone(), old, &context);
        match self.modify(resource, namespace, name, options, decide).await {
            Err(error) if error.reason == Reason::NotFound && names_another(target, &new) => {
                let why = format!(
                    "Precondition failed: UID in precondition: {}, UID in object meta: ",
                    object::uid(&new)
                );
                Err(ApiError::conflict(&resource.group, &resource.plural, name, &why))
            }
            Err(error) if error.reason == Reason::NotFound && is_creating(resource, target, name, &new) => {
                let mut new = new;
                object::meta_mut(&mut new).remove("resourceVersion");
                self.create_once(resource, namespace, new, options).await
            }
            outcome => Ok(shown(target, outcome?)),
        }
    }

    /// Assigns a Pod to a node, as a `v1` Binding does. An empty uid means any.
    pub async fn bind(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        node: &str,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        let pods = self.resources().by_plural("", "v1", "pods").ok_or_else(ApiError::no_such_path)?;
        let mut binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": { "name": name, "namespace": namespace },
            "target": { "apiVersion": "v1", "kind": "Node", "name": node },
        });
        if !uid.is_empty() {
            binding["metadata"]["uid"] = uid.into();
        }
        self.update(pods, Some(namespace), name, Some("binding"), binding, options).await
    }

    /// The object that a write of `new` to a target makes of `old`.
    pub(crate) fn prepare(
        &self,
        resource: &Resource,
        target: Target,
        new: Value,
        old: &Value,
        context: &write::WriteContext,
    ) -> Result<Prepared, ApiError> {
        let (subresource, new) = match target {
            Target::Main => (None, new),
            Target::Status => (Some(Subresource::Status), new),
            Target::Scale => {
                let scaled = write::apply_scale(&resource.group, &resource.plural, old, &new)?;
                (Some(Subresource::Scale), scaled)
            }
            Target::Binding => (Some(Subresource::Binding), write::apply_binding(old, &new, context.now)?),
            Target::Finalize => return finalize(resource, &new, old),
        };
        check_version(resource, &new, old)?;
        write::prepare_update(self.resources(), resource, subresource, new, old, context)
    }
}

/// Whether an update of what is not there is of an object that was: its uid is a precondition, as upstream has it. That
/// of a Binding is looked at when its pod has been found.
fn names_another(target: Target, new: &Value) -> bool {
    target != Target::Binding && !object::uid(new).is_empty()
}

/// Whether an update of what is not there makes it.
fn is_creating(resource: &Resource, target: Target, name: &str, new: &Value) -> bool {
    resource.strategy.create_on_update && target == Target::Main && object::name(new) == name
}

/// Refuses an update that names no resource version, for kinds that insist on one.
fn check_conditional(resource: &Resource, name: &str, new: &Value) -> Result<(), ApiError> {
    if resource.strategy.unconditional_update || !matches!(object::resource_version(new), "" | "0") {
        return Ok(());
    }
    // Upstream prints a number in hexadecimal here, and names the resource in the place of the kind.
    let fault = FieldError::invalid("metadata.resourceVersion", 0, "must be specified for an update");
    let mut error = ApiError::invalid(&resource.group, &resource.plural, name, &[fault]);
    error.message = error.message.replace("Invalid value: 0:", "Invalid value: 0x0:");
    for cause in error.details.iter_mut().flat_map(|details| &mut details.causes) {
        cause.message = cause.message.replace("Invalid value: 0:", "Invalid value: 0x0:");
    }
    Err(error)
}

/// What the client gets to see of a write.
pub(crate) fn shown(target: Target, written: Written) -> Written {
    if target != Target::Scale {
        return written;
    }
    let stored = &written.object;
    let scale = unsaved(stored.key.clone(), stored.revision, &write::scale_of(&stored.value()));
    Written { object: scale, ..written }
}

/// Refuses a write that was decided on another state.
fn check_version(resource: &Resource, new: &Value, old: &Value) -> Result<(), ApiError> {
    let asked = object::resource_version(new);
    if asked.is_empty() || asked == "0" || asked == object::resource_version(old) {
        return Ok(());
    }
    Err(ApiError::modified(&resource.group, &resource.plural, object::name(old)))
}

/// Only `spec.finalizers` changes; whether the namespace ends by it is decided with every other update.
fn finalize(resource: &Resource, new: &Value, old: &Value) -> Result<Prepared, ApiError> {
    if object::name(new) != object::name(old) {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            object::name(new),
            object::name(old)
        )));
    }
    let uid = object::uid(new);
    if !uid.is_empty() && uid != object::uid(old) {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            object::uid(old)
        );
        return Err(ApiError::conflict(&resource.group, &resource.plural, object::name(old), &why));
    }
    check_version(resource, new, old)?;
    let mut object = old.clone();
    let spec = object::map_mut(&mut object, &["spec"]);
    match object::list(new, &["spec", "finalizers"]) {
        [] => spec.remove("finalizers"),
        finalizers => spec.insert("finalizers".to_owned(), finalizers.into()),
    };
    Ok(Prepared { object, warnings: Vec::new() })
}
