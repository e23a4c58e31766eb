//! The world of the sandbox: controllers, kubelet and TiDB operator as ordinary clients of its Kubernetes API, and pods
//! that really serve and dial TLS with what they loaded when they started.

pub mod bell;
pub mod cache;
pub mod controllers;
pub mod counters;
pub mod ctx;
pub mod directory;
mod end_state;
pub mod faults;
pub mod genesis;
pub mod issuer;
pub mod json;
pub mod kube;
pub mod kubelet;
pub mod memo;
pub mod net;
pub mod operator;
pub mod pacer;
pub mod pd;
pub mod pod;
mod scheduler;
mod start;
mod steady;
pub mod timing;
pub mod tls;
pub mod volume;

pub use end_state::{EndState, Served};
pub use faults::Fault;
pub use genesis::{Expired, IssuedBy, Operator, Pki, RotationPolicy, Scenario};
pub use memo::Memo;
pub use start::{Clients, Mode, Options, StartError, World};
pub use timing::{Span, Timing};
