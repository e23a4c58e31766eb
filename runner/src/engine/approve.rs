//! Whom the engine asks.

use futures::future::BoxFuture;

use crate::events::Question;

/// An answer, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Yes or no.
    pub yes: bool,
    /// Who answered: a user name, or `nobody`.
    pub who: String,
    /// How: `typed yes at the prompt`, `--yes`.
    pub how: String,
}

/// Answers questions: a terminal, `--yes`, a test.
pub trait Approver: Send + Sync {
    /// Asks and waits for the answer.
    fn ask<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Answer>;
}

/// Nobody is there: every answer is no.
#[derive(Debug, Default, Clone, Copy)]
pub struct Nobody;

impl Approver for Nobody {
    fn ask<'a>(&'a self, _: &'a Question) -> BoxFuture<'a, Answer> {
        Box::pin(async { Answer { yes: false, who: "nobody".into(), how: "nobody to ask".into() } })
    }
}

/// `--yes`: agrees to begin and to points of no return. An outage is accepted only where that was said too, and a
/// failed step is not tried for ever.
#[derive(Debug, Default, Clone)]
pub struct Yes {
    /// Whose flag it was.
    pub who: String,
    /// Whether `--accept-outage` was given.
    pub outage: bool,
}

impl Approver for Yes {
    fn ask<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Answer> {
        let (yes, how) = match question {
            Question::Begin { .. } | Question::NoReturn { .. } => (true, "--yes"),
            Question::Outage { .. } => (self.outage, "--accept-outage"),
            Question::Again { .. } => (false, "--yes"),
        };
        Box::pin(async move { Answer { yes, who: self.who.clone(), how: how.into() } })
    }
}
