//! In which form a client wants its answer: the `Accept` header against what we can write.
//!
//! Answers are JSON, or YAML for who prefers that. Clients that prefer protobuf name JSON as their second choice and get
//! that; a client that takes nothing else is told so (406). `as=Table` and its like choose the shape of the answer, not
//! its encoding.

use control_api::error::ApiError;
use control_api::table::TableVersion;

/// The shape of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The object as it is.
    Plain,
    /// Rows for `kubectl get`, of this version of `meta.k8s.io`.
    Table(TableVersion),
    /// Only the metadata, of this version of `meta.k8s.io`.
    Partial(TableVersion),
    /// Only the metadata, as a list.
    PartialList(TableVersion),
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// JSON for programs.
    Json,
    /// JSON over lines, for people.
    PrettyJson,
    /// YAML.
    Yaml,
}

impl Encoding {
    /// The same for what is written as JSON only.
    pub(crate) fn as_json(self) -> Self {
        match self {
            Self::Json | Self::Yaml => Self::Json,
            Self::PrettyJson => Self::PrettyJson,
        }
    }
}

/// One clause of an `Accept` header.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MediaRange<'a> {
    /// Type and subtype, in lower case.
    pub(crate) media_type: String,
    params: Vec<(&'a str, &'a str)>,
    quality: f32,
}

impl MediaRange<'_> {
    /// A parameter of the clause.
    pub(crate) fn param(&self, key: &str) -> Option<&str> {
        self.params.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, value)| *value)
    }

    /// Whether JSON falls under the clause.
    pub(crate) fn takes_json(&self) -> bool {
        matches!(self.media_type.as_str(), "application/json" | "application/*" | "*/*")
    }

    /// Whether YAML is what the clause is for.
    pub(crate) fn takes_yaml(&self) -> bool {
        self.media_type == "application/yaml"
    }
}

/// The clauses of an `Accept` header, the preferred first; none means anything.
pub(crate) fn parse_accept(header: &str) -> Vec<MediaRange<'_>> {
    let clause = |text| {
        let mut parts = str::split(text, ';').map(str::trim);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        let params: Vec<(&str, &str)> = parts
            .filter_map(|part| part.split_once('='))
            .map(|(k, v)| (k.trim(), v.trim().trim_matches('"')))
            .collect();
        let quality =
            params.iter().find(|(key, _)| *key == "q").and_then(|(_, q)| q.parse().ok()).unwrap_or(1.0);
        MediaRange { media_type, params, quality }
    };
    let mut ranges: Vec<MediaRange<'_>> =
        header.split(',').map(str::trim).filter(|text| !text.is_empty()).map(clause).collect();
    ranges.retain(|range| range.quality > 0.0);
    ranges.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    ranges
}

/// Chooses the shape of an answer about a resource.
pub(crate) fn shape(accept: Option<&str>) -> Result<Shape, ApiError> {
    choose(accept).map(|(shape, _)| shape)
}

/// Chooses how an answer is written; JSON too where the client takes nothing of what we have, for it to be told so.
pub(crate) fn encoding(accept: Option<&str>, pretty: bool) -> Encoding {
    match choose(accept) {
        Ok((_, true)) => Encoding::Yaml,
        Ok((_, false)) | Err(_) if pretty => Encoding::PrettyJson,
        Ok((_, false)) | Err(_) => Encoding::Json,
    }
}

/// The first clause that can be served: its shape, and whether it is for YAML.
fn choose(accept: Option<&str>) -> Result<(Shape, bool), ApiError> {
    let Some(header) = accept.filter(|header| !header.trim().is_empty()) else {
        return Ok((Shape::Plain, false));
    };
    for range in parse_accept(header).iter().filter(|range| range.takes_json() || range.takes_yaml()) {
        let version = match (range.param("g"), range.param("v")) {
            (Some("meta.k8s.io"), Some("v1")) => Some(TableVersion::V1),
            (Some("meta.k8s.io"), Some("v1beta1")) => Some(TableVersion::V1Beta1),
            _ => None,
        };
        let shape = match (range.param("as"), version) {
            (None, _) => Shape::Plain,
            (Some("Table"), Some(version)) => Shape::Table(version),
            (Some("PartialObjectMetadata"), Some(version)) => Shape::Partial(version),
            (Some("PartialObjectMetadataList"), Some(version)) => Shape::PartialList(version),
            // A transformation that we do not know: the next clause may be one that we do.
            _ => continue,
        };
        return Ok((shape, range.takes_yaml()));
    }
    Err(not_acceptable(&["application/json", "application/yaml"]))
}

/// Chooses how a document is written that is always JSON.
pub(crate) fn json_only(accept: Option<&str>, preferred: Encoding) -> Result<Encoding, ApiError> {
    let Some(header) = accept.filter(|header| !header.trim().is_empty()) else {
        return Ok(preferred.as_json());
    };
    match parse_accept(header).iter().any(|range| range.takes_json() && range.param("as").is_none()) {
        true => Ok(preferred.as_json()),
        false => Err(not_acceptable(&["application/json"])),
    }
}

/// The error for a client that takes none of these.
pub(crate) fn not_acceptable(media_types: &[&str]) -> ApiError {
    ApiError::not_acceptable(format!(
        "only the following media types are accepted: {}",
        media_types.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(accept: &str, expect: &Expect) {
        let header = Some(accept).filter(|accept| !accept.is_empty());
        let encoding = encoding(header, false);
        let shown = |shape| format!("{shape:?} {encoding:?}");
        expect.assert_eq(&shape(header).map_or_else(|e| e.message, shown));
    }

    #[test]
    fn the_first_form_that_we_know_is_chosen() {
        check("", &expect!["Plain Json"]);
        check("*/*", &expect!["Plain Json"]);
        check("application/vnd.kubernetes.protobuf,application/json", &expect!["Plain Json"]);
        check(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
            &expect!["Table(V1) Json"],
        );
        check("application/json;as=Table;g=meta.k8s.io;v=v1beta1", &expect!["Table(V1Beta1) Json"]);
        check("application/json;as=Table;g=meta.k8s.io;v=v7, application/json;q=0.5", &expect!["Plain Json"]);
        check(
            "application/json;q=0.1, application/json;as=Table;v=v1;g=meta.k8s.io;q=0.9",
            &expect!["Table(V1) Json"],
        );
        check(
            "application/json; as=PartialObjectMetadataList; g=meta.k8s.io; v=v1",
            &expect!["PartialList(V1) Json"],
        );
        check(
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
            &expect!["Partial(V1) Json"],
        );
        check(
            "application/vnd.kubernetes.protobuf",
            &expect!["only the following media types are accepted: application/json, application/yaml"],
        );
        check("application/yaml", &expect!["Plain Yaml"]);
        check("application/json;q=0.9,application/yaml", &expect!["Plain Yaml"]);
        check("*/*,application/yaml", &expect!["Plain Json"]);
        check("application/yaml;as=Table;v=v1;g=meta.k8s.io", &expect!["Table(V1) Yaml"]);
        check("application/yaml;as=Unknown;v=v1;g=meta.k8s.io,application/json", &expect!["Plain Json"]);
        check(
            "text/html, application/json;q=0",
            &expect!["only the following media types are accepted: application/json, application/yaml"],
        );
    }
}
