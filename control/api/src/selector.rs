//! Selectors: which objects a list, a watch or a controller is about.
//!
//! [`LabelSelector`] in its text form (`app=web,tier in (a, b),!old`) and as `metav1.LabelSelector`; [`FieldSelector`]
//! over the few fields that upstream lets one select by.

mod field;
mod label;
mod parse;

pub use field::FieldSelector;
pub use label::{LabelSelector, Operator, Requirement};
