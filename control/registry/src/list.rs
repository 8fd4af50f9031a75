//! List: at the present, at an exact revision, or page by page in one state of the world.

use crate::continue_token::ContinueToken;
use crate::options::{ListOptions, parse_revision};
use crate::registry::{Registry, key};
use crate::select::Selection;
use control_api::error::{Cause, Details};
use control_api::{ApiError, Reason, Resource};
use control_store::{Snapshot, Stored};
use std::sync::Arc;

/// Objects of a kind in one state of the world.
#[derive(Debug, Clone)]
pub struct List {
    /// The objects, ordered by namespace and name.
    pub items: Vec<Arc<Stored>>,
    /// The state: `metadata.resourceVersion` of the list.
    pub revision: u64,
    /// `metadata.continue`: how to ask for the rest.
    pub continue_token: Option<String>,
    /// `metadata.remainingItemCount`, where it is known.
    pub remaining: Option<u64>,
}

impl Registry {
    /// Lists the objects of a kind, in all namespaces or in one.
    pub fn list(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<List, ApiError> {
        options.check()?;
        let selection = Selection::parse(resource, &options.label_selector, &options.field_selector)?;
        let token = match options.continue_token.as_str() {
            "" => None,
            text => Some(ContinueToken::decode(text)?),
        };
        let snapshot = self.state_for_list(options, token.as_ref())?;
        let namespace = namespace.filter(|_| resource.is_namespaced());
        if let Some(only) = lookup(&snapshot, resource, namespace, &selection) {
            let items = only.into_iter().filter(|stored| selection.matches(stored)).collect();
            return Ok(List { items, revision: snapshot.revision(), continue_token: None, remaining: None });
        }
        let id = resource.id();
        match token {
            None => Ok(page(snapshot.list(&id, namespace), &snapshot, &selection, options)),
            Some(token) => {
                let last = token.key(id.clone());
                Ok(page(snapshot.list_after(&id, namespace, &last), &snapshot, &selection, options))
            }
        }
    }

    /// The state of the world that a list is about.
    fn state_for_list(
        &self,
        options: &ListOptions,
        token: Option<&ContinueToken>,
    ) -> Result<Snapshot, ApiError> {
        let asked = parse_revision(&options.resource_version)?;
        if let Some(token) = token {
            if asked.is_some() {
                return Err(ApiError::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            return self.store().snapshot_at(token.rv).map_err(|_gone| {
                ApiError::expired(
                    "The provided continue parameter is too old to display a consistent list result. \
                     You must start a new list without the continue parameter.",
                )
            });
        }
        let now = self.store().snapshot();
        let Some(asked) = asked else { return Ok(now) };
        if asked > now.revision() {
            return Err(too_large(asked, now.revision()));
        }
        let pages = options.limit.is_some_and(|limit| limit > 0);
        if options.resource_version_match == "Exact" || (options.resource_version_match.is_empty() && pages) {
            return self
                .store()
                .snapshot_at(asked)
                .map_err(|_gone| ApiError::expired("The resourceVersion for the provided list is too old."));
        }
        Ok(now)
    }
}

/// A revision that is not reached yet.
pub(crate) fn too_large(asked: u64, current: u64) -> ApiError {
    let message = format!("Too large resource version: {asked}, current: {current}");
    ApiError::new(Reason::Timeout, format!("Timeout: {message}")).with_details(Details {
        retry_after_seconds: Some(1),
        causes: vec![Cause {
            reason: "ResourceVersionTooLarge".to_owned(),
            message: "Too large resource version".to_owned(),
            field: String::new(),
        }],
        ..Details::default()
    })
}

/// A selection of one name in one namespace is a look-up: `Some`, with the object if it is there.
pub(crate) fn lookup(
    snapshot: &Snapshot,
    resource: &Resource,
    namespace: Option<&str>,
    selection: &Selection,
) -> Option<Option<Arc<Stored>>> {
    let name = selection.name()?;
    let namespace = match (namespace, selection.namespace()) {
        (Some(path), Some(field)) if path != field => return Some(None),
        (None, field) => field,
        (path, _) => path,
    };
    if resource.is_namespaced() && namespace.is_none() {
        return None;
    }
    Some(snapshot.get(&key(resource, namespace, name)).cloned())
}

fn page<'a>(
    objects: impl Iterator<Item = &'a Arc<Stored>>,
    snapshot: &Snapshot,
    selection: &Selection,
    options: &ListOptions,
) -> List {
    let limit = options
        .limit
        .filter(|limit| *limit > 0)
        .map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let everything = selection.is_everything();
    let mut rest = objects.filter(|stored| everything || selection.matches(stored));
    let items: Vec<_> = rest.by_ref().take(limit).cloned().collect();
    // Counting is cheap only where nothing has to be decoded for it.
    let left = if everything { rest.count() } else { usize::from(rest.next().is_some()) };
    let last = items.last().filter(|_| left > 0);
    List {
        continue_token: last.map(|last| ContinueToken::after(&last.key, snapshot.revision()).encode()),
        remaining: (everything && left > 0).then_some(left as u64),
        revision: snapshot.revision(),
        items,
    }
}
