//! The start state: a TiDB cluster that runs, with Secrets as the procedure names them.

mod cert_manager;
mod objects;
mod pki;
mod scenario;
mod sql;
mod v2;

pub use objects::create;
pub(crate) use objects::sql_password;
pub use pki::{INPUTS, Issued, Pki, stem};
pub use scenario::{Expired, IssuedBy, Operator, RotationPolicy, Scenario};
pub use sql::SqlPki;
