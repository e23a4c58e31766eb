//! The hold of a run on hosts (law 7): a mark on each, which outlives the run's process, with a token that every change
//! compares under the host's own lock.
//!
//! There is no lease to run out. Only the run that left a mark can take the host again, and taking it makes a new token:
//! what another process of that run was about to write then comes late.

use serde_json::Value;

use super::inventory::Entry;
use super::port::{ABSENT, Fence, Put, digest};
use super::timer::confirm;
use crate::error::{Code, PrimError};
use crate::lease::{Last, Leave, Mark, unfinished};
use crate::world::World;

/// Who takes hosts.
#[derive(Debug, Clone)]
pub struct Holder {
    /// Id of the run.
    pub run: String,
    /// The machine.
    pub host: String,
    /// The person.
    pub user: String,
}

/// Hosts that are held.
pub struct Held {
    world: World,
    entries: Vec<Entry>,
    holder: Holder,
    token: String,
    since: String,
}

/// The mark's file in a host's state folder.
fn path(entry: &Entry) -> String {
    format!("{}/mark.json", entry.state)
}

struct Seen {
    mark: Option<Mark>,
    raw: String,
}

async fn look(world: &World, entry: &Entry) -> Result<Seen, PrimError> {
    let host = world.hosts.host(entry)?;
    let Some(file) = host.read(&path(entry), 64 << 10).await? else {
        return Ok(Seen { mark: None, raw: ABSENT.into() });
    };
    let mark = Mark::read(&file.bytes);
    Ok(Seen { mark: Some(mark), raw: digest(&file.bytes) })
}

/// Writes or removes the mark, if it is still as it was seen.
async fn write(world: &World, entry: &Entry, seen: &Seen, mark: Option<&Mark>) -> Result<(), PrimError> {
    let bytes =
        mark.map(serde_json::to_vec).transpose().map_err(|error| PrimError::internal(error.to_string()))?;
    let put = Put {
        path: path(entry),
        before: seen.raw.clone(),
        bytes: bytes.map(Into::into),
        mode: Some(0o600),
        owner: None,
    };
    world.hosts.host(entry)?.replace(&[put], None).await
}

/// That no run is unfinished on any of these hosts.
///
/// # Errors
/// [`Code::Locked`], saying which run has one of them, and at which step; or a host cannot be reached.
pub(super) async fn idle(world: &World, entries: &[Entry]) -> Result<(), PrimError> {
    let looks = futures::future::join_all(entries.iter().map(|entry| look(world, entry))).await;
    for (entry, seen) in entries.iter().zip(looks) {
        if let Some(mark) = seen?.mark {
            return Err(unfinished(&entry.title(), &mark));
        }
    }
    Ok(())
}

/// Takes all hosts, in the order of their names, or none.
///
/// # Errors
/// [`Code::Locked`], saying which run has one of them; or a host cannot be reached.
pub async fn acquire(world: &World, entries: &[Entry], holder: &Holder) -> Result<Held, PrimError> {
    let mut entries = entries.to_vec();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries.dedup_by(|a, b| a.name == b.name);
    let token = hex::encode(rand::random::<[u8; 16]>());
    let since = crate::lease::seconds(world.clock.now());
    let held = Held { world: world.clone(), entries, holder: holder.clone(), token, since };
    let mut fresh: Vec<&Entry> = Vec::new();
    for entry in &held.entries {
        let mut wrote = false;
        let taken = async {
            let seen = look(world, entry).await?;
            let ours = seen.mark.as_ref().filter(|mark| mark.run == holder.run);
            if let (Some(mark), None) = (&seen.mark, ours) {
                return Err(unfinished(&entry.title(), mark));
            }
            let mark = Mark {
                since: ours.map_or_else(|| held.since.clone(), |mark| mark.since.clone()),
                step: ours.map(|mark| mark.step.clone()).unwrap_or_default(),
                head: ours.map_or(Value::Null, |mark| mark.head.clone()),
                ..held.mark("", Value::Null)
            };
            wrote = ours.is_none();
            write(world, entry, &seen, Some(&mark)).await?;
            Ok(ours.is_none())
        };
        match taken.await {
            Ok(new) => {
                world.hosts.hold(&entry.name, Some(Fence { token: held.token.clone() }));
                if new {
                    fresh.push(entry);
                }
            }
            Err(error) => {
                // What was not this run's before is let go of again: also where it is not known whether it was taken.
                fresh.extend(Some(entry).filter(|_| wrote));
                let mut left = Vec::new();
                for entry in fresh {
                    left.extend(held.clear(entry, None).await.err().map(|why| (entry.title(), why)));
                }
                return Err(marked(error, &left, &holder.run));
            }
        }
    }
    Ok(held)
}

/// An error, and on which hosts the mark of a run that never began may be left.
fn marked(error: PrimError, left: &[(String, PrimError)], run: &str) -> PrimError {
    if left.is_empty() {
        return error;
    }
    let hosts: Vec<String> = left.iter().map(|(host, why)| format!("{host} ({})", why.message)).collect();
    let told = format!(
        "this run's mark may be left on {}, and would keep every other run away: once it can be reached again, `rollover abort {run}` takes it off",
        hosts.join(", ")
    );
    let hint = error.hint.as_ref().map_or_else(|| told.clone(), |hint| format!("{hint}; {told}"));
    error.hint(hint)
}

/// Lets go of the hosts that a run which is over still has.
///
/// # Errors
/// A host cannot be reached.
pub async fn forget(world: &World, entries: &[Entry], last: &Last) -> Result<(), PrimError> {
    for entry in entries {
        let seen = look(world, entry).await?;
        if seen.mark.as_ref().is_some_and(|mark| mark.run == last.run) {
            finish(world, entry, &seen, Some(last)).await?;
        }
    }
    Ok(())
}

/// Disarms what a run has left of timers on its hosts, which stay marked.
///
/// # Errors
/// A host cannot be reached; the others are told.
pub async fn disarm(world: &World, entries: &[Entry], run: &str) -> Result<(), PrimError> {
    let told = entries.iter().map(|entry| async move {
        let host = world.hosts.host(entry)?;
        confirm::clear(host.as_ref(), run).await
    });
    futures::future::join_all(told).await.into_iter().collect()
}

/// Says which run was here, where it has changed something, and then takes its mark off.
async fn finish(world: &World, entry: &Entry, seen: &Seen, last: Option<&Last>) -> Result<(), PrimError> {
    let host = world.hosts.host(entry)?;
    if let Some(mark) = &seen.mark {
        confirm::clear(host.as_ref(), &mark.run).await?;
    }
    if let Some(last) = last {
        let path = format!("{}/last-run.json", entry.state);
        let before =
            host.read(&path, 64 << 10).await?.map_or_else(|| ABSENT.to_owned(), |file| digest(&file.bytes));
        let bytes = serde_json::to_vec(last).map_err(|error| PrimError::internal(error.to_string()))?;
        host.replace(
            &[Put { path, before, bytes: Some(bytes.into()), mode: Some(0o644), owner: None }],
            None,
        )
        .await?;
    }
    write(world, entry, seen, None).await
}

impl Held {
    fn mark(&self, step: &str, head: Value) -> Mark {
        Mark {
            run: self.holder.run.clone(),
            since: self.since.clone(),
            step: step.to_owned(),
            head,
            host: self.holder.host.clone(),
            user: self.holder.user.clone(),
            token: self.token.clone(),
        }
    }

    fn is_ours(&self, seen: &Seen) -> bool {
        seen.mark.as_ref().is_some_and(|mark| mark.token == self.token)
    }

    async fn clear(&self, entry: &Entry, last: Option<&Last>) -> Result<(), PrimError> {
        self.world.hosts.hold(&entry.name, None);
        let seen = look(&self.world, entry).await?;
        if self.is_ours(&seen) { finish(&self.world, entry, &seen, last).await } else { Ok(()) }
    }

    /// Writes where the run stands into every mark.
    ///
    /// # Errors
    /// A host cannot be reached, or was taken by another process.
    pub async fn note(&self, step: &str, head: &Value) -> Result<(), PrimError> {
        // A host that is away keeps none of the others from being told.
        let noted = self.entries.iter().map(|entry| async move {
            let seen = look(&self.world, entry).await?;
            if !self.is_ours(&seen) {
                return Err(PrimError::new(Code::Locked, "its mark names another process").on(entry.title()));
            }
            let since = seen.mark.as_ref().map_or_else(|| self.since.clone(), |mark| mark.since.clone());
            write(&self.world, entry, &seen, Some(&Mark { since, ..self.mark(step, head.clone()) })).await
        });
        futures::future::join_all(noted).await.into_iter().collect()
    }

    /// Lets go, as far as the run's end allows: the mark of one that is not finished stays, and keeps every other run
    /// away.
    ///
    /// # Errors
    /// A host cannot be reached; the others are let go of.
    pub async fn release(&self, leave: &Leave) -> Result<(), PrimError> {
        let last = match leave {
            Leave::Mark => return Ok(()),
            Leave::Nothing => None,
            Leave::Last(last) => Some(last),
        };
        let cleared = self.entries.iter().map(|entry| self.clear(entry, last));
        futures::future::join_all(cleared).await.into_iter().collect()
    }
}
