//! The one error that every primitive returns.

use std::fmt;

/// What kind of failure it was; decides retries and the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The call itself is wrong: a missing, ill-typed or impossible argument.
    Argument,
    /// Something that should be there is not (an object, a file, a key of a Secret).
    NotFound,
    /// The system that the run is about is not there: a wrong cluster name or namespace.
    NoTarget,
    /// A private key that should lie beside its certificate is not there (a PKI folder without its CA key).
    NoKey,
    /// A private key does not belong to its certificate.
    KeyMismatch,
    /// Another run holds the target, or left its mark there.
    Locked,
    /// What is there is malformed or contradicts itself (bad PEM, key does not match, wrong YAML).
    Invalid,
    /// A certificate is not valid at this time.
    Expired,
    /// The server or the file system says no; the text names the rule to add.
    Forbidden,
    /// The world changed under us: a digest that is neither the one before nor the one after, or a version conflict.
    Conflict,
    /// A server or host did not answer, or answered that it cannot now. May be retried.
    Unavailable,
    /// The deadline passed.
    Timeout,
    /// A proof did not hold.
    Unproved,
    /// Everything is done but what needs a person first: the text says what is owed.
    Owed,
    /// The gate refused: the journal cannot be written, the run was cancelled, a capability is missing. Never caught.
    Refused,
    /// A bug of ours.
    Internal,
}

/// A failure, in the operator's words.
#[derive(Debug, Clone)]
pub struct PrimError {
    /// What kind.
    pub code: Code,
    /// The object or file it is about, as `Secret tidb/basic-pd-cluster-secret` or a path; may be empty.
    pub object: String,
    /// What went wrong: a lowercase fragment.
    pub message: String,
    /// What was expected, where that helps.
    pub expected: Option<String>,
    /// What was found instead.
    pub found: Option<String>,
    /// What to type or do next.
    pub hint: Option<String>,
}

impl PrimError {
    /// An error of the given kind.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, object: String::new(), message: message.into(), expected: None, found: None, hint: None }
    }
    /// [`Code::Argument`].
    pub fn argument(message: impl Into<String>) -> Self {
        Self::new(Code::Argument, message)
    }
    /// [`Code::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::Invalid, message)
    }
    /// [`Code::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }
    /// [`Code::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }
    /// Names the object or file.
    #[must_use]
    pub fn on(mut self, object: impl Into<String>) -> Self {
        self.object = object.into();
        self
    }
    /// Says what was expected and what was found.
    #[must_use]
    pub fn expected(mut self, expected: impl Into<String>, found: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self.found = Some(found.into());
        self
    }
    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    /// Whether trying again may help.
    pub fn retryable(&self) -> bool {
        matches!(self.code, Code::Unavailable | Code::Timeout)
    }
}

impl fmt::Display for PrimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        sentence(f, &self.object, &self.message, self.expected.as_deref(), self.found.as_deref())
    }
}

/// A failure as one sentence: `OBJECT: MESSAGE (expected THIS, found THAT)`.
///
/// # Errors
/// The formatter says no.
pub fn sentence(
    f: &mut fmt::Formatter<'_>,
    object: &str,
    message: &str,
    expected: Option<&str>,
    found: Option<&str>,
) -> fmt::Result {
    if !object.is_empty() {
        write!(f, "{object}: ")?;
    }
    f.write_str(message)?;
    if let (Some(expected), Some(found)) = (expected, found) {
        write!(f, " (expected {expected}, found {found})")?;
    }
    Ok(())
}

impl std::error::Error for PrimError {}
