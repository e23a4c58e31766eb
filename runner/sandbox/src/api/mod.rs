//! A Kubernetes API server in memory.
//!
//! It speaks JSON over HTTP as the real one does: to clients in this process through [`Server::client`], to any other
//! over HTTPS through [`Server::serve`]. It keeps objects, versions, managers of fields and histories, and carries out
//! deletion with its owners and finalizers; it runs no controllers. One lock guards one store: a request is carried
//! out between two awaits, so a run with one seed and a virtual clock repeats itself.
//!
//! What it leaves out: OpenAPI, protobuf answers (bodies: a few kinds), attach and the SPDY form of exec and port-forward (WebSockets only), admission webhooks, conversion webhooks, API priority,
//! quotas. Lists and watches show the newest state (there is no stale cache), unless a version is asked for exactly.

mod access;
pub(crate) mod answers;
mod apply;
mod client;
mod columns;
mod control;
mod customs;
mod decoding;
mod defaults;
mod deleting;
mod discovery;
mod error;
mod faults;
mod fields;
mod managed;
mod names;
mod object;
mod openapi;
mod patching;
mod podcells;
mod protobuf;
mod reading;
pub(crate) mod request;
mod resources;
mod rules;
pub(crate) mod selector;
mod serve;
mod server;
mod shape;
mod store;
mod strategic;
mod strategy;
pub(crate) mod streams;
mod subresources;
mod table;
mod validate;
mod watching;
mod writing;

pub use access::Rule;
pub use control::{Counters, LogSource, RequestHook};
pub use error::{ApiError, Cause, Failure};
pub use faults::{Effect, Fault, FaultId, Faults};
pub use request::RequestInfo;
pub use resources::Gr;
pub use serve::kubeconfig;
pub use server::{Options, Server};
