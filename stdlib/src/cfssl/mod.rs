//! cfssl's formats as they are: requests, configurations, and the folder in which people keep them.

mod adopt;
pub(crate) mod calls;
mod config;
pub(crate) mod duration;
pub mod folder;
mod install;
mod issue;
mod json;
mod primitives;
mod request;
mod rules;

pub(crate) use config::BACKDATE;
pub use config::{Config, Profile};
pub use issue::{check_authority, issue, issue_for, reissue, sign};
pub(crate) use issue::{past_9999, whole_minute};
pub use json::parse as parse_json;
pub use primitives::PRIMITIVES;
pub use request::{Authority, Names, Request};
pub use rules::Rules;
use serde_json::Value;

use crate::error::PrimError;

/// A duration of a script: Go's text, or seconds.
pub(crate) fn duration_of(value: &Value) -> Result<time::Duration, PrimError> {
    match (value.as_str(), value.as_u64().map(i64::try_from)) {
        (Some(text), _) => duration::parse(text),
        (None, Some(Ok(seconds))) if seconds > 0 => Ok(time::Duration::seconds(seconds)),
        _ => Err(PrimError::argument("a duration is expected, as `8760h`")
            .expected("hours, minutes and seconds, or a number of seconds", "something else")
            .hint("write it as `\"8760h\"`")),
    }
}
