//! Every primitive that a Rollover workflow may call, one module a namespace.
//!
//! This crate knows nothing of runs, journals or scripts. What it changes in the world it announces through the
//! [`gate::Gate`] that its caller supplies; what it needs of the world it takes from a [`world::World`].

pub mod bundle;
pub mod ca;
pub mod cert;
pub mod certmanager;
pub mod cfssl;
pub mod duration;
pub mod error;
pub mod etcd;
pub mod files;
pub mod flow;
pub mod gate;
pub mod host;
pub mod k8s;
pub mod lease;
mod looking;
pub mod mysql;
pub mod near;
pub mod pem;
pub mod registry;
pub mod secret;
pub mod tidb;
pub mod tls;
pub mod trust;
pub mod world;

pub use error::PrimError;
pub use registry::{Primitive, Registry, registry};
pub use secret::Secret;
pub use world::World;
