//! The exit codes of `rollover`: a documented, stable enum. The reference page is generated from [`ExitCode::ALL`].

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use stdlib::PrimError;
use stdlib::error::Code;

/// How the program ends. Numbers never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum ExitCode {
    /// Everything that was asked for is done.
    Ok = 0,
    /// A failure that has no code of its own; a bug of ours.
    Unknown = 1,
    /// The command line is wrong.
    Usage = 2,
    /// `check` or `test` found something in a workflow.
    CheckFailed = 10,
    /// A parameter or a precondition of the workflow does not hold.
    Parameter = 11,
    /// The system named is not there.
    TargetNotFound = 12,
    /// An object or a file that the workflow needs is not there.
    ObjectMissing = 13,
    /// A private key does not belong to its certificate.
    KeyMismatch = 14,
    /// A certificate authority or certificate that is needed has expired.
    Expired = 15,
    /// A certificate authority's private key is not there.
    KeyMissing = 16,
    /// An object or file is malformed or contradicts itself.
    Malformed = 17,
    /// The server or the file system does not permit it.
    Forbidden = 18,
    /// The server did not answer.
    Unavailable = 19,
    /// A phase would break trust; it was not begun.
    ForecastRefused = 20,
    /// Another run holds the target.
    TargetLocked = 21,
    /// The operator said no, or could not be asked.
    Declined = 22,
    /// There is no way back from where the run stands.
    NoWayBack = 23,
    /// No such run, or the prefix fits several.
    RunNotFound = 24,
    /// Another process works on this run.
    RunBusy = 25,
    /// A step failed and the run stopped there.
    StepFailed = 30,
    /// A step failed and the run went back to where it began.
    RolledBack = 31,
    /// Going back failed; a person must repair something first.
    Stuck = 32,
    /// The state folder cannot be written; nothing was begun.
    StateUnwritable = 33,
    /// The journal could not be written; the run stopped at once.
    JournalUnwritable = 34,
    /// The run's pinned copy of its plan or sources was altered.
    PinnedAltered = 35,
    /// A proof did not hold.
    ProofFailed = 36,
    /// Something that the run changed was changed by somebody else.
    Conflict = 37,
    /// The record was written by a version that this one does not understand.
    Format = 38,
    /// The run was given up where it stood.
    Aborted = 39,
    /// `audit verify`: a verdict is not good.
    AuditFailed = 40,
    /// Private material was found where it must not be.
    SecretLeaked = 41,
    /// `cert`: a verifier refuses a chain, an endpoint and we do not accept each other, or two bundles differ.
    CertRefused = 42,
    /// What was to be changed is changed, and something that was paused for it stays paused until a person has done what
    /// is owed.
    Owed = 43,
    /// Ctrl-C or a termination signal; the record is whole.
    Interrupted = 130,
}

/// One row of the documentation.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The code.
    pub code: ExitCode,
    /// What it means.
    pub meaning: &'static str,
    /// What to do.
    pub what_to_do: &'static str,
}

impl ExitCode {
    /// Every code with its meaning and what to do, in order of number.
    pub const ALL: &'static [Row] = &[
        row(Self::Ok, "done", "nothing"),
        row(
            Self::Unknown,
            "a failure without a code of its own",
            "read the error; if it says `internal`, report it with the run's record",
        ),
        row(Self::Usage, "the command line is wrong", "`rollover COMMAND --help`"),
        row(
            Self::CheckFailed,
            "`check` or `test` found a fault in a workflow",
            "correct the script at the place shown",
        ),
        row(
            Self::Parameter,
            "a parameter or a precondition does not hold; nothing was changed",
            "`rollover describe WORKFLOW` lists the parameters and what each must be",
        ),
        row(
            Self::TargetNotFound,
            "the cluster or system named is not there; nothing was changed",
            "look at the name, the namespace and the context; `rollover list`",
        ),
        row(
            Self::ObjectMissing,
            "an object or file that the workflow needs is missing, for example a Secret; nothing was changed",
            "create it, or name the right one",
        ),
        row(
            Self::KeyMismatch,
            "a private key does not belong to the certificate beside it; nothing was changed",
            "put the right pair in place",
        ),
        row(
            Self::Expired,
            "a certificate authority or certificate that the workflow builds on has expired; nothing was changed",
            "a rolling change cannot help here, since handshakes fail already: re-issue everything and switch all of it together",
        ),
        row(
            Self::KeyMissing,
            "the private key of a certificate authority is not in its folder; nothing was changed",
            "bring the key back into the folder; it signs until another authority is in force",
        ),
        row(
            Self::Malformed,
            "an object or file is malformed or contradicts itself; nothing was changed",
            "correct what the error names",
        ),
        row(
            Self::Forbidden,
            "the server or the file system says no; nothing was changed",
            "grant the rule that the error prints",
        ),
        row(
            Self::Unavailable,
            "the server does not answer; nothing was changed",
            "look at the network and the credentials, then try again",
        ),
        row(
            Self::ForecastRefused,
            "the next phase would break a connection; it was not begun",
            "read the link and the reason; change the plan, or accept an outage where the workflow declares one",
        ),
        row(
            Self::TargetLocked,
            "another run holds the target or has left it unfinished",
            "`resume`, `rollback` or `abort` the run that is named",
        ),
        row(
            Self::Declined,
            "a question was answered with no, or there was nobody to ask",
            "`rollover resume RUN` asks again; `--yes` answers for a script",
        ),
        row(
            Self::NoWayBack,
            "the run is past its point of no return, or going back would restore what is compromised",
            "`rollover resume RUN` goes forward",
        ),
        row(
            Self::RunNotFound,
            "no run has this id, or several have this prefix",
            "`rollover audit list` shows the ids",
        ),
        row(Self::RunBusy, "another process works on this run", "wait for it, or end it; then try again"),
        row(
            Self::StepFailed,
            "a step failed; the run stopped there and is unfinished",
            "repair what the error names, then `rollover resume RUN`; or `rollover rollback RUN`",
        ),
        row(
            Self::RolledBack,
            "a step failed and the run went back; the target is as it was",
            "read the first error in `rollover audit show RUN`",
        ),
        row(
            Self::Stuck,
            "going back failed; the target stands between two states",
            "make the repair that the error names, then `rollover rollback RUN` continues",
        ),
        row(
            Self::StateUnwritable,
            "the state folder cannot be written; nothing was changed",
            "make the folder writable, or name another with `--state`",
        ),
        row(
            Self::JournalUnwritable,
            "the journal could not be written; the run stopped at that moment",
            "make room or repair the disk, then `rollover resume RUN`",
        ),
        row(
            Self::PinnedAltered,
            "the run's own copy of its plan or scripts was altered",
            "`rollover audit verify RUN` says what; bring back the original copy",
        ),
        row(
            Self::ProofFailed,
            "a proof did not hold; the run stopped there and is unfinished",
            "find out why the party named has not loaded what it should, then `resume` or `rollback`",
        ),
        row(
            Self::Conflict,
            "something that the run changed or was about to change was changed by somebody else",
            "decide which state is right, bring the object to one of the two that are named, then `resume` or `rollback`",
        ),
        row(
            Self::Format,
            "the record has a format that this version does not understand",
            "use the version that is named",
        ),
        row(
            Self::Aborted,
            "the run was given up where it stood",
            "what is mixed is listed; `audit show RUN` has it again",
        ),
        row(
            Self::AuditFailed,
            "`audit verify`: integrity, completeness or authenticity is not given",
            "the first record that does not fit is named",
        ),
        row(
            Self::SecretLeaked,
            "private key material was found in the record",
            "treat the key as compromised; report it",
        ),
        row(
            Self::CertRefused,
            "`cert verify`, `cert probe`, `cert bundle compare`: a chain is refused, one of two ends refuses the other, or two bundles differ",
            "the reason is told; nothing was changed",
        ),
        row(
            Self::Owed,
            "what was to be changed is changed, but Argo CD or Flux stays paused: it is not proved that it would leave it so; the run is unfinished",
            "do what the error says is owed (put what the run wrote into git), then `rollover resume RUN`; or `rollover rollback RUN`",
        ),
        row(
            Self::Interrupted,
            "interrupted; the record is whole and the run unfinished",
            "`rollover resume RUN` or `rollover rollback RUN`",
        ),
    ];

    /// The number for the operating system.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Its row of the documentation.
    pub fn row(self) -> Option<&'static Row> {
        Self::ALL.iter().find(|row| row.code == self)
    }

    /// What a failure means before anything was begun: while parameters are checked and facts are read.
    pub fn before_start(error: &PrimError) -> Self {
        match error.code {
            Code::Argument => Self::Parameter,
            Code::NoTarget => Self::TargetNotFound,
            Code::NotFound => Self::ObjectMissing,
            Code::KeyMismatch => Self::KeyMismatch,
            Code::Expired => Self::Expired,
            Code::NoKey => Self::KeyMissing,
            Code::Invalid => Self::Malformed,
            Code::Forbidden => Self::Forbidden,
            Code::Unavailable | Code::Timeout => Self::Unavailable,
            Code::Locked => Self::TargetLocked,
            Code::Unproved => Self::ProofFailed,
            Code::Owed => Self::Owed,
            Code::Conflict => Self::Conflict,
            Code::Refused => Self::Declined,
            Code::Internal => Self::Unknown,
        }
    }

    /// What a failed step of a begun run means.
    pub fn of_step(error: &PrimError) -> Self {
        match error.code {
            Code::Unproved => Self::ProofFailed,
            Code::Owed => Self::Owed,
            Code::Conflict => Self::Conflict,
            Code::Locked => Self::TargetLocked,
            _ => Self::StepFailed,
        }
    }

    /// The whole table as Markdown, for the reference.
    pub fn markdown() -> String {
        let mut text = String::from("| code | name | meaning | what to do |\n| ---: | --- | --- | --- |\n");
        for row in Self::ALL {
            let name = serde_json::to_value(row.code).ok().and_then(|v| v.as_str().map(str::to_owned));
            let name = name.unwrap_or_default();
            let number = row.code.number();
            let _ = writeln!(text, "| {number} | `{name}` | {} | {} |", row.meaning, row.what_to_do);
        }
        text
    }
}

const fn row(code: ExitCode, meaning: &'static str, what_to_do: &'static str) -> Row {
    Row { code, meaning, what_to_do }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.number())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_is_documented_once_in_order_of_number() {
        let numbers: Vec<u8> = ExitCode::ALL.iter().map(|row| row.code.number()).collect();
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        assert_eq!(numbers, sorted);
        assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), numbers.len());
        for row in ExitCode::ALL {
            assert!(!row.what_to_do.is_empty() && !row.meaning.is_empty());
            assert_eq!(row.code.row().unwrap().code, row.code);
        }
        let this = include_str!("exit_code.rs");
        let body = this.split_once("pub enum ExitCode {").unwrap().1.split_once("\n}").unwrap().0;
        let variants = body.lines().filter(|line| line.contains(" = ") && !line.contains("//")).count();
        assert_eq!(numbers.len(), variants, "each code has a row");
    }

    #[test]
    fn the_seven_wrong_starts_of_an_operator_have_seven_codes() {
        let codes: BTreeSet<ExitCode> = [
            ExitCode::before_start(&PrimError::new(Code::NoTarget, "")),
            ExitCode::before_start(&PrimError::new(Code::NotFound, "")),
            ExitCode::before_start(&PrimError::new(Code::KeyMismatch, "")),
            ExitCode::before_start(&PrimError::new(Code::Expired, "")),
            ExitCode::before_start(&PrimError::new(Code::NoKey, "")),
            ExitCode::StateUnwritable,
            ExitCode::before_start(&PrimError::new(Code::Locked, "")),
        ]
        .into();
        assert_eq!(codes.len(), 7);
        assert!(!codes.contains(&ExitCode::Unknown));
    }
}
