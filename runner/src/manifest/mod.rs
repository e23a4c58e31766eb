//! `workflow.yaml`: what a workflow is called, which parameters it takes, what it may touch, what it warns of.

mod params;
mod parse;
#[cfg(test)]
mod tests;
mod touches;

use sandbox::world::Scenario;
use serde::Deserialize;
use serde_json::Value;

pub use params::{Given, ParamError, env_name};
pub use touches::{Allowance, Allowed};

/// A workflow's manifest.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// One line.
    pub title: String,
    /// What it does and when to use it.
    #[serde(default)]
    pub summary: String,
    /// The document or page that it follows.
    #[serde(default)]
    pub source: Option<String>,
    /// Typed parameters, in the order of the file.
    #[serde(default)]
    pub params: Params,
    /// What it may read and change: law 9 of the design.
    #[serde(default)]
    pub touches: Vec<Allowed>,
    /// Why links may fail while it runs; absent where they may not.
    #[serde(default)]
    pub outage: Option<String>,
    /// From which moment there is no way back, in words; absent where there is none.
    #[serde(default)]
    pub point_of_no_return: Option<String>,
    /// Whether it begins with a broken target and only goes forward.
    #[serde(default)]
    pub forward_only: bool,
    /// What is said at its end where it succeeds, beside what is always said: the line that a page tells people to look for.
    #[serde(default)]
    pub success: Option<String>,
    /// What a sandbox for it begins with, where that is not a healthy TiDB cluster of certificates by cfssl.
    #[serde(default)]
    pub sandbox: Scenario,
}

/// Parameters in the order of the manifest.
#[derive(Debug, Clone, Default)]
pub struct Params(pub Vec<(String, ParamSpec)>);

impl Params {
    /// The parameter of this name.
    pub fn get(&self, name: &str) -> Option<&ParamSpec> {
        self.iter().find(|(known, _)| *known == name).map(|(_, spec)| spec)
    }
    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ParamSpec)> {
        self.0.iter().map(|(name, spec)| (name.as_str(), spec))
    }
    /// Their names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

/// The type of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum ParamType {
    /// Text.
    #[default]
    Text,
    /// An integer.
    Int,
    /// `true` or `false`.
    Bool,
    /// A duration such as `45m`.
    Duration,
    /// A file or folder of this machine.
    Path,
    /// A list of texts; on the command line separated by commas.
    List,
    /// One of `choices`.
    Choice,
}

impl ParamType {
    /// The word in the manifest.
    pub fn word(self) -> &'static str {
        match self {
            ParamType::Text => "text",
            ParamType::Int => "int",
            ParamType::Bool => "bool",
            ParamType::Duration => "duration",
            ParamType::Path => "path",
            ParamType::List => "list",
            ParamType::Choice => "choice",
        }
    }
}

/// One parameter.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParamSpec {
    /// Its type; text unless said.
    #[serde(rename = "type", default)]
    pub ty: ParamType,
    /// Its value where none is given.
    #[serde(default)]
    pub default: Option<Value>,
    /// Whether one must be given; so where there is no default, unless said otherwise.
    #[serde(default)]
    pub required: Option<bool>,
    /// Whether its value is a secret, which the script sees as a handle only.
    #[serde(default)]
    pub secret: bool,
    /// What it is, with unit and range.
    #[serde(default)]
    pub help: String,
    /// For `choice`: the words.
    #[serde(default)]
    pub choices: Vec<String>,
    /// For `text`: a regular expression that the whole value must match.
    #[serde(default)]
    pub pattern: Option<String>,
    /// For `int` and `duration`: the least value.
    #[serde(default)]
    pub min: Option<Value>,
    /// For `int` and `duration`: the largest value.
    #[serde(default)]
    pub max: Option<Value>,
    /// One more environment variable to look in, after `ROLLOVER_PARAM_NAME`.
    #[serde(default)]
    pub env: Option<String>,
}

impl ParamSpec {
    /// Whether a value must be given.
    pub fn is_required(&self) -> bool {
        self.required.unwrap_or(self.default.is_none()) && self.default.is_none()
    }
}
