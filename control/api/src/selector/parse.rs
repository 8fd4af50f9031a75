//! The text form of label selectors, with upstream's words for what is wrong with it.

use super::label::{Operator, Requirement};
use std::collections::BTreeSet;

/// Reads the text form token by token; a token is an operator or a run of other characters.
#[derive(Debug)]
pub(super) struct Parser<'a> {
    rest: &'a str,
}

/// What is special in the text form.
const SPECIAL: [char; 7] = ['=', '!', '(', ')', ',', '<', '>'];

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text.trim_start() }
    }

    /// The next token without taking it; empty at the end.
    fn peek(&self) -> &'a str {
        let mut chars = self.rest.chars();
        let length = match chars.next() {
            None => 0,
            Some('=') if self.rest.starts_with("==") => 2,
            Some('!') if self.rest.starts_with("!=") => 2,
            Some(first) if SPECIAL.contains(&first) => 1,
            Some(_) => {
                let ends = |c: char| SPECIAL.contains(&c) || matches!(c, ' ' | '\t' | '\r' | '\n');
                self.rest.find(ends).unwrap_or(self.rest.len())
            }
        };
        &self.rest[..length]
    }

    fn take(&mut self) -> &'a str {
        let token = self.peek();
        self.rest = self.rest[token.len()..].trim_start_matches([' ', '\t', '\r', '\n']);
        token
    }

    pub(super) fn requirements(mut self) -> Result<Vec<Requirement>, String> {
        let mut all = Vec::new();
        if self.peek().is_empty() {
            return Ok(all);
        }
        loop {
            let token = self.peek();
            if token != "!" && !is_identifier(token) {
                return Err(format!("found '{token}', expected: !, identifier, or 'end of string'"));
            }
            all.push(self.requirement().map_err(|fault| format!("unable to parse requirement: {fault}"))?);
            match self.take() {
                "" => return Ok(all),
                "," => {
                    let next = self.peek();
                    if next != "!" && !is_identifier(next) {
                        return Err(format!("found '{next}', expected: identifier after ','"));
                    }
                }
                other => return Err(format!("found '{other}', expected: ',' or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let absent = self.peek() == "!";
        if absent {
            self.take();
        }
        let key = self.take();
        if !is_identifier(key) {
            return Err(format!("found '{key}', expected: identifier"));
        }
        let operator = match self.peek() {
            _ if absent => Operator::DoesNotExist,
            "" | "," => Operator::Exists,
            "=" | "==" | "in" => Operator::In,
            "!=" | "notin" => Operator::NotIn,
            ">" => Operator::GreaterThan,
            "<" => Operator::LessThan,
            other => return Err(format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt")),
        };
        let values = match operator {
            Operator::Exists | Operator::DoesNotExist => BTreeSet::new(),
            Operator::In | Operator::NotIn | Operator::GreaterThan | Operator::LessThan => {
                if matches!(self.take(), "in" | "notin") { self.values()? } else { self.exact_value()? }
            }
        };
        let requirement = Requirement { key: key.to_owned(), operator, values };
        requirement.validate()?;
        Ok(requirement)
    }

    /// `(a, b)`.
    fn values(&mut self) -> Result<BTreeSet<String>, String> {
        let open = self.take();
        if open != "(" {
            return Err(format!("found '{open}' expected: '('"));
        }
        let mut all = BTreeSet::new();
        loop {
            match self.peek() {
                // `(,a)` and `(a,)` hold the empty value too.
                "," | ")" => {
                    all.insert(String::new());
                }
                token if is_identifier(token) => {
                    all.insert(self.take().to_owned());
                }
                other => return Err(format!("found '{other}', expected: ',', ')' or identifier")),
            }
            match self.take() {
                "," => {}
                ")" => return Ok(all),
                other => return Err(format!("found '{other}', expected: ',' or ')'")),
            }
        }
    }

    fn exact_value(&mut self) -> Result<BTreeSet<String>, String> {
        match self.peek() {
            "" | "," => Ok(BTreeSet::from([String::new()])),
            token if is_identifier(token) => Ok(BTreeSet::from([self.take().to_owned()])),
            other => Err(format!("found '{other}', expected: identifier")),
        }
    }
}

fn is_identifier(token: &str) -> bool {
    !token.is_empty() && !token.starts_with(SPECIAL)
}
