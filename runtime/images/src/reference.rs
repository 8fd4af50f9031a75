//! Image names as people write them and as they are compared: `web`, `web:latest` and `docker.io/library/web:latest`
//! are one. The rules are those of Docker and containerd. Pure.

use std::{fmt, str::FromStr};

use runtime_engine::Digest;

/// Where images without a registry come from, as everywhere.
const DEFAULT_DOMAIN: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// A name in its full form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Registry and path: `docker.io/library/web`.
    pub repository: String,
    /// The tag; where a digest is given without one, none.
    pub tag: Option<String>,
    /// The content that is meant, whatever the tag says.
    pub digest: Option<Digest>,
}

/// A text is not an image's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reference:?} is not an image name: {reason}")]
pub struct InvalidReference {
    /// The text.
    pub reference: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        parse(text).map_err(|reason| InvalidReference { reference: text.to_owned(), reason })
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => {
            (rest, Some(digest.parse().map_err(|_wrong| "what follows @ is not sha256:<64 hex digits>")?))
        }
        None => (text, None),
    };
    // A colon after the last slash begins a tag; one before it belongs to the registry's port.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    if name.is_empty() {
        return Err("it is empty");
    }
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err("its tag has characters that a tag cannot have");
    }
    let (domain, path) = match name.split_once('/') {
        Some((first, path)) if is_domain(first) => (first, path.to_owned()),
        Some(_) => (DEFAULT_DOMAIN, name.to_owned()),
        None => (DEFAULT_DOMAIN, format!("library/{name}")),
    };
    if !is_host(domain) {
        return Err("its registry is not a host name");
    }
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("names are in lower case");
    }
    if !path.split('/').all(is_component) {
        return Err("it has characters that a name cannot have");
    }
    let repository = format!("{domain}/{path}");
    if repository.len() > MAX_NAME {
        return Err("it is longer than 255 characters");
    }
    let tag = tag.map(ToOwned::to_owned);
    let tag = if digest.is_none() { Some(tag.unwrap_or_else(|| DEFAULT_TAG.to_owned())) } else { tag };
    Ok(Reference { repository, tag, digest })
}

fn is_domain(text: &str) -> bool {
    text == "localhost" || text.contains(['.', ':']) || text.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// A host name or address, with or without a port.
fn is_host(text: &str) -> bool {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, "0"));
    let label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    host.split('.').all(label) && port.parse::<u16>().is_ok()
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= MAX_TAG
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

/// Lower-case letters and digits, separated by a dot, one or two underscores, or dashes.
fn is_component(text: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    edge(text.bytes().next())
        && edge(text.bytes().last())
        && text.bytes().all(|byte| edge(Some(byte)) || matches!(byte, b'.' | b'_' | b'-'))
        && !["..", "___", "._", "_.", ".-", "-.", "-_", "_-"].iter().any(|wrong| text.contains(wrong))
}

impl fmt::Display for Reference {
    /// The full form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(text: &str, expect: Expect) {
        let told = text.parse::<Reference>().map_or_else(|error| error.to_string(), |name| name.to_string());
        expect.assert_eq(&told);
    }

    #[test]
    fn what_is_left_out_is_filled_in() {
        check("web", expect!["docker.io/library/web:latest"]);
        check("web:v1", expect!["docker.io/library/web:v1"]);
        check("acme/web", expect!["docker.io/acme/web:latest"]);
        check("docker.io/library/web:latest", expect!["docker.io/library/web:latest"]);
        check("ghcr.io/acme/web:v1", expect!["ghcr.io/acme/web:v1"]);
        check("localhost/web", expect!["localhost/web:latest"]);
        check("registry:5000/web", expect!["registry:5000/web:latest"]);
    }

    #[test]
    fn a_digest_needs_no_tag() {
        let digest = Digest::of(b"");
        check(
            &format!("web@{digest}"),
            expect![
                "docker.io/library/web@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
            ],
        );
        check(
            "web@sha256:12",
            expect![[
                r#""web@sha256:12" is not an image name: what follows @ is not sha256:<64 hex digits>"#
            ]],
        );
    }

    #[test]
    fn what_is_no_name_is_refused_with_the_reason() {
        check("", expect![[r#""" is not an image name: it is empty"#]]);
        check("Web", expect![[r#""Web" is not an image name: names are in lower case"#]]);
        check(
            "web:",
            expect![[r#""web:" is not an image name: its tag has characters that a tag cannot have"#]],
        );
        check("a b", expect![[r#""a b" is not an image name: it has characters that a name cannot have"#]]);
        check("../web", expect![[r#""../web" is not an image name: its registry is not a host name"#]]);
        check(
            "acme//web",
            expect![[r#""acme//web" is not an image name: it has characters that a name cannot have"#]],
        );
    }
}
