//! A small world to rehearse a rotation in: a Kubernetes API, its controllers, and pods that really speak TLS; hosts
//! below Kubernetes with their services.

pub mod api;
pub mod hosts;
pub mod process;
mod websocket;
pub mod world;
