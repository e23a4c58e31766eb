//! Hosts to rehearse on: a folder in place of each root, services that really listen, and an etcd cluster of them.
//!
//! A host keeps the contract of [`stdlib::host::Host`], as a real one over OpenSSH does; a member of the cluster speaks
//! TLS with what it loaded when it started, and answers as etcd 3.4 does.

mod application;
mod commands;
mod etcd;
mod folder;
mod genesis;
mod kept;
mod layout;
mod machine;
mod pki;
mod process;
mod remote;
mod replace;
mod rpc;
mod serve;
mod side;
mod timer;
mod unit;
mod world;

pub use application::History;
pub use genesis::Etcd;
pub use kept::Keeper;
pub use layout::Layout;
pub use machine::{Fault, Machine};
pub use pki::Pki;
pub use remote::connect;
pub use unit::{Program, Unit};
pub use world::{Loaded, Options, World, stranger};

pub(crate) use process::serve as serve_process;
