//! Hosts of a sandbox that is another process, behind the port that real hosts are behind.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::Value;
use stdlib::PrimError;
use stdlib::error::Code;
use stdlib::host::{
    Command, Connect, Fence, Found, Guard, Host, Move, Offset, Output, Put, Timer, TimerState,
};
use stdlib::world::Clock;
use time::OffsetDateTime;
use tokio::net::TcpStream;

use super::rpc::{self, Answer, Bytes, Question, WireGuard, WireMove, WirePut};
use super::side::{Ask, exchange};
use super::world::stranger;

/// How much longer than a host we wait for its answer.
const GRACE: Duration = Duration::from_secs(30);

/// Makes hosts of the sandbox that says this of itself (`ready.json`): those that it has, and no others. `None` where it
/// has no hosts.
pub fn connect(dir: PathBuf, ready: &Value) -> Option<Connect> {
    let hosts = ready.get("hosts")?;
    let address = hosts.get("address")?.as_str()?.to_owned();
    let token = hosts.get("token")?.as_str()?.to_owned();
    let names: Vec<String> =
        hosts.get("names")?.as_array()?.iter().filter_map(|name| Some(name.as_str()?.to_owned())).collect();
    Some(Box::new(move |entry| {
        if !names.contains(&entry.name) {
            return Err(stranger(&entry.title()));
        }
        Ok(Arc::new(Remote {
            name: entry.name.clone(),
            address: address.clone(),
            token: token.clone(),
            dir: dir.clone(),
        }))
    }))
}

struct Remote {
    name: String,
    address: String,
    token: String,
    dir: PathBuf,
}

impl Remote {
    fn gone(&self, why: &str) -> PrimError {
        PrimError::new(Code::Unavailable, format!("the sandbox does not answer: {why}"))
            .on(self.name.clone())
            .hint(format!("its log is {}", self.dir.join("sandbox.log").display()))
    }

    async fn ask(&self, question: Question, within: Duration) -> Result<Answer, PrimError> {
        let body = serde_json::to_value(&question).map_err(|error| PrimError::internal(error.to_string()))?;
        let path = format!("/{}/{}", self.token, self.name);
        let asked = async {
            let mut stream = TcpStream::connect(&self.address).await?;
            stream.set_nodelay(true)?;
            exchange(&mut stream, &Ask { method: "POST", path: &path, body: &body }, &self.address).await
        };
        match tokio::time::timeout(within + GRACE, asked).await {
            Ok(Ok(Some((200, value)))) => rpc::read(value),
            Ok(Ok(Some((status, _)))) => Err(self.gone(&format!("status {status}"))),
            Ok(Ok(None)) => Err(self.gone("it hung up")),
            Ok(Err(error)) => Err(self.gone(&error.to_string())),
            Err(_) => Err(self.gone("it took too long")),
        }
    }

    fn odd(&self) -> PrimError {
        self.gone("it answers another question")
    }
}

fn token(fence: Option<&Fence>) -> Option<String> {
    fence.map(|fence| fence.token.clone())
}

const SHORT: Duration = Duration::from_secs(30);

impl Host for Remote {
    fn name(&self) -> &str {
        &self.name
    }

    fn run(&self, command: Command) -> BoxFuture<'_, Result<Output, PrimError>> {
        Box::pin(async move {
            let within = command.within;
            let question = Question::Run {
                argv: command.argv,
                stdin: Bytes::of(&command.stdin),
                millis: rpc::millis(within),
                most: command.most,
                fence: command.fence.map(|fence| fence.token),
            };
            match self.ask(question, within).await? {
                Answer::Ran { code, stdout, stderr, cut } => {
                    Ok(Output { code, stdout: stdout.bytes(), stderr, cut })
                }
                _ => Err(self.odd()),
            }
        })
    }

    fn read<'a>(&'a self, path: &'a str, most: usize) -> BoxFuture<'a, Result<Option<Found>, PrimError>> {
        Box::pin(async move {
            match self.ask(Question::Read { path: path.to_owned(), most }, SHORT).await? {
                Answer::Read(found) => Ok(found.map(rpc::WireFound::found)),
                _ => Err(self.odd()),
            }
        })
    }

    fn list<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Option<Vec<String>>, PrimError>> {
        Box::pin(async move {
            match self.ask(Question::List { folder: folder.to_owned() }, SHORT).await? {
                Answer::Listed(names) => Ok(names),
                _ => Err(self.odd()),
            }
        })
    }

    fn replace<'a>(
        &'a self,
        puts: &'a [Put],
        fence: Option<&'a Fence>,
    ) -> BoxFuture<'a, Result<(), PrimError>> {
        Box::pin(async move {
            let puts = puts.iter().map(WirePut::of).collect();
            self.ask(Question::Replace { puts, fence: token(fence) }, SHORT).await.map(|_| ())
        })
    }

    fn install<'a>(
        &'a self,
        moves: &'a [Move],
        fence: Option<&'a Fence>,
    ) -> BoxFuture<'a, Result<(), PrimError>> {
        Box::pin(async move {
            let moves = moves.iter().map(WireMove::of).collect();
            self.ask(Question::Install { moves, fence: token(fence) }, SHORT).await.map(|_| ())
        })
    }

    fn clock<'a>(&'a self, ours: &'a dyn Clock) -> BoxFuture<'a, Result<Offset, PrimError>> {
        Box::pin(async move {
            let before = ours.now();
            let Answer::Now(nanos) = self.ask(Question::Now, SHORT).await? else { return Err(self.odd()) };
            let theirs =
                nanos.parse().ok().and_then(|nanos| OffsetDateTime::from_unix_timestamp_nanos(nanos).ok());
            Ok(Offset::between(before, theirs.ok_or_else(|| self.odd())?, ours.now()))
        })
    }

    fn free<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<u64, PrimError>> {
        Box::pin(async move {
            match self.ask(Question::Free { path: path.to_owned() }, SHORT).await? {
                Answer::Free(bytes) => Ok(bytes),
                _ => Err(self.odd()),
            }
        })
    }

    fn arm<'a>(&'a self, guard: &'a Guard, fence: Option<&'a Fence>) -> BoxFuture<'a, Result<(), PrimError>> {
        Box::pin(async move {
            let question = Question::Arm { guard: WireGuard::of(guard), fence: token(fence) };
            self.ask(question, SHORT).await.map(|_| ())
        })
    }

    fn timers(&self) -> BoxFuture<'_, Result<Vec<Timer>, PrimError>> {
        Box::pin(async move {
            match self.ask(Question::Timers, SHORT).await? {
                Answer::Timers(timers) => Ok(timers.into_iter().map(rpc::WireTimer::timer).collect()),
                _ => Err(self.odd()),
            }
        })
    }

    fn disarm<'a>(
        &'a self,
        key: &'a str,
        id: &'a str,
        state: TimerState,
        fence: Option<&'a Fence>,
    ) -> BoxFuture<'a, Result<bool, PrimError>> {
        Box::pin(async move {
            let (key, id) = (key.to_owned(), id.to_owned());
            let question = Question::Disarm { key, id, state: rpc::number_of(state), fence: token(fence) };
            match self.ask(question, SHORT).await? {
                Answer::Disarmed(done) => Ok(done),
                _ => Err(self.odd()),
            }
        })
    }
}
