//! Names and hashes computed from what they stand for, so that making a thing twice is making it once.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use sha2::{Digest, Sha256};

/// Letters that spell no words, as upstream's name generator has them.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// The longest name with a suffix: what upstream's generator cuts the base to.
const MAX_BASE: usize = 58;

/// The longest name of an object.
const MAX_NAME: usize = 253;

/// Five letters that stand for `parts`.
pub fn suffix(parts: &[&str]) -> String {
    let mut rest = digest(parts);
    let base = u64::try_from(LETTERS.len()).expect("an alphabet is small");
    let mut text = String::with_capacity(5);
    for _ in 0..5 {
        let at = usize::try_from(rest % base).expect("smaller than the alphabet");
        text.push(char::from(LETTERS[at]));
        rest /= base;
    }
    text
}

/// `base` with a suffix, cut as upstream's generator cuts it.
pub fn with_suffix(base: &str, parts: &[&str]) -> String {
    let mut end = base.len().min(MAX_BASE);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{}", &base[..end], suffix(parts))
}

/// `base.suffix`, with a base cut so that it is a name still.
pub fn bounded(base: &str, suffix: &str) -> String {
    let mut end = base.len().min(MAX_NAME.saturating_sub(suffix.len() + 1));
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    // No part of a name is empty or ends with a dash.
    format!("{}.{suffix}", base[..end].trim_end_matches(['.', '-']))
}

/// The `pod-template-hash` of a template; `collisions` counts those that were taken by other templates.
pub fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let text =
        serde_json::to_string(template).expect("API types have string keys and no failing serializers");
    let collisions = collisions.map(|count| count.to_string()).unwrap_or_default();
    let number = digest(&[&text, &collisions]) & u64::from(u32::MAX);
    number.to_string().bytes().map(|digit| char::from(LETTERS[usize::from(digit) % LETTERS.len()])).collect()
}

/// Sixteen hexadecimal digits that stand for `parts`.
pub fn hex(parts: &[&str]) -> String {
    format!("{:016x}", digest(parts))
}

fn digest(parts: &[&str]) -> u64 {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.as_bytes());
        hasher.update([0]);
    }
    let bytes = hasher.finalize();
    bytes.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_five_letters_and_repeat() {
        assert_eq!(suffix(&["uid", "1"]), suffix(&["uid", "1"]));
        assert_ne!(suffix(&["uid", "1"]), suffix(&["uid", "2"]));
        assert_ne!(suffix(&["ab", "c"]), suffix(&["a", "bc"]));
        assert!(suffix(&["x"]).bytes().all(|letter| LETTERS.contains(&letter)));
        assert_eq!(with_suffix(&"x".repeat(70), &["y"]).len(), 63);
    }

    #[test]
    fn a_name_with_a_suffix_is_a_name() {
        let check = |base: &str, length: usize, end: &str| {
            let name = bounded(base, &hex(&["x"]));
            assert_eq!((name.len(), &name[name.len() - 20..name.len() - 16]), (length, end));
        };
        check("web-1", 22, "b-1.");
        check(&"x".repeat(253), 253, "xxx.");
        check(&format!("{}-.{}", "x".repeat(234), "y".repeat(17)), 251, "xxx.");
    }

    #[test]
    fn a_template_hash_changes_with_the_template_and_the_collision_count() {
        let plain = PodTemplateSpec::default();
        let other = PodTemplateSpec { spec: Some(Default::default()), ..PodTemplateSpec::default() };
        assert_eq!(template_hash(&plain, None), template_hash(&plain, None));
        assert_ne!(template_hash(&plain, None), template_hash(&other, None));
        assert_ne!(template_hash(&plain, None), template_hash(&plain, Some(1)));
        assert!(template_hash(&plain, None).len() <= 10);
    }
}
