//! Failures as the API server words them: a `Status` object with reason, message, details and code.

use serde_json::{Value, json};

/// One cause in `details.causes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// A machine-readable reason, e.g. `FieldValueInvalid`.
    pub reason: String,
    /// The message.
    pub message: String,
    /// The field, e.g. `metadata.name`.
    pub field: String,
}

/// A failed request, as the `Status` body of its response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError(Box<Failure>);

/// What an [`ApiError`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The HTTP status.
    pub code: u16,
    /// The machine-readable reason, e.g. `NotFound`.
    pub reason: String,
    /// The message.
    pub message: String,
    /// The name of the object, where there is one.
    pub name: String,
    /// The group of the object.
    pub group: String,
    /// The plural resource, or the kind for `Invalid`.
    pub kind: String,
    /// The uid of the object, where it matters.
    pub uid: String,
    /// Details of what is wrong.
    pub causes: Vec<Cause>,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
}

pub(crate) type Result<T, E = ApiError> = std::result::Result<T, E>;

/// `plural` or `plural.group`, the way messages name a resource.
pub(crate) fn qualified(group: &str, plural: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

impl std::ops::Deref for ApiError {
    type Target = Failure;

    fn deref(&self) -> &Failure {
        &self.0
    }
}

impl std::ops::DerefMut for ApiError {
    fn deref_mut(&mut self) -> &mut Failure {
        &mut self.0
    }
}

impl ApiError {
    /// An error with code, reason and message alone.
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self(Box::new(Failure {
            code,
            reason: reason.into(),
            message: message.into(),
            name: String::new(),
            group: String::new(),
            kind: String::new(),
            uid: String::new(),
            causes: Vec::new(),
            retry_after: None,
        }))
    }

    /// The usual reason of an HTTP status, for injected faults.
    pub fn of_code(code: u16, message: impl Into<String>) -> Self {
        let reason = match code {
            400 => "BadRequest",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "NotFound",
            405 => "MethodNotAllowed",
            409 => "Conflict",
            410 => "Expired",
            413 => "RequestEntityTooLarge",
            415 => "UnsupportedMediaType",
            422 => "Invalid",
            429 => "TooManyRequests",
            500 => "InternalError",
            503 => "ServiceUnavailable",
            504 => "Timeout",
            _ => "Unknown",
        };
        Self::new(code, reason, message)
    }

    pub(crate) fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        group.clone_into(&mut self.group);
        kind.clone_into(&mut self.kind);
        name.clone_into(&mut self.name);
        self
    }

    pub(crate) fn cause(mut self, reason: &str, field: &str, message: impl Into<String>) -> Self {
        self.causes.push(Cause { reason: reason.into(), message: message.into(), field: field.into() });
        self
    }

    pub(crate) fn not_found(group: &str, plural: &str, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} \"{name}\" not found", qualified(group, plural)))
            .about(group, plural, name)
    }

    /// A path that serves nothing.
    pub(crate) fn no_such_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
    }

    pub(crate) fn already_exists(group: &str, plural: &str, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{} \"{name}\" already exists", qualified(group, plural)))
            .about(group, plural, name)
    }

    pub(crate) fn conflict(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} \"{name}\": {why}", qualified(group, plural));
        Self::new(409, "Conflict", message).about(group, plural, name)
    }

    /// The optimistic conflict.
    pub(crate) fn modified(group: &str, plural: &str, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(group, plural, name, why)
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(crate) fn forbidden(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let message = format!("{} \"{name}\" is forbidden: {why}", qualified(group, plural));
        Self::new(403, "Forbidden", message).about(group, plural, name)
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    }

    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// An object that fails validation: one message of all field errors, as the real server joins them.
    pub(crate) fn invalid(group: &str, kind: &str, name: &str, errors: Vec<FieldError>) -> Self {
        let mut texts: Vec<String> = Vec::new();
        for error in &errors {
            let text = error.text();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let joined = match texts.as_slice() {
            [] => String::from("unknown"),
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut status =
            Self::new(422, "Invalid", format!("{} \"{name}\" is invalid: {joined}", qualified(group, kind)))
                .about(group, kind, name);
        for error in errors {
            status = status.cause(error.kind.reason(), &error.field, error.body());
        }
        status
    }

    /// The `Status` body.
    pub fn status(&self) -> Value {
        let mut body = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        });
        let mut details = serde_json::Map::new();
        for (key, value) in
            [("name", &self.name), ("group", &self.group), ("kind", &self.kind), ("uid", &self.uid)]
        {
            if !value.is_empty() {
                details.insert(key.into(), Value::String(value.clone()));
            }
        }
        if !self.causes.is_empty() {
            let causes = self.causes.iter().map(|cause| {
                let mut one = serde_json::Map::new();
                for (key, value) in
                    [("reason", &cause.reason), ("message", &cause.message), ("field", &cause.field)]
                {
                    if !value.is_empty() {
                        one.insert(key.into(), Value::String(value.clone()));
                    }
                }
                Value::Object(one)
            });
            details.insert("causes".into(), Value::Array(causes.collect()));
        }
        if let Some(seconds) = self.retry_after {
            details.insert("retryAfterSeconds".into(), json!(seconds));
        }
        if !details.is_empty()
            && let Some(map) = body.as_object_mut()
        {
            map.insert("details".into(), Value::Object(details));
        }
        body
    }
}

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    Required,
    Invalid,
    Forbidden,
    Unsupported,
    TooLong,
    NotFound,
    Type,
}

impl Wrong {
    fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::Forbidden => "FieldValueForbidden",
            Self::Unsupported => "FieldValueNotSupported",
            Self::TooLong => "FieldValueTooLong",
            Self::NotFound => "FieldValueNotFound",
            Self::Type => "FieldValueTypeInvalid",
        }
    }
}

/// One field error of a validation.
#[derive(Debug, Clone)]
pub(crate) struct FieldError {
    pub(crate) kind: Wrong,
    pub(crate) field: String,
    pub(crate) value: String,
    pub(crate) detail: String,
}

impl FieldError {
    pub(crate) fn required(field: &str, detail: &str) -> Self {
        Self { kind: Wrong::Required, field: field.into(), value: String::new(), detail: detail.into() }
    }

    pub(crate) fn forbidden(field: &str, detail: &str) -> Self {
        Self { kind: Wrong::Forbidden, field: field.into(), value: String::new(), detail: detail.into() }
    }

    /// `value` as Go prints it: strings in quotes.
    pub(crate) fn invalid(field: &str, value: impl Into<String>, detail: &str) -> Self {
        Self { kind: Wrong::Invalid, field: field.into(), value: value.into(), detail: detail.into() }
    }

    pub(crate) fn of(kind: Wrong, field: &str, value: impl Into<String>, detail: &str) -> Self {
        Self { kind, field: field.into(), value: value.into(), detail: detail.into() }
    }

    fn body(&self) -> String {
        let head = match self.kind {
            Wrong::Required => "Required value".to_owned(),
            Wrong::Forbidden => "Forbidden".to_owned(),
            Wrong::TooLong => "Too long".to_owned(),
            Wrong::Invalid | Wrong::Type => format!("Invalid value: {}", self.value),
            Wrong::Unsupported => format!("Unsupported value: {}", self.value),
            Wrong::NotFound => format!("Not found: {}", self.value),
        };
        if self.detail.is_empty() { head } else { format!("{head}: {}", self.detail) }
    }

    fn text(&self) -> String {
        format!("{}: {}", self.field, self.body())
    }
}

/// A string as Go's `%q` prints it, near enough for messages.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}
