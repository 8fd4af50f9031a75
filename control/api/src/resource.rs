//! Kinds are rows: what the generic engine has to know of a kind, as one value.
//!
//! Discovery, OpenAPI, routing, list, watch, patch, validation and tables read the row; no handler names a kind.

use crate::error::ApiError;
use crate::object::{Key, ResourceId};
use crate::schema::Schemas;
use crate::validate::FieldError;
use serde_json::Value;
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

/// A kind that the API serves.
#[derive(Debug, Clone)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: Cow<'static, str>,
    /// API version, for example `v1`.
    pub version: Cow<'static, str>,
    /// Kind, for example `ReplicaSet`.
    pub kind: Cow<'static, str>,
    /// Name in paths, for example `replicasets`.
    pub plural: Cow<'static, str>,
    /// Singular name, for example `replicaset`.
    pub singular: Cow<'static, str>,
    /// Short names, for example `rs`.
    pub short_names: Cow<'static, [Cow<'static, str>]>,
    /// Categories, for example `all`.
    pub categories: Cow<'static, [Cow<'static, str>]>,
    /// Whether objects live in namespaces.
    pub scope: Scope,
    /// Definition name of its type in [`crate::schema::Schemas`].
    pub schema: Cow<'static, str>,
    /// What stands below an object's path (`status`, `scale`, `log`, `binding`).
    pub subresources: &'static [Subresource],
    /// What is special about writes of this kind.
    pub strategy: Strategy,
    /// Columns of its Table, between `Name` and `Age`, both of which are named here too, in order.
    pub columns: &'static [Column],
    /// How its names are written.
    pub name_rule: NameRule,
}

/// How the names of a kind are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRule {
    /// RFC 1123 subdomain: most kinds.
    Subdomain,
    /// RFC 1123 label: namespaces, services.
    Label,
    /// Whatever can stand in a path: events.
    PathSegment,
}

/// Whether objects of a kind live in namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In a namespace.
    Namespaced,
    /// In none.
    Cluster,
}

/// Something below an object's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subresource {
    /// `status`: writes touch only the status, writes of the main path never do.
    Status,
    /// `scale`: an `autoscaling/v1` Scale.
    Scale,
    /// `log` of a Pod.
    Log,
    /// `binding` of a Pod.
    Binding,
}

/// Pure functions called in this order on a write: default, admit, prepare, validate, (allocate), canonicalize.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is an answer of the kind, independent of the others")]
pub struct Strategy {
    /// Defaults that no table row can say (those that depend on other fields).
    pub default: fn(&mut Value),
    /// Takes over into a new object what it has from others, or says why it is forbidden beside them.
    pub admit: fn(&mut Value, &Others<'_>) -> Result<(), String>,
    /// What comes by itself in a new namespace, and a new object needs: (object as it came, its namespace). Its create
    /// waits for it a while.
    pub awaits: fn(&Value, &str) -> Option<Key>,
    /// Before a create: clears what clients may not set.
    pub prepare_create: fn(&mut Value),
    /// Before an update through the main path: (new, old); keeps status, and what else is not the client's.
    pub prepare_update: fn(&mut Value, &Value),
    /// Before an update through `status`: (new, old); keeps everything but the status.
    pub prepare_status: fn(&mut Value, &Value),
    /// Every fault of an object, at once.
    pub validate: fn(&Value) -> Vec<FieldError>,
    /// Every fault of a change: (new, old).
    pub validate_update: fn(&Value, &Value) -> Vec<FieldError>,
    /// Every fault of what a write of `status` makes of an object.
    pub validate_status: fn(&Value) -> Vec<FieldError>,
    /// Things that are accepted, and deserve a `Warning:` header.
    pub warnings: fn(&Value) -> Vec<String>,
    /// Gives out what must be unique in the cluster (cluster IPs, node ports); called with all others of the kind.
    pub allocate: Option<Allocate>,
    /// Seconds a delete waits: (object, what the request asked for). `None`: at once.
    pub delete_grace: fn(&Value, Option<i64>) -> Option<i64>,
    /// Marks an object whose delete has begun; true keeps it there until something else lets it go.
    pub mark_deleted: fn(&mut Value) -> bool,
    /// Which changes `metadata.generation` counts: (new, old). `None`: there is no generation.
    pub generation: Option<fn(&Value, &Value) -> bool>,
    /// Finalizers need neither be standard ones nor have a domain.
    pub free_finalizers: bool,
    /// A PUT of an object that is not there creates it.
    pub create_on_update: bool,
    /// An update need not name a resource version.
    pub unconditional_update: bool,
    /// A delete answers with the object instead of a Status.
    pub return_deleted: bool,
    /// All objects of a selection can be deleted by one request.
    pub delete_collection: bool,
}

/// Finds another object, as it is in the state of the world in which a write is decided.
pub type Others<'a> = dyn Fn(&Key) -> Option<Value> + 'a;

/// Gives out cluster-wide unique values: (new object, its old state, every other object of the kind).
pub type Allocate = fn(&mut Value, Option<&Value>, &mut dyn Iterator<Item = Value>) -> Result<(), ApiError>;

/// A column of a kind's Table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Head, as upstream's: `Ready`, `Up-to-date`.
    pub name: &'static str,
    /// OpenAPI type: `string`, `integer`, `boolean`, `date`.
    pub kind: &'static str,
    /// OpenAPI format, `name` for the first column.
    pub format: &'static str,
    /// What it shows.
    pub description: &'static str,
    /// 0: always; 1: with `-o wide`.
    pub priority: i32,
    /// The cell of one object; `now` is for ages.
    pub cell: fn(&Value, jiff::Timestamp) -> Value,
}

impl Strategy {
    /// Nothing special.
    pub const PLAIN: Self = Self {
        default: |_| (),
        admit: |_, _| Ok(()),
        awaits: |_, _| None,
        prepare_create: |_| (),
        prepare_update: |_, _| (),
        prepare_status: |_, _| (),
        validate: |_| Vec::new(),
        validate_update: |_, _| Vec::new(),
        validate_status: |_| Vec::new(),
        warnings: |_| Vec::new(),
        allocate: None,
        delete_grace: |_, _| None,
        mark_deleted: |_| false,
        generation: None,
        free_finalizers: false,
        create_on_update: false,
        unconditional_update: true,
        return_deleted: false,
        delete_collection: true,
    };
}

impl Resource {
    /// A row of the core group; its schema is `io.k8s.api.core.v1.<Kind>`.
    pub(crate) const PLAIN: Self = Self {
        group: Cow::Borrowed(""),
        version: Cow::Borrowed("v1"),
        kind: Cow::Borrowed(""),
        plural: Cow::Borrowed(""),
        singular: Cow::Borrowed(""),
        short_names: Cow::Borrowed(&[]),
        categories: Cow::Borrowed(&[]),
        scope: Scope::Namespaced,
        schema: Cow::Borrowed(""),
        subresources: &[],
        strategy: Strategy::PLAIN,
        columns: crate::printers::DEFAULT,
        name_rule: NameRule::Subdomain,
    };

    /// Its place without the version.
    pub fn id(&self) -> ResourceId {
        ResourceId { group: self.group.clone(), plural: self.plural.clone() }
    }

    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `DeploymentList`.
    pub fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }

    /// Whether its objects live in namespaces.
    pub fn is_namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// Whether it has a subresource.
    pub fn has(&self, subresource: Subresource) -> bool {
        self.subresources.contains(&subresource)
    }
}

impl Subresource {
    /// As it stands in paths.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Scale => "scale",
            Self::Log => "log",
            Self::Binding => "binding",
        }
    }

    /// From a path.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Status, Self::Scale, Self::Log, Self::Binding].into_iter().find(|one| one.as_str() == text)
    }
}

/// Every kind that is served.
#[derive(Debug, Clone)]
pub struct Resources {
    rows: Vec<Arc<Resource>>,
    schemas: Arc<OnceLock<Schemas>>,
}

impl Resources {
    /// The kinds that are always there.
    pub fn built_in() -> Self {
        Self {
            rows: crate::kinds::BUILT_IN.iter().map(|row| Arc::new((*row).clone())).collect(),
            schemas: Arc::new(OnceLock::new()),
        }
    }

    /// The row of a group (empty for core), version and plural.
    pub fn by_plural(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.rows.iter().find(|row| row.group == group && row.version == version && row.plural == plural)
    }

    /// The row of a group (empty for core), version and kind.
    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<Resource>> {
        self.rows.iter().find(|row| row.group == group && row.version == version && row.kind == kind)
    }

    /// The row of a group and plural, whatever the version.
    pub fn by_id(&self, id: &ResourceId) -> Option<&Arc<Resource>> {
        self.rows.iter().find(|row| row.group == id.group && row.plural == id.plural)
    }

    /// All rows, in the order of discovery.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.rows.iter()
    }

    /// The types of all rows; built when first asked for.
    pub fn schemas(&self) -> &Schemas {
        self.schemas.get_or_init(Schemas::built_in)
    }
}
