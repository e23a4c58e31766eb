//! Hosts of a sandbox that is another process: what is asked and answered, as JSON.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stdlib::PrimError;
use stdlib::error::Code;
use stdlib::host::{Command, Fence, Found, Guard, Host, Move, Output, Put, Timer, TimerState};
use zeroize::Zeroizing;

/// Bytes as JSON has them.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Bytes(String);

impl Bytes {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(STANDARD.encode(bytes))
    }
    pub(super) fn bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(STANDARD.decode(&self.0).unwrap_or_default())
    }
}

/// A question to a host.
#[derive(Serialize, Deserialize)]
pub(super) enum Question {
    Run { argv: Vec<String>, stdin: Bytes, millis: u64, most: usize, fence: Option<String> },
    Read { path: String, most: usize },
    List { folder: String },
    Replace { puts: Vec<WirePut>, fence: Option<String> },
    Install { moves: Vec<WireMove>, fence: Option<String> },
    Now,
    Free { path: String },
    Arm { guard: WireGuard, fence: Option<String> },
    Timers,
    Disarm { key: String, id: String, state: u8, fence: Option<String> },
}

/// One file to replace.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct WirePut {
    path: String,
    before: String,
    bytes: Option<Bytes>,
    mode: Option<u32>,
    owner: Option<String>,
}

impl WirePut {
    pub(super) fn of(put: &Put) -> Self {
        Self {
            path: put.path.clone(),
            before: put.before.clone(),
            bytes: put.bytes.as_ref().map(|bytes| Bytes::of(bytes)),
            mode: put.mode,
            owner: put.owner.clone(),
        }
    }
    pub(super) fn put(self) -> Put {
        let bytes = self.bytes.as_ref().map(Bytes::bytes);
        Put { path: self.path, before: self.before, bytes, mode: self.mode, owner: self.owner }
    }
}

/// One file to rename to its place.
#[derive(Serialize, Deserialize)]
pub(super) struct WireMove {
    from: String,
    staged: String,
    to: String,
    before: String,
}

impl WireMove {
    pub(super) fn of(one: &Move) -> Self {
        let Move { from, staged, to, before } = one.clone();
        Self { from, staged, to, before }
    }
    fn moved(self) -> Move {
        Move { from: self.from, staged: self.staged, to: self.to, before: self.before }
    }
}

/// A timer to arm.
#[derive(Serialize, Deserialize)]
pub(super) struct WireGuard {
    key: String,
    id: String,
    marker: String,
    puts: Vec<WirePut>,
    restart: Vec<String>,
    millis: u64,
}

impl WireGuard {
    pub(super) fn of(guard: &Guard) -> Self {
        Self {
            key: guard.key.clone(),
            id: guard.id.clone(),
            marker: guard.marker.clone(),
            puts: guard.puts.iter().map(WirePut::of).collect(),
            restart: guard.restart.clone(),
            millis: millis(guard.within),
        }
    }
    fn guard(self) -> Guard {
        Guard {
            key: self.key,
            id: self.id,
            marker: self.marker,
            puts: self.puts.into_iter().map(WirePut::put).collect(),
            restart: self.restart,
            within: Duration::from_millis(self.millis),
        }
    }
}

/// A timer as its host has it.
#[derive(Serialize, Deserialize)]
pub(super) struct WireTimer {
    key: String,
    id: String,
    marker: String,
    state: u8,
    millis: u64,
    code: Option<i32>,
    undone: Vec<WirePut>,
    kept: Vec<String>,
}

const STATES: [TimerState; 4] = [TimerState::Armed, TimerState::Firing, TimerState::Fired, TimerState::Lost];

pub(super) fn number_of(state: TimerState) -> u8 {
    STATES.iter().position(|known| *known == state).and_then(|n| u8::try_from(n).ok()).unwrap_or(0)
}

fn state_of(number: u8) -> TimerState {
    STATES.get(usize::from(number)).copied().unwrap_or(TimerState::Lost)
}

impl WireTimer {
    fn of(timer: &Timer) -> Self {
        Self {
            key: timer.key.clone(),
            id: timer.id.clone(),
            marker: timer.marker.clone(),
            state: number_of(timer.state),
            millis: millis(timer.left),
            code: timer.code,
            undone: timer.undone.iter().map(WirePut::of).collect(),
            kept: timer.kept.clone(),
        }
    }
    pub(super) fn timer(self) -> Timer {
        Timer {
            key: self.key,
            id: self.id,
            marker: self.marker,
            state: state_of(self.state),
            left: Duration::from_millis(self.millis),
            code: self.code,
            undone: self.undone.into_iter().map(WirePut::put).collect(),
            kept: self.kept,
        }
    }
}

/// What a host answers.
#[derive(Serialize, Deserialize)]
pub(super) enum Answer {
    Ran {
        code: i32,
        stdout: Bytes,
        stderr: String,
        cut: bool,
    },
    Read(Option<WireFound>),
    Listed(Option<Vec<String>>),
    Done,
    /// Nanoseconds since 1970, as text: no number of JSON holds them.
    Now(String),
    Free(u64),
    Timers(Vec<WireTimer>),
    Disarmed(bool),
    Failed {
        code: Code,
        object: String,
        message: String,
        expected: Option<String>,
        found: Option<String>,
        hint: Option<String>,
    },
}

/// A file that was read.
#[derive(Serialize, Deserialize)]
pub(super) struct WireFound {
    bytes: Bytes,
    size: u64,
    mode: u32,
    owner: String,
    owner_names: String,
    real: String,
}

impl WireFound {
    pub(super) fn found(self) -> Found {
        Found {
            bytes: self.bytes.bytes(),
            size: self.size,
            mode: self.mode,
            owner: self.owner,
            owner_names: self.owner_names,
            real: self.real,
        }
    }
}

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn failed(error: PrimError) -> Answer {
    let PrimError { code, object, message, expected, found, hint } = error;
    Answer::Failed { code, object, message, expected, found, hint }
}

/// Asks a host of this process.
pub(super) async fn answer(machine: Arc<super::Machine>, question: Question) -> Answer {
    let host: &dyn Host = machine.as_ref();
    asked(host, &machine, question).await.unwrap_or_else(failed)
}

async fn asked(host: &dyn Host, machine: &super::Machine, question: Question) -> Result<Answer, PrimError> {
    let fenced = |token: Option<String>| token.map(|token| Fence { token });
    Ok(match question {
        Question::Run { argv, stdin, millis, most, fence } => {
            let command = Command::new(argv)
                .stdin(stdin.bytes().to_vec())
                .within(Duration::from_millis(millis))
                .most(most)
                .fenced(fenced(fence));
            let Output { code, stdout, stderr, cut } = host.run(command).await?;
            Answer::Ran { code, stdout: Bytes::of(&stdout), stderr, cut }
        }
        Question::Read { path, most } => Answer::Read(host.read(&path, most).await?.map(|found| WireFound {
            bytes: Bytes::of(&found.bytes),
            size: found.size,
            mode: found.mode,
            owner: found.owner,
            owner_names: found.owner_names,
            real: found.real,
        })),
        Question::List { folder } => Answer::Listed(host.list(&folder).await?),
        Question::Replace { puts, fence } => {
            let puts: Vec<Put> = puts.into_iter().map(WirePut::put).collect();
            host.replace(&puts, fenced(fence).as_ref()).await?;
            Answer::Done
        }
        Question::Install { moves, fence } => {
            let moves: Vec<Move> = moves.into_iter().map(WireMove::moved).collect();
            host.install(&moves, fenced(fence).as_ref()).await?;
            Answer::Done
        }
        Question::Now => {
            machine.reached()?;
            Answer::Now(machine.now().unix_timestamp_nanos().to_string())
        }
        Question::Free { path } => Answer::Free(host.free(&path).await?),
        Question::Arm { guard, fence } => {
            host.arm(&guard.guard(), fenced(fence).as_ref()).await?;
            Answer::Done
        }
        Question::Timers => Answer::Timers(host.timers().await?.iter().map(WireTimer::of).collect()),
        Question::Disarm { key, id, state, fence } => {
            Answer::Disarmed(host.disarm(&key, &id, state_of(state), fenced(fence).as_ref()).await?)
        }
    })
}

/// What came back from a host, or why nothing did.
pub(super) fn read(value: Value) -> Result<Answer, PrimError> {
    match serde_json::from_value(value) {
        Ok(Answer::Failed { code, object, message, expected, found, hint }) => {
            Err(PrimError { code, object, message, expected, found, hint })
        }
        Ok(answer) => Ok(answer),
        Err(_) => Err(PrimError::new(Code::Unavailable, "the sandbox's answer cannot be read")),
    }
}
