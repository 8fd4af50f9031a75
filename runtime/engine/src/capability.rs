//! What a host crate adds to the engine: a name, and functions for the guest's linker.

use std::{
    any::{Any, TypeId},
    collections::BTreeMap,
    fmt,
};

use crate::state::GuestState;

/// One thing that guests may import. Each `host-*` crate exports one.
///
/// What it needs per guest it finds in the guest's [`Extensions`]; a guest that was given none must get an error of
/// the interface's own from the functions, not a panic.
#[derive(Clone, Copy)]
pub struct Capability {
    /// For messages: `sockets`, `http`.
    pub name: &'static str,
    /// Defines the interfaces. Called once per engine.
    pub add_to_linker: fn(&mut wasmtime::component::Linker<GuestState>) -> wasmtime::Result<()>,
}

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Capability({})", self.name)
    }
}

/// Values that capabilities keep in a guest's state, one of each type.
#[derive(Default)]
pub struct Extensions(BTreeMap<TypeId, Box<dyn Any + Send>>);

impl Extensions {
    /// Holds nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `value` in the place of its type, and gives what was there before.
    pub fn insert<T: Any + Send>(&mut self, value: T) -> Option<T> {
        let old = self.0.insert(TypeId::of::<T>(), Box::new(value))?;
        old.downcast().ok().map(|old| *old)
    }

    /// The value of type `T`.
    pub fn get<T: Any + Send>(&self) -> Option<&T> {
        self.0.get(&TypeId::of::<T>())?.downcast_ref()
    }

    /// The value of type `T`, to change it.
    pub fn get_mut<T: Any + Send>(&mut self) -> Option<&mut T> {
        self.0.get_mut(&TypeId::of::<T>())?.downcast_mut()
    }

    /// Takes the value of type `T` out.
    pub fn remove<T: Any + Send>(&mut self) -> Option<T> {
        self.0.remove(&TypeId::of::<T>())?.downcast().ok().map(|old| *old)
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Extensions({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_one_place() {
        let mut extensions = Extensions::new();
        assert_eq!(extensions.insert(1_u8), None);
        assert_eq!(extensions.insert("text"), None);
        assert_eq!(extensions.insert(2_u8), Some(1));
        *extensions.get_mut::<u8>().unwrap() += 1;
        assert_eq!(extensions.get::<u8>(), Some(&3));
        assert_eq!(extensions.remove::<u8>(), Some(3));
        assert_eq!(extensions.get::<u8>(), None);
        assert_eq!(extensions.get::<&str>(), Some(&"text"));
    }
}
