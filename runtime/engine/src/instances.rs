//! How many instances one instance of a component is made of, counted before anything is compiled.
//!
//! A component may instantiate another that it holds, any number of times, and that one others: a kilobyte can ask for
//! a billion instances. The compiler unfolds them all, and the pool has a place for each, so they are counted first.

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, ComponentTypeRef,
    Encoding, Parser, Payload,
};

use crate::error::LoadError;

/// More than any toolchain makes: a composition of a hundred components has some five hundred.
const MOST: u32 = 1_000;

/// What one instance is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Instances {
    /// Instances of core modules.
    pub(crate) core: u32,
    /// Instances of components, without the outermost.
    pub(crate) components: u32,
}

impl Instances {
    fn add(&mut self, other: Self) {
        self.core = self.core.saturating_add(other.core);
        self.components = self.components.saturating_add(other.components);
    }
}

/// A component or module that is being read.
#[derive(Default)]
struct Frame {
    is_component: bool,
    made: Instances,
    /// The index space of components; nothing for one that comes from outside.
    components: Vec<Option<Instances>>,
}

/// Counts the instances of a binary component, and refuses more than a thousand.
pub(crate) fn count(binary: &[u8]) -> Result<Instances, LoadError> {
    let made = walk(binary)?;
    if made.core.saturating_add(made.components) > MOST {
        return Err(LoadError::TooMuch(format!(
            "one instance of the component is made of more than {MOST} instances of modules and components"
        )));
    }
    Ok(made)
}

fn walk(binary: &[u8]) -> Result<Instances, LoadError> {
    let invalid = |error: wasmparser::BinaryReaderError| LoadError::Invalid(error.to_string());
    let mut frames: Vec<Frame> = Vec::new();
    for payload in Parser::new(0).parse_all(binary) {
        let payload = payload.map_err(invalid)?;
        if let Payload::Version { encoding, .. } = payload {
            frames.push(Frame { is_component: encoding == Encoding::Component, ..Frame::default() });
            continue;
        }
        if let Payload::End(_) = payload {
            let ended = frames.pop().unwrap_or_default();
            match frames.last_mut() {
                None => return Ok(ended.made),
                Some(outer) if ended.is_component => outer.components.push(Some(ended.made)),
                Some(_) => {}
            }
            continue;
        }
        read(&payload, &mut frames)?;
    }
    Err(LoadError::Invalid("it ends in the middle".to_owned()))
}

/// Takes in what a section defines and instantiates.
fn read(payload: &Payload<'_>, frames: &mut [Frame]) -> Result<(), LoadError> {
    let invalid = |error: wasmparser::BinaryReaderError| LoadError::Invalid(error.to_string());
    let Some((frame, outer)) = frames.split_last_mut() else { return Ok(()) };
    match payload {
        Payload::InstanceSection(section) => {
            for instance in section.clone() {
                if matches!(instance.map_err(invalid)?, wasmparser::Instance::Instantiate { .. }) {
                    frame.made.add(Instances { core: 1, components: 0 });
                }
            }
        }
        Payload::ComponentInstanceSection(section) => {
            for instance in section.clone() {
                if let ComponentInstance::Instantiate { component_index, .. } = instance.map_err(invalid)? {
                    let made = component(frame, component_index)?.ok_or_else(|| {
                        LoadError::NotRunnable(
                            "the component instantiates a component that it imports, which is not supported; compose the two (`wac plug`) first".to_owned(),
                        )
                    })?;
                    frame.made.add(made);
                    frame.made.add(Instances { core: 0, components: 1 });
                }
            }
        }
        Payload::ComponentImportSection(section) => {
            for import in section.clone() {
                if matches!(import.map_err(invalid)?.ty, ComponentTypeRef::Component(_)) {
                    frame.components.push(None);
                }
            }
        }
        Payload::ComponentAliasSection(section) => {
            for alias in section.clone() {
                match alias.map_err(invalid)? {
                    ComponentAlias::InstanceExport { kind: ComponentExternalKind::Component, .. } => {
                        frame.components.push(None);
                    }
                    ComponentAlias::Outer { kind: ComponentOuterAliasKind::Component, count: 0, index } => {
                        frame.components.push(component(frame, index)?);
                    }
                    ComponentAlias::Outer { kind: ComponentOuterAliasKind::Component, count, index } => {
                        let from =
                            usize::try_from(count).ok().and_then(|count| outer.len().checked_sub(count));
                        let from = from.and_then(|at| outer.get(at)).ok_or_else(|| {
                            LoadError::Invalid(format!("an alias leads {count} components outwards"))
                        })?;
                        frame.components.push(component(from, index)?);
                    }
                    _ => {}
                }
            }
        }
        // An export of a component has an index of its own.
        Payload::ComponentExportSection(section) => {
            for export in section.clone() {
                let export = export.map_err(invalid)?;
                if export.kind == ComponentExternalKind::Component {
                    frame.components.push(component(frame, export.index)?);
                }
            }
        }
        _ => {}
    }
    Ok(())
}

fn component(frame: &Frame, index: u32) -> Result<Option<Instances>, LoadError> {
    let found = usize::try_from(index).ok().and_then(|index| frame.components.get(index));
    found.copied().ok_or_else(|| LoadError::Invalid(format!("there is no component of index {index}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(text: &str, expect: Expect) {
        let binary = wat::parse_str(text).unwrap();
        let told = match count(&binary) {
            Ok(Instances { core, components }) => format!("{core} core, {components} components"),
            Err(error) => error.to_string(),
        };
        expect.assert_eq(&told);
    }

    /// Each level instantiates the one below twice.
    fn bomb(levels: u32) -> String {
        let mut text = "(component $c0 (core module $m) (core instance (instantiate $m)))".to_owned();
        for level in 1..=levels {
            let below = level - 1;
            text = format!(
                "(component $c{level} {text} (instance (instantiate $c{below})) (instance (instantiate $c{below})))"
            );
        }
        text
    }

    #[test]
    fn instances_are_counted_as_often_as_they_are_made() {
        check("(module)", expect!["0 core, 0 components"]);
        check(
            "(component (core module $m) (core instance (instantiate $m)) (core instance (instantiate $m)))",
            expect!["2 core, 0 components"],
        );
        check(&bomb(1), expect!["2 core, 2 components"]);
        check(&bomb(3), expect!["8 core, 14 components"]);
    }

    #[test]
    fn aliases_and_exports_of_components_count_as_what_they_stand_for() {
        check(
            r#"(component
                (component $a (core module $m) (core instance (instantiate $m)))
                (export $b "b" (component $a))
                (component $c
                    (alias outer 1 $a (component $d))
                    (instance (instantiate $d)))
                (instance (instantiate $b))
                (instance (instantiate $c)))"#,
            expect!["2 core, 3 components"],
        );
    }

    #[test]
    fn what_unfolds_without_end_is_refused() {
        for levels in [9, 40] {
            check(
                &bomb(levels),
                expect![
                    "one instance of the component is made of more than 1000 instances of modules and components"
                ],
            );
        }
    }

    #[test]
    fn a_component_from_outside_cannot_be_counted() {
        check(
            r#"(component (import "c" (component $c)) (instance (instantiate $c)))"#,
            expect![
                "the component instantiates a component that it imports, which is not supported; compose the two (`wac plug`) first"
            ],
        );
    }
}
