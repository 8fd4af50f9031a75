//! Load against a running server: pods, density, HTTP.
