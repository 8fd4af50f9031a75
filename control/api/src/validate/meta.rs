//! Checks of the metadata that every object has.
