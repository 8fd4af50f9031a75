//! Values as YAML, so that readers of YAML 1.1 and 1.2 get the same out of it: a text stands without quotes only where
//! no reader could take it for anything else.

use serde_json::{Map, Value};
use std::fmt::Write;

/// A value as one document of YAML.
pub fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => mapping(&mut out, map, 0),
        Value::Array(items) if !items.is_empty() => sequence(&mut out, items, 0),
        other => {
            scalar(&mut out, other);
            out.push('\n');
        }
    }
    out
}

fn mapping(out: &mut String, map: &Map<String, Value>, indent: usize) {
    for (nth, (key, value)) in map.iter().enumerate() {
        if nth > 0 {
            pad(out, indent);
        }
        text(out, key);
        out.push(':');
        entry(out, value, indent);
    }
}

/// What stands behind a key, with the end of its line.
fn entry(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            pad(out, indent + 1);
            mapping(out, map, indent + 1);
        }
        // Items stand below the first letter of their key, as Go's writer puts them.
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            pad(out, indent);
            sequence(out, items, indent);
        }
        Value::String(lines) if is_block(lines) => block(out, lines, indent + 1),
        other => {
            out.push(' ');
            scalar(out, other);
            out.push('\n');
        }
    }
}

fn sequence(out: &mut String, items: &[Value], indent: usize) {
    for (nth, item) in items.iter().enumerate() {
        if nth > 0 {
            pad(out, indent);
        }
        out.push('-');
        match item {
            Value::Object(map) if !map.is_empty() => {
                out.push(' ');
                mapping(out, map, indent + 1);
            }
            Value::Array(inner) if !inner.is_empty() => {
                out.push(' ');
                sequence(out, inner, indent + 1);
            }
            other => entry(out, other, indent),
        }
    }
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n("  ", indent));
}

fn scalar(out: &mut String, value: &Value) {
    match value {
        Value::String(content) => text(out, content),
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            write!(out, "{value}").expect("writing to a String does not fail");
        }
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
    }
}

fn text(out: &mut String, content: &str) {
    if is_plain(content) {
        out.push_str(content);
        return;
    }
    out.push('"');
    for character in content.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            character if is_printable(character) => out.push(character),
            character => {
                write!(out, "\\U{:08x}", u32::from(character)).expect("writing to a String does not fail");
            }
        }
    }
    out.push('"');
}

/// Whether a text is itself without quotes: words that begin with a letter and have no meaning of their own.
fn is_plain(content: &str) -> bool {
    const WORDS: [&str; 10] = ["y", "yes", "n", "no", "true", "false", "on", "off", "null", "none"];
    let is_inner = |c: char| {
        c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '=' | '+' | ' ' | ',' | ':')
    };
    content.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && !content.ends_with([' ', ':'])
        && !content.contains(": ")
        && content.chars().all(is_inner)
        && !WORDS.contains(&content.to_ascii_lowercase().as_str())
}

/// Whether a text is better read as lines: those that a block can hold exactly.
fn is_block(content: &str) -> bool {
    let n_breaks = content.chars().rev().take_while(|c| *c == '\n').count();
    content.contains('\n')
        && n_breaks <= 1
        && !content.starts_with([' ', '\n'])
        && content.chars().all(|c| c == '\n' || is_printable(c))
}

fn block(out: &mut String, lines: &str, indent: usize) {
    out.push_str(if lines.ends_with('\n') { " |\n" } else { " |-\n" });
    for line in lines.strip_suffix('\n').unwrap_or(lines).split('\n') {
        if !line.is_empty() {
            pad(out, indent);
            out.push_str(line);
        }
        out.push('\n');
    }
}

/// Characters that stand for themselves in every version of YAML, and break no line.
fn is_printable(character: char) -> bool {
    matches!(character, ' '..='~' | '\u{a0}'..='\u{2027}' | '\u{202a}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}'
        | '\u{ff00}'..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_document_looks_as_go_writes_it() {
        let value = json!({
            "kind": "ConfigMap", "empty": {}, "none": [], "nothing": null, "n": 5, "b": true,
            "data": { "yes": "no", "at": "2026-01-02T03:04:05Z", "port": "80", "lines": "a\n\n b\n", "open": "a\nb", "f:image": "web:1" },
            "items": [{ "a": "x y", "b": [[1, 2], "z: w"] }, "plain", " lead", "", "tab\tand \u{7f}", "~"],
        });
        expect![[r#"
            b: true
            data:
              at: "2026-01-02T03:04:05Z"
              f:image: web:1
              lines: |
                a

                 b
              open: |-
                a
                b
              port: "80"
              "yes": "no"
            empty: {}
            items:
            - a: x y
              b:
              - - 1
                - 2
              - "z: w"
            - plain
            - " lead"
            - ""
            - "tab\tand \U0000007f"
            - "~"
            kind: ConfigMap
            "n": 5
            "none": []
            nothing: null
        "#]]
        .assert_eq(&to_yaml(&value));
        assert_eq!(to_yaml(&json!({})), "{}\n");
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let content = prop_oneof![
            any::<String>(),
            "[ -~\n]{0,12}",
            "[a-zA-Z0-9:.+-]{0,6}",
            Just("true".to_owned()),
            Just("0x1f".to_owned()),
            Just(".inf".to_owned())
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            content.prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[ -~\n]{0,6}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in any_value()) {
            let read: Value = serde_yaml_ng::from_str(&to_yaml(&value)).unwrap();
            prop_assert_eq!(read, value);
        }
    }
}
