//! From what was given (flags, a file, the environment) to typed values.

use std::collections::BTreeMap;
use std::fmt;

use sandbox::world::{Operator, Scenario};
use serde_json::Value;
use stdlib::duration;
use stdlib::secret::{Secret, SecretStore};

use super::parse::words;
use super::{Manifest, ParamSpec, ParamType};
use crate::diagnostic::nearest;

/// What was given for the parameters. A flag wins over the file, the file over the environment, that over the default.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// `--set NAME=VALUE`, in order; the last of a name wins.
    pub set: Vec<(String, String)>,
    /// `--params FILE`: its name and text (YAML or JSON).
    pub file: Option<(String, String)>,
    /// The environment.
    pub env: BTreeMap<String, String>,
}

/// A parameter that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ParamError {
    /// Its name; empty where a whole file is meant.
    pub name: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl fmt::Display for ParamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The environment variable of a parameter: `ROLLOVER_PARAM_NAME`.
pub fn env_name(param: &str) -> String {
    format!("{ENV_PREFIX}{}", param.to_uppercase().replace('-', "_"))
}

const ENV_PREFIX: &str = "ROLLOVER_PARAM_";

impl Manifest {
    /// The values of all parameters; one that is not required and not given is null. Secrets go into the store, their
    /// values are handles.
    ///
    /// # Errors
    /// Every parameter that is unknown, ill-typed or missing, each by name.
    pub fn resolve(
        &self,
        given: &Given,
        secrets: &dyn SecretStore,
    ) -> Result<BTreeMap<String, Value>, Vec<ParamError>> {
        let mut errors = Vec::new();
        let mut found: BTreeMap<String, (String, Value)> = BTreeMap::new();
        for (name, spec) in self.params.iter() {
            for variable in spec.env.iter().cloned().chain([env_name(name)]) {
                if let Some(text) = given.env.get(&variable) {
                    found.insert(
                        name.to_owned(),
                        (format!("environment variable {variable}"), spec.read(text)),
                    );
                }
            }
        }
        for variable in given.env.keys().filter(|variable| variable.starts_with(ENV_PREFIX)) {
            if !self.params.names().any(|name| env_name(name) == *variable) {
                let name = variable.trim_start_matches(ENV_PREFIX).to_lowercase();
                errors.push(self.unknown(&name, &format!("environment variable {variable}")));
            }
        }
        match given.file.as_ref().map(|(name, text)| (name, read_file(name, text))) {
            None => {}
            Some((_, Err(error))) => errors.push(error),
            Some((file, Ok(fields))) => {
                for (name, value) in fields {
                    if self.params.get(&name).is_none() {
                        errors.push(self.unknown(&name, file));
                    } else {
                        found.insert(name, (file.clone(), value));
                    }
                }
            }
        }
        for (name, text) in &given.set {
            match self.params.get(name) {
                None => errors.push(self.unknown(name, "`--set`")),
                Some(spec) => {
                    found.insert(name.clone(), ("`--set`".to_owned(), spec.read(text)));
                }
            }
        }
        let mut values = BTreeMap::new();
        for (name, spec) in self.params.iter() {
            match value_of(name, spec, found.remove(name), secrets) {
                Ok(value) => {
                    values.insert(name.to_owned(), value);
                }
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(values) } else { Err(errors) }
    }

    /// What a sandbox for a run with these parameters begins with: the manifest's, with the operator that the parameter
    /// `operator` names, where the workflow has one.
    pub fn sandbox_for(&self, given: &Given) -> Scenario {
        let mut scenario = self.sandbox.clone();
        let Some(spec) = self.params.get("operator") else { return scenario };
        let flag = given.set.iter().rev().find(|(name, _)| name == "operator").map(|(_, text)| text.clone());
        let in_file = || {
            let (name, text) = given.file.as_ref()?;
            let fields = read_file(name, text).ok()?;
            let value = fields.into_iter().find(|(name, _)| name == "operator")?.1;
            value.as_str().map(str::to_owned)
        };
        let variables = spec.env.iter().cloned().chain([env_name("operator")]);
        let said = flag
            .or_else(in_file)
            .or_else(|| variables.filter_map(|variable| given.env.get(&variable).cloned()).next_back());
        let said = said.or_else(|| spec.default.as_ref()?.as_str().map(str::to_owned));
        if said.as_deref() == Some("v2") {
            scenario.operator = Operator::V2;
        }
        scenario
    }

    fn unknown(&self, name: &str, origin: &str) -> ParamError {
        let known: Vec<_> = self.params.names().map(|name| format!("`{name}`")).collect();
        let known = if known.is_empty() {
            "it takes none".to_owned()
        } else {
            format!("it takes {}", known.join(", "))
        };
        let hint = match nearest(name, self.params.names()) {
            Some(near) => format!("did you mean `{near}`? {known}"),
            None => known,
        };
        ParamError {
            name: name.to_owned(),
            message: format!("the workflow has no parameter `{name}` ({origin})"),
            hint: Some(hint),
        }
    }
}

fn value_of(
    name: &str,
    spec: &ParamSpec,
    found: Option<(String, Value)>,
    secrets: &dyn SecretStore,
) -> Result<Value, ParamError> {
    let Some((origin, value)) = found.or_else(|| Some(("its default".to_owned(), spec.default.clone()?)))
    else {
        if !spec.is_required() {
            return Ok(Value::Null);
        }
        let help = if spec.help.is_empty() { String::new() } else { format!(" ({})", spec.help) };
        return Err(ParamError {
            name: name.to_owned(),
            message: format!("parameter `{name}` is missing{help}"),
            hint: Some(format!(
                "give it with `--set {name}=VALUE`, in the `--params` file, or as {}",
                env_name(name)
            )),
        });
    };
    let value = spec.accept(value).map_err(|message| ParamError {
        name: name.to_owned(),
        message: format!("parameter `{name}`: {message} ({origin})"),
        hint: (!spec.help.is_empty()).then(|| spec.help.clone()),
    })?;
    match (&value, spec.secret) {
        (Value::String(text), true) => {
            let fingerprint = secrets.keyed_digest(text.as_bytes());
            secrets.put(&Secret::new(text.as_bytes(), fingerprint)).map_err(|error| ParamError {
                name: name.to_owned(),
                message: format!("parameter `{name}` cannot be stored: {error}"),
                hint: error.hint,
            })
        }
        _ => Ok(value),
    }
}

fn read_file(name: &str, text: &str) -> Result<serde_json::Map<String, Value>, ParamError> {
    let wrong = |message: String| ParamError { name: String::new(), message, hint: None };
    let value: Value = serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().map_or_else(String::new, |place| format!(":{}", place.line()));
        wrong(format!("{name}{line}: {}", words(&error)))
    })?;
    match value {
        Value::Object(fields) => Ok(fields),
        Value::Null => Ok(serde_json::Map::new()),
        _ => Err(wrong(format!("{name}: expected a map of parameter names and values"))),
    }
}

impl ParamSpec {
    /// The value that a text on the command line or in the environment means; checked by [`ParamSpec::accept`].
    fn read(&self, text: &str) -> Value {
        match self.ty {
            ParamType::Int => text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from),
            ParamType::Bool => text.parse::<bool>().map_or_else(|_| Value::from(text), Value::from),
            ParamType::List => {
                text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Value::from).collect()
            }
            _ => Value::from(text),
        }
    }

    /// The value, if it is of the right type.
    ///
    /// # Errors
    /// What is expected and what was found, in words; never the value of a secret.
    pub(super) fn accept(&self, value: Value) -> Result<Value, String> {
        let shown = if self.secret { "something else".to_owned() } else { format!("`{}`", shorten(&value)) };
        let expected = |what: &str| Err(format!("expected {what}, found {shown}"));
        match (self.ty, &value) {
            (ParamType::Text, Value::String(text)) => {
                let Some(pattern) = &self.pattern else { return Ok(value) };
                let whole =
                    regex_lite::Regex::new(&format!("^(?:{pattern})$")).map_err(|error| error.to_string())?;
                if whole.is_match(text) {
                    Ok(value)
                } else {
                    expected(&format!("a text that matches `{pattern}`"))
                }
            }
            (ParamType::Text, _) => expected("a text (in quotes in a YAML file)"),
            (ParamType::Path, Value::String(text)) if !text.is_empty() && !text.contains('\0') => Ok(value),
            (ParamType::Path, _) => expected("a path"),
            (ParamType::Int, Value::Number(number)) if number.as_i64().is_some_and(safe) => {
                self.within(value)
            }
            (ParamType::Int, _) => expected("an integer"),
            (ParamType::Bool, Value::Bool(_)) => Ok(value),
            (ParamType::Bool, _) => expected("`true` or `false`"),
            (ParamType::Duration, Value::String(text)) => {
                duration::parse(text).and_then(|_| self.within(value))
            }
            (ParamType::Duration, _) => expected("a duration such as `45m`"),
            (ParamType::List, Value::Array(items)) if items.iter().all(Value::is_string) => Ok(value),
            (ParamType::List, _) => expected("a list of texts"),
            (ParamType::Choice, Value::String(text)) if self.choices.contains(text) => Ok(value),
            (ParamType::Choice, _) => {
                let choices: Vec<_> = self.choices.iter().map(|choice| format!("`{choice}`")).collect();
                let near =
                    value.as_str().and_then(|text| nearest(text, self.choices.iter().map(String::as_str)));
                let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                expected(&format!("one of {}", choices.join(", ")))
                    .map_err(|text: String| format!("{text}{near}"))
            }
        }
    }
}

impl ParamSpec {
    /// What `min` and `max` compare: a number, or a duration in milliseconds.
    pub(super) fn measure(&self, value: &Value) -> Option<i128> {
        match self.ty {
            ParamType::Int => value.as_i64().map(i128::from),
            ParamType::Duration => {
                let span = duration::parse(value.as_str()?).ok()?;
                i128::try_from(span.as_millis()).ok()
            }
            _ => None,
        }
    }

    fn within(&self, value: Value) -> Result<Value, String> {
        let measured = self.measure(&value);
        let beyond = |bound: &Option<Value>, wrong: fn(i128, i128) -> bool| {
            let bound = self.measure(bound.as_ref()?)?;
            measured.filter(|measured| wrong(*measured, bound))
        };
        if beyond(&self.min, |measured, least| measured < least).is_none()
            && beyond(&self.max, |measured, most| measured > most).is_none()
        {
            return Ok(value);
        }
        let shown = |bound: &Value| bound.as_str().map_or_else(|| bound.to_string(), str::to_owned);
        let range = match (&self.min, &self.max) {
            (Some(min), Some(max)) => format!("{} to {}", shown(min), shown(max)),
            (Some(min), None) => format!("at least {}", shown(min)),
            (_, max) => format!("at most {}", max.as_ref().map(shown).unwrap_or_default()),
        };
        Err(format!("expected {range}, found `{}`", shorten(&value)))
    }
}

/// Integers beyond 2^53 do not survive canonical JSON.
fn safe(number: i64) -> bool {
    number.unsigned_abs() <= 1 << 53
}

fn shorten(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if text.chars().count() <= 60 { text } else { text.chars().take(57).chain("...".chars()).collect() }
}
