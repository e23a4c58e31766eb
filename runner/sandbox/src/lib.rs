//! A small world to rehearse a rotation in: a Kubernetes API, its controllers, and pods that really speak TLS.

pub mod api;
pub mod process;
pub mod world;
