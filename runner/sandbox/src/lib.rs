//! A small world to rehearse a rotation in.

pub mod api;
