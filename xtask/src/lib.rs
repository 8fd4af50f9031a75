//! The project's checks and demo.
