//! How strictly cfssl's formats are read: the one switch.

use serde_json::Value;

use crate::error::PrimError;

/// Strictly, or as cfssl itself reads.
///
/// Reading as cfssl does accepts more, and each time says so in a warning. What is accepted strictly means the same
/// under both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rules {
    /// What bites later is refused now: a profile that is not there, a misspelt usage, an expiry that is not positive,
    /// a country that is no two letters, a host that is none, a request that names nobody.
    #[default]
    Strict,
    /// As cfssl: the same with a warning each.
    Cfssl,
}

/// The field of a primitive's options that asks for [`Rules::Cfssl`].
const FIELD: &str = "cfssl_lax";

impl Rules {
    /// The rules that a primitive's options ask for: `#{ cfssl_lax: true }`, or nothing.
    pub(crate) fn of_options(options: Option<&Value>) -> Result<Self, PrimError> {
        match options.and_then(|options| options.get(FIELD)) {
            None | Some(Value::Null | Value::Bool(false)) => Ok(Self::Strict),
            Some(Value::Bool(true)) => Ok(Self::Cfssl),
            Some(other) => Err(PrimError::argument(format!("`{FIELD}` has the wrong type"))
                .expected("true or false", other.to_string())
                .hint("write `cfssl_lax: true`, or leave it out")),
        }
    }

    /// Whether cfssl's own behaviour was asked for.
    pub fn are_cfssls(self) -> bool {
        self == Self::Cfssl
    }
}

/// Takes the value, or, under cfssl's rules, the one that cfssl would take, with a warning.
pub(super) fn or_as_cfssl<T>(
    rules: Rules,
    strict: Result<T, PrimError>,
    warnings: &mut Vec<String>,
    cfssls: impl FnOnce() -> Option<(T, String)>,
) -> Result<T, PrimError> {
    match strict {
        Err(error) if rules.are_cfssls() => match cfssls() {
            Some((value, does)) => {
                warnings.push(format!("{error}; {does}"));
                Ok(value)
            }
            None => Err(error),
        },
        other => other,
    }
}
