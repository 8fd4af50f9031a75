//! Paths that are no resource: discovery, OpenAPI, version, health, metrics, and the list of paths.
//!
//! Documents are made from the table of resources when they are first asked for, and kept with an ETag.

use crate::handlers::Context;
use crate::negotiate::{self, Encoding, parse_accept};
use crate::respond::{self, Body};
use bytes::Bytes;
use control_api::error::ApiError;
use control_api::resource::Resources;
use control_api::{discovery, openapi};
use http::header::{ACCEPT, CONTENT_TYPE, ETAG, HeaderMap, IF_NONE_MATCH, VARY};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

/// Media type of aggregated discovery, apart from its version.
const AGGREGATED_V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const AGGREGATED_V2BETA1: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
/// OpenAPI v2 as kubectl up to 1.28 reads it.
const OPENAPI_V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Documents about the kinds that are served.
pub(crate) struct Documents {
    resources: Arc<Resources>,
    /// Where we listen, for clients that ask `/api`.
    address: String,
    made: Mutex<BTreeMap<String, Document>>,
}

#[derive(Clone)]
struct Document {
    content_type: &'static str,
    etag: String,
    bytes: Bytes,
}

impl Documents {
    pub(crate) fn new(resources: Arc<Resources>, address: String) -> Self {
        Self { resources, address, made: Mutex::default() }
    }

    /// The document of a name, made when it is first asked for.
    fn get(
        &self,
        name: &str,
        content_type: &'static str,
        make: impl FnOnce(&Resources) -> Vec<u8>,
    ) -> Document {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        match made.entry(name.to_owned()) {
            Entry::Occupied(entry) => entry.get().clone(),
            Entry::Vacant(entry) => {
                let bytes = Bytes::from(make(&self.resources));
                let hash = Sha256::digest(&bytes);
                let etag = hash.iter().map(|byte| format!("{byte:02X}")).collect();
                entry.insert(Document { content_type, etag, bytes }).clone()
            }
        }
    }

    fn json(&self, name: &str, make: impl FnOnce(&Resources) -> Value) -> Document {
        self.get(name, respond::JSON, |resources| make(resources).to_string().into_bytes())
    }
}

/// Answers a path that is no resource; `None` where there is no such path.
pub(crate) fn answer(context: &Context) -> Option<Result<Response<Body>, ApiError>> {
    let path = context.info.path.trim_end_matches('/');
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let documents = &context.app.documents;
    let listed = |document: Document| {
        negotiate::shape(context.accept()).map(|_| context.document(document, context.encoding))
    };
    let open_api = |document: Document| {
        let encoding = negotiate::json_only(context.accept(), context.encoding)?;
        Ok(context.document(document, encoding))
    };
    let response = match parts.as_slice() {
        [] => Ok(respond::value(StatusCode::OK, &paths(&documents.resources), context.encoding.as_json())),
        ["healthz" | "livez" | "readyz", ..] => {
            let (code, text) = context.app.health.answer(path, &context.query)?;
            Ok(respond::text(code, text))
        }
        ["version"] => Ok(respond::value(StatusCode::OK, &version(), context.encoding.as_json())),
        ["metrics"] => Ok(respond::answer(
            StatusCode::OK,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            respond::full(context.app.metrics.text()),
        )),
        ["api"] => discover(context, "api", discovery::aggregated_api, |r| {
            discovery::api_versions(r, &documents.address)
        }),
        ["apis"] => discover(context, "apis", discovery::aggregated_apis, discovery::group_list),
        ["api", "v1"] => {
            listed(documents.json("api/v1", |r| discovery::resource_list(r, "", "v1").unwrap_or_default()))
        }
        ["apis", group] => {
            discovery::group(&documents.resources, group)?;
            listed(documents.json(path, |r| discovery::group(r, group).unwrap_or_default()))
        }
        ["apis", group, version] => {
            discovery::resource_list(&documents.resources, group, version)?;
            listed(documents.json(path, |r| discovery::resource_list(r, group, version).unwrap_or_default()))
        }
        ["openapi", "v2"] => Ok(open_api_v2(context)),
        ["openapi", "v3"] => open_api(documents.json(path, openapi::v3_index)),
        ["openapi", "v3", "api", version] => open_api(open_api_v3(documents, path, "", version)?),
        ["openapi", "v3", "apis", group, version] => open_api(open_api_v3(documents, path, group, version)?),
        _ => return None,
    };
    Some(response)
}

/// Discovery in the form that the client prefers: all at once (v2, or its beta), or the list of groups.
fn discover(
    context: &Context,
    name: &str,
    aggregated: fn(&Resources, &str) -> Value,
    legacy: impl Fn(&Resources) -> Value,
) -> Result<Response<Body>, ApiError> {
    let documents = &context.app.documents;
    let accept = context.accept().filter(|accept| !accept.trim().is_empty()).unwrap_or("*/*");
    for range in parse_accept(accept).iter().filter(|range| range.takes_json() || range.takes_yaml()) {
        let form = match (range.param("as"), range.param("g"), range.param("v")) {
            (None, ..) => Some((documents.json(name, &legacy), respond::JSON)),
            (
                Some("APIGroupDiscoveryList"),
                Some("apidiscovery.k8s.io"),
                Some(version @ ("v2" | "v2beta1")),
            ) if range.takes_json() => {
                let content_type = if version == "v2" { AGGREGATED_V2 } else { AGGREGATED_V2BETA1 };
                let document = documents.json(&format!("{name} {version}"), |r| aggregated(r, version));
                Some((document, content_type))
            }
            _ => None,
        };
        if let Some((document, content_type)) = form {
            let encoding = if range.takes_yaml() { Encoding::Yaml } else { context.encoding.as_json() };
            let mut response = context.document(Document { content_type, ..document }, encoding);
            respond::set(&mut response, VARY, "Accept");
            return Ok(response);
        }
    }
    Err(negotiate::not_acceptable(&["application/json", "application/yaml"]))
}

fn open_api_v2(context: &Context) -> Response<Body> {
    let documents = &context.app.documents;
    let ranges = parse_accept(context.accept().unwrap_or("*/*"));
    let is_protobuf = |range: &negotiate::MediaRange<'_>| {
        matches!(
            range.media_type.as_str(),
            OPENAPI_V2_PROTOBUF | "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
        )
    };
    let first = ranges.iter().find(|range| range.takes_json() || is_protobuf(range));
    let document = match first {
        Some(range) if is_protobuf(range) => {
            documents.get("openapi/v2 protobuf", OPENAPI_V2_PROTOBUF, openapi::v2_protobuf)
        }
        Some(_) => documents.json("openapi/v2", openapi::v2_document),
        None => {
            let refusal = negotiate::not_acceptable(&["application/json", OPENAPI_V2_PROTOBUF]);
            return respond::error(&refusal, context.encoding);
        }
    };
    context.document(document, context.encoding.as_json())
}

fn open_api_v3(documents: &Documents, path: &str, group: &str, version: &str) -> Option<Document> {
    let served = |row: &Arc<control_api::resource::Resource>| row.group == group && row.version == version;
    documents.resources.iter().find(|row| served(row))?;
    Some(documents.json(path, |r| openapi::v3_document(r, group, version).unwrap_or_default()))
}

impl Context {
    /// A document, or 304 where the client has it. What is no JSON, or JSON of a type of its own, is as it is.
    fn document(&self, document: Document, encoding: Encoding) -> Response<Body> {
        let etag = format!("\"{}\"", document.etag);
        let mut response = if is_known(&self.headers, &etag) {
            let mut response = Response::new(respond::full(""));
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        } else {
            let is_plain = document.content_type == respond::JSON;
            let encoding = if is_plain { encoding } else { Encoding::Json };
            let mut response = respond::json(StatusCode::OK, document.bytes, encoding);
            if !is_plain {
                respond::set(&mut response, CONTENT_TYPE, document.content_type);
            }
            response
        };
        respond::set(&mut response, ETAG, &etag);
        response
    }

    /// What the client takes.
    pub(crate) fn accept(&self) -> Option<&str> {
        self.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok())
    }
}

fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|header| header.to_str().ok());
    known.flat_map(|header| header.split(',')).any(|one| one.trim().trim_start_matches("W/") == etag)
}

/// What `/version` tells.
pub(crate) fn version() -> Value {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "major": "1",
        "minor": "36",
        "gitVersion": format!("v1.36.0+wharf.{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "",
        // The field is Go's; we are not.
        "goVersion": format!("rust{}", env!("CARGO_PKG_RUST_VERSION")),
        "compiler": "rustc",
        "platform": format!("{}/{arch}", std::env::consts::OS),
    })
}

fn paths(resources: &Resources) -> Value {
    let mut paths: std::collections::BTreeSet<String> = [
        "/api",
        "/api/v1",
        "/apis",
        "/healthz",
        "/livez",
        "/livez/ping",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/readyz",
        "/readyz/ping",
        "/version",
    ]
    .map(str::to_owned)
    .into();
    for row in resources.iter().filter(|row| !row.group.is_empty()) {
        paths.insert(format!("/apis/{}", row.group));
        paths.insert(format!("/apis/{}/{}", row.group, row.version));
    }
    json!({ "paths": paths })
}
