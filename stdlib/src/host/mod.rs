//! Hosts below Kubernetes: a port with implementations for OpenSSH and for this machine, the inventories that name them,
//! and the namespace `host`.

mod acting;
mod calls;
mod change;
mod command;
mod compare;
mod containers;
mod facts;
pub mod inventory;
mod local;
pub mod lock;
mod mixed;
mod owner;
mod pool;
mod port;
mod posix;
mod primitives;
pub(crate) mod restart;
mod scripts;
mod service;
mod shell;
mod ssh;
mod stage;
mod stop;
pub(crate) mod timer;
mod trust;
mod verify;

pub(crate) use calls::{entry, paths};
pub use containers::{Asked, asked};
pub use inventory::{Connection, Entry, Inventory};
pub use local::Local;
pub use pool::{Connect, Pool};
pub use port::{ABSENT, Command, Fence, Found, Host, Move, Offset, Output, Put, digest};
pub use posix::{Job, Posix, Transport};
pub use primitives::PRIMITIVES;

pub use service::{Runtime, Service, Status};
pub use ssh::Ssh;
pub use timer::{Guard, State as TimerState, Timer};
