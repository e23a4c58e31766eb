//! Timers of a host that has a POSIX shell.

use std::time::Duration;

use super::{Guard, State, Timer, scripts};
use crate::error::PrimError;
use crate::host::port::{Fence, Host as _, Put};
use crate::host::posix::{Posix, Transport, parcel};

/// The largest copy that is read back.
const MOST: usize = 4 << 20;

/// What names a timer's folder there.
fn usable(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(['.', '-'])
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.@".contains(c))
}

/// A timer as the host tells of it; its copies are still to be read.
struct Told {
    timer: Timer,
    /// Names of the copies, one for each put that was undone; nothing where the file was not there.
    copies: Vec<Option<String>>,
}

impl<T: Transport> Posix<T> {
    pub(in crate::host) async fn arm_timer(
        &self,
        guard: &Guard,
        fence: Option<&Fence>,
    ) -> Result<(), PrimError> {
        if !usable(&guard.key)
            || !usable(&guard.id)
            || guard.marker.contains('\n')
            || guard.restart.is_empty()
        {
            return Err(PrimError::argument("a timer cannot be named or has nothing to run").on(&self.name));
        }
        let token = fence.map_or("-", |fence| fence.token.as_str());
        let (files, stdin) = parcel(&self.name, &guard.puts)?;
        let seconds = guard.within.as_secs().max(1).to_string();
        let count = guard.puts.len().to_string();
        let (state, key, id) = (self.state.as_str(), guard.key.as_str(), guard.id.as_str());
        let mut args = vec![state, token, key, id, guard.marker.as_str(), &seconds, scripts::WAIT, &count];
        args.extend(files.iter().chain(&guard.restart).map(String::as_str));
        let output = self.script(scripts::ARM, &args, &stdin, 4096).await?;
        let first = guard.puts.first().map_or(state, |put| put.path.as_str());
        self.judged(first, &output)
    }

    pub(in crate::host) async fn look_at_timers(&self) -> Result<Vec<Timer>, PrimError> {
        let output = self.script(scripts::LOOK, &[&self.state], b"", 1 << 20).await?;
        self.judged(&self.state, &output)?;
        let mut timers = Vec::new();
        for Told { mut timer, copies } in told(&output.text()) {
            for (put, copy) in timer.undone.iter_mut().zip(&copies) {
                let Some(copy) = copy else { continue };
                let path = format!("{}/timers/{}/{copy}", self.state, timer.key);
                let found = self.read(&path, MOST).await?;
                let found = found.ok_or_else(|| {
                    PrimError::not_found("a timer's copy of what it took away is gone")
                        .on(format!("{}:{path}", self.name))
                })?;
                put.bytes = Some(found.bytes);
            }
            timers.push(timer);
        }
        Ok(timers)
    }

    pub(in crate::host) async fn disarm_timer(
        &self,
        key: &str,
        id: &str,
        state: State,
        fence: Option<&Fence>,
    ) -> Result<bool, PrimError> {
        let token = fence.map_or("-", |fence| fence.token.as_str());
        let args = [self.state.as_str(), token, key, id, word(state)];
        let output = self.script(scripts::DISARM, &args, b"", 4096).await?;
        if output.code == scripts::OTHER {
            return Ok(false);
        }
        self.judged(&self.state, &output).map(|()| true)
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Armed => "armed",
        State::Firing => "firing",
        State::Fired => "fired",
        State::Lost => "lost",
    }
}

/// What the host tells, a word and its value a line.
fn told(text: &str) -> Vec<Told> {
    let mut all: Vec<Told> = Vec::new();
    for line in text.lines() {
        let Some((what, value)) = line.split_once(' ') else { continue };
        if what == "timer" {
            let timer = Timer {
                key: value.to_owned(),
                id: String::new(),
                marker: String::new(),
                state: State::Lost,
                left: Duration::ZERO,
                code: None,
                undone: Vec::new(),
                kept: Vec::new(),
            };
            all.push(Told { timer, copies: Vec::new() });
            continue;
        }
        let Some(Told { timer, copies }) = all.last_mut() else { continue };
        match what {
            "id" => value.clone_into(&mut timer.id),
            "marker" => value.clone_into(&mut timer.marker),
            "state" => {
                let known = [State::Armed, State::Firing, State::Fired];
                timer.state = known.into_iter().find(|state| word(*state) == value).unwrap_or(State::Lost);
            }
            "left" => timer.left = Duration::from_secs(value.parse().unwrap_or(0)),
            "code" => timer.code = value.parse().ok(),
            "kept" => timer.kept.push(value.to_owned()),
            "done" => {
                let mut words = value.splitn(5, ' ');
                let mut next = || words.next().unwrap_or_default().to_owned();
                let (index, before, mode, owner, path) = (next(), next(), next(), next(), next());
                copies.push((mode != "-").then(|| format!("{index}.new")));
                timer.undone.push(Put {
                    path,
                    before,
                    bytes: None,
                    mode: u32::from_str_radix(&mode, 8).ok(),
                    owner: Some(owner).filter(|owner| owner != "-"),
                });
            }
            _ => {}
        }
    }
    all
}
