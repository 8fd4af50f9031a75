//! `continue` tokens: where the next page of a list begins, and in which state of the world.
//!
//! To clients they are opaque. Inside: base64 of the JSON that upstream uses too.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control_api::ApiError;
use control_api::object::{Key, ResourceId};
use serde::{Deserialize, Serialize};

const FORMAT: &str = "meta.k8s.io/v1";

/// Where a list goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContinueToken {
    /// The format.
    v: String,
    /// The revision that the first page showed.
    pub(crate) rv: u64,
    /// Namespace and name of the last object shown.
    start: String,
}

impl ContinueToken {
    pub(crate) fn after(key: &Key, revision: u64) -> Self {
        let start = format!("{}/{}", key.namespace.as_deref().unwrap_or_default(), key.name);
        Self { v: FORMAT.to_owned(), rv: revision, start }
    }

    pub(crate) fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).expect("a struct of texts and numbers is JSON"))
    }

    pub(crate) fn decode(text: &str) -> Result<Self, ApiError> {
        let invalid = |why: &str| ApiError::bad_request(format!("continue key is not valid: {why}"));
        let json = URL_SAFE_NO_PAD.decode(text).map_err(|error| invalid(&error.to_string()))?;
        let token: Self = serde_json::from_slice(&json).map_err(|error| invalid(&error.to_string()))?;
        if token.v != FORMAT {
            return Err(invalid(&format!("server does not recognize this encoded version {:?}", token.v)));
        }
        if token.rv == 0 || !token.start.contains('/') {
            return Err(invalid("incorrect encoded start resourceVersion (version meta.k8s.io/v1)"));
        }
        Ok(token)
    }

    /// The last object shown.
    pub(crate) fn key(&self, resource: ResourceId) -> Key {
        let (namespace, name) = self.start.split_once('/').unwrap_or(("", &self.start));
        let namespace = (!namespace.is_empty()).then(|| namespace.to_owned());
        Key { resource, namespace, name: name.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_token_comes_back_as_it_went() {
        let resource = ResourceId::new("apps", "deployments");
        for namespace in [Some("default".to_owned()), None] {
            let key = Key { resource: resource.clone(), namespace, name: "web".to_owned() };
            let token = ContinueToken::decode(&ContinueToken::after(&key, 7).encode()).unwrap();
            assert_eq!((token.key(resource.clone()), token.rv), (key, 7));
        }
    }

    #[test]
    fn nonsense_is_a_bad_request() {
        let check = |text: &str| ContinueToken::decode(text).unwrap_err().message;
        expect!["continue key is not valid: Invalid symbol 33, offset 0."].assert_eq(&check("!"));
        expect!["continue key is not valid: expected value at line 1 column 1"]
            .assert_eq(&check(&URL_SAFE_NO_PAD.encode("x")));
        expect!["continue key is not valid: server does not recognize this encoded version \"v9\""]
            .assert_eq(&check(&URL_SAFE_NO_PAD.encode(r#"{"v":"v9","rv":1,"start":"a/b"}"#)));
    }
}
