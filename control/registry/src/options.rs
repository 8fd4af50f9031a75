//! What a request says beside the object.

use control_api::ApiError;
use control_api::object;
use control_api::validate::FieldError;
use serde_json::Value;

/// Options of create, update and patch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Everything but the commit.
    pub dry_run: bool,
    /// Who writes, for `managedFields`.
    pub manager: String,
}

/// Options of a list, as text from the query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// `labelSelector`.
    pub label_selector: String,
    /// `fieldSelector`.
    pub field_selector: String,
    /// `limit`; none or 0: everything.
    pub limit: Option<u64>,
    /// `continue`.
    pub continue_token: String,
    /// `resourceVersion`.
    pub resource_version: String,
    /// `resourceVersionMatch`.
    pub resource_version_match: String,
}

/// Options of a watch, as text from the query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchOptions {
    /// `labelSelector`.
    pub label_selector: String,
    /// `fieldSelector`.
    pub field_selector: String,
    /// `resourceVersion`.
    pub resource_version: String,
    /// `resourceVersionMatch`.
    pub resource_version_match: String,
    /// `allowWatchBookmarks`.
    pub allow_bookmarks: bool,
    /// `sendInitialEvents`.
    pub send_initial_events: Option<bool>,
    /// `timeoutSeconds`; none: half an hour to an hour.
    pub timeout_seconds: Option<u64>,
}

/// Options of a delete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Everything but the commit.
    pub dry_run: bool,
    /// `gracePeriodSeconds`; none: the kind's own.
    pub grace_period_seconds: Option<i64>,
    /// `propagationPolicy`; none: what the object's finalizers say, else in the background.
    pub propagation_policy: Option<Propagation>,
    /// `preconditions`.
    pub preconditions: Preconditions,
}

/// What must be true of an object for it to be deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preconditions {
    /// Its uid.
    pub uid: Option<String>,
    /// Its resource version.
    pub resource_version: Option<String>,
}

/// What happens to an object's dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They are deleted after it.
    Background,
    /// They are deleted before it.
    Foreground,
    /// They stay, without an owner.
    Orphan,
}

impl Propagation {
    /// From `propagationPolicy`; empty is none.
    pub fn parse(text: &str) -> Result<Option<Self>, ApiError> {
        match text {
            "" => Ok(None),
            "Background" => Ok(Some(Self::Background)),
            "Foreground" => Ok(Some(Self::Foreground)),
            "Orphan" => Ok(Some(Self::Orphan)),
            other => {
                let known = ["Foreground", "Background", "Orphan", "nil"];
                Err(invalid_delete(FieldError::not_supported("propagationPolicy", other, &known)))
            }
        }
    }
}

impl DeleteOptions {
    /// From a `meta/v1` DeleteOptions.
    pub fn from_value(value: &Value) -> Result<Self, ApiError> {
        let policy = Propagation::parse(object::text(value, &["propagationPolicy"]))?;
        let orphan = object::at(value, &["orphanDependents"]).and_then(Value::as_bool);
        if orphan.is_some() && policy.is_some() {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            return Err(invalid_delete(FieldError::invalid("propagationPolicy", policy_name(policy), why)));
        }
        let dry_run = object::list(value, &["dryRun"]);
        if let Some(unknown) = dry_run.iter().find(|one| one.as_str() != Some("All")) {
            let text = unknown.as_str().unwrap_or_default();
            return Err(invalid_delete(FieldError::not_supported("dryRun", text, &["All"])));
        }
        let text = |path: &[&str]| object::at(value, path).and_then(Value::as_str).map(str::to_owned);
        Ok(Self {
            dry_run: !dry_run.is_empty(),
            grace_period_seconds: object::integer(value, &["gracePeriodSeconds"]),
            propagation_policy: policy
                .or(orphan.map(|orphan| if orphan { Propagation::Orphan } else { Propagation::Background })),
            preconditions: Preconditions {
                uid: text(&["preconditions", "uid"]),
                resource_version: text(&["preconditions", "resourceVersion"]),
            },
        })
    }
}

fn policy_name(policy: Option<Propagation>) -> &'static str {
    match policy {
        Some(Propagation::Background) => "Background",
        Some(Propagation::Foreground) => "Foreground",
        Some(Propagation::Orphan) => "Orphan",
        None => "",
    }
}

fn invalid_delete(fault: FieldError) -> ApiError {
    ApiError::invalid("meta.k8s.io", "DeleteOptions", "", &[fault])
}

impl ListOptions {
    /// Refuses what does not go together.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        let fault = match self.resource_version_match.as_str() {
            "" => return Ok(()),
            _ if !self.continue_token.is_empty() => {
                forbidden("resourceVersionMatch is forbidden when continue is provided")
            }
            _ if self.resource_version.is_empty() => {
                forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided")
            }
            "Exact" if self.resource_version == "0" => {
                forbidden("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"")
            }
            "Exact" | "NotOlderThan" => return Ok(()),
            other => unknown_match(other, &["Exact", "NotOlderThan", ""]),
        };
        Err(invalid_list(fault))
    }
}

impl WatchOptions {
    /// Refuses what does not go together.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        let fault = match (self.send_initial_events, self.resource_version_match.as_str()) {
            (None, "") | (Some(_), "NotOlderThan") => return Ok(()),
            (None, _) => {
                forbidden("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided")
            }
            (Some(_), "") => {
                forbidden("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
            }
            (Some(_), other) => unknown_match(other, &["NotOlderThan"]),
        };
        Err(invalid_list(fault))
    }
}

fn forbidden(why: &str) -> FieldError {
    FieldError::forbidden("resourceVersionMatch", why)
}

fn unknown_match(text: &str, known: &[&str]) -> FieldError {
    FieldError::not_supported("resourceVersionMatch", text, known)
}

fn invalid_list(fault: FieldError) -> ApiError {
    ApiError::invalid("meta.k8s.io", "ListOptions", "", &[fault])
}

/// A `resourceVersion`: none when it is empty or "0", which both mean "whatever there is".
pub(crate) fn parse_revision(text: &str) -> Result<Option<u64>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse::<u64>() {
        Ok(0) => Ok(None),
        Ok(revision) => Ok(Some(revision)),
        Err(_) => Err(ApiError::bad_request(format!(
            "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
        ))),
    }
}
