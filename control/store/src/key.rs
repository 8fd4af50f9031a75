//! Keys as bytes that sort as the API lists: by group, resource, namespace, name.
//!
//! Each part ends with a zero byte, so a prefix of whole parts is a prefix of bytes and `a` sorts before `a-b`. Bytes 0
//! and 1 inside a part are escaped (`01 01`, `01 02`), which keeps the order and makes the coding reversible for any
//! text.

use control_api::object::{Key, ResourceId};
use std::sync::Arc;

/// An encoded key, or a prefix of one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeyBytes(Arc<[u8]>);

impl KeyBytes {
    /// The whole key of an object.
    pub(crate) fn of(key: &Key) -> Self {
        Self::join(&[
            &key.resource.group,
            &key.resource.plural,
            key.namespace.as_deref().unwrap_or_default(),
            &key.name,
        ])
    }

    /// What all keys of a resource, or of a resource in one namespace, begin with.
    pub(crate) fn prefix(resource: &ResourceId, namespace: Option<&str>) -> Self {
        match namespace {
            None => Self::join(&[&resource.group, &resource.plural]),
            Some(namespace) => Self::join(&[&resource.group, &resource.plural, namespace]),
        }
    }

    /// A key read from the disk.
    pub(crate) fn from_disk(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The first byte string after all that begin with this prefix.
    pub(crate) fn end(&self) -> Self {
        let mut bytes = self.0.to_vec();
        // A prefix of whole parts ends with 0; 1 in its place is past every continuation.
        if let Some(last) = bytes.last_mut() {
            *last = 1;
        }
        Self(bytes.into())
    }

    /// Whether this prefix is that of a resource in one namespace, rather than in all.
    pub(crate) fn names_namespace(&self) -> bool {
        self.0.iter().filter(|byte| **byte == 0).count() == 3
    }

    /// The bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key that was encoded; `None` if these bytes are no key.
    pub(crate) fn decode(&self) -> Option<Key> {
        let mut parts = Vec::with_capacity(4);
        let mut part = Vec::new();
        let mut bytes = self.0.iter();
        while let Some(byte) = bytes.next() {
            match byte {
                0 => parts.push(String::from_utf8(std::mem::take(&mut part)).ok()?),
                1 => part.push(match bytes.next()? {
                    1 => 0,
                    2 => 1,
                    _ => return None,
                }),
                byte => part.push(*byte),
            }
        }
        let [group, plural, namespace, name]: [String; 4] = parts.try_into().ok()?;
        let namespace = (!namespace.is_empty()).then_some(namespace);
        part.is_empty().then(|| Key {
            resource: ResourceId { group: group.into(), plural: plural.into() },
            namespace,
            name,
        })
    }

    fn join(parts: &[&str]) -> Self {
        let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.len() + 1).sum());
        for part in parts {
            for byte in part.bytes() {
                match byte {
                    0 => bytes.extend([1, 1]),
                    1 => bytes.extend([1, 2]),
                    byte => bytes.push(byte),
                }
            }
            bytes.push(0);
        }
        Self(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(group: &str, plural: &str, namespace: &str, name: &str) -> Key {
        Key {
            resource: ResourceId { group: group.to_owned().into(), plural: plural.to_owned().into() },
            namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
            name: name.to_owned(),
        }
    }

    fn part() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z.-]{0,4}", "[\u{0}\u{1}\u{2}a]{0,4}", ".{0,3}"]
    }

    proptest! {
        #[test]
        fn a_key_comes_back_as_it_went(group in part(), plural in part(), namespace in part(), name in part()) {
            let key = key(&group, &plural, &namespace, &name);
            prop_assert_eq!(KeyBytes::of(&key).decode(), Some(key));
        }

        #[test]
        fn bytes_sort_as_the_parts_do(a in prop::array::uniform4(part()), b in prop::array::uniform4(part())) {
            let bytes = |parts: &[String; 4]| KeyBytes::of(&key(&parts[0], &parts[1], &parts[2], &parts[3]));
            prop_assert_eq!(bytes(&a).cmp(&bytes(&b)), a.cmp(&b));
        }

        #[test]
        fn a_prefix_holds_its_own_keys_and_no_others(a in prop::array::uniform4(part()), b in prop::array::uniform4(part())) {
            let other = key(&b[0], &b[1], &b[2], &b[3]);
            let resource = key(&a[0], &a[1], "", "").resource;
            let prefix = KeyBytes::prefix(&resource, Some(&a[2]));
            let inside = prefix <= KeyBytes::of(&other) && KeyBytes::of(&other) < prefix.end();
            prop_assert_eq!(inside, a[..3] == b[..3]);
        }
    }

    #[test]
    fn bytes_that_are_no_key_are_refused() {
        for bytes in [&b""[..], b"a\0b\0c\0d", b"a\0b\0c\0d\0e\0", b"a\0b\0c\0\x01\x07\0", b"a\0b\0c\0\xff\0"]
        {
            assert_eq!(KeyBytes::from_disk(bytes).decode(), None, "{bytes:?}");
        }
    }
}
