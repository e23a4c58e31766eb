//! Commit confirmed: timers of a host, which put files back and restart a service whoever is connected.

use std::sync::Arc;
use std::time::Duration;

use stdlib::PrimError;
use stdlib::error::Code;
use stdlib::host::{ABSENT, Fence, Guard, Put, Timer, TimerState, digest};
use time::OffsetDateTime;
use tokio::task::AbortHandle;

use super::commands;
use super::folder::{Node, Root};
use super::machine::{Inner, Machine};
use super::replace::replace;

/// A timer that was armed.
pub(super) struct Armed {
    guard: Guard,
    state: TimerState,
    until: OffsetDateTime,
    code: Option<i32>,
    /// What lay there when it was armed, by the place among the puts.
    copies: Vec<Put>,
    undone: Vec<Put>,
    kept: Vec<String>,
    waits: AbortHandle,
}

impl Drop for Armed {
    fn drop(&mut self) {
        if self.state == TimerState::Armed {
            self.waits.abort();
        }
    }
}

fn usable(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(['.', '-'])
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.@".contains(c))
}

/// The digest of what lies there, and what would bring it there again.
fn now(root: &Root, inner: &Inner, put: &Put) -> std::io::Result<(String, String, Put)> {
    let spot = root.spot(&put.path)?;
    let old = put.bytes.as_ref().map_or_else(|| ABSENT.to_owned(), |bytes| digest(bytes));
    let (now, bytes, mode) = match root.node(&put.path)? {
        Node::File(file) => (digest(&file.bytes), Some(file.bytes.into()), Some(file.mode)),
        Node::Nothing => (ABSENT.to_owned(), None, None),
        Node::Other => ("no file".to_owned(), None, None),
    };
    let owner = inner.owners.get(&spot.path).cloned();
    Ok((now, spot.path.clone(), Put { path: spot.path, before: old, bytes, mode, owner }))
}

impl Machine {
    pub(super) fn arm_timer(&self, guard: &Guard, fence: Option<&Fence>) -> Result<(), PrimError> {
        let named = usable(&guard.key) && usable(&guard.id) && !guard.marker.contains('\n');
        if !named || guard.restart.is_empty() {
            return Err(
                PrimError::argument("a timer cannot be named or has nothing to run").on(self.called())
            );
        }
        for put in &guard.puts {
            self.checked(&put.path)?;
        }
        let mut inner = self.inner();
        self.guarded(fence)?;
        let mut copies = Vec::new();
        for put in &guard.puts {
            let (found, path, copy) =
                now(self.root(), &inner, put).map_err(|error| self.failed(&put.path, &error))?;
            if found != put.before {
                return Err(PrimError::new(Code::Conflict, "somebody else has changed the file just now")
                    .on(format!("{}:{path}", self.called())));
            }
            copies.push(copy);
        }
        let (me, key, id) = (self.me(), guard.key.clone(), guard.id.clone());
        let within = guard.within.max(Duration::from_secs(1));
        let asleep = self.clock().sleep(within);
        let waits = tokio::spawn(async move {
            asleep.await;
            if let Some(machine) = me.upgrade() {
                // From here on it goes to its end.
                tokio::spawn(fire(machine, key, id));
            }
        });
        let armed = Armed {
            guard: guard.clone(),
            state: TimerState::Armed,
            until: self.clock().now() + within,
            code: None,
            copies,
            undone: Vec::new(),
            kept: Vec::new(),
            waits: waits.abort_handle(),
        };
        inner.timers.insert(guard.key.clone(), armed);
        Ok(())
    }

    pub(super) fn look_at_timers(&self) -> Result<Vec<Timer>, PrimError> {
        self.reached()?;
        let inner = self.inner();
        let timers = inner.timers.values().map(|armed| Timer {
            key: armed.guard.key.clone(),
            id: armed.guard.id.clone(),
            marker: armed.guard.marker.clone(),
            state: armed.state,
            left: (armed.until - self.clock().now()).try_into().unwrap_or_default(),
            code: armed.code,
            undone: armed.undone.clone(),
            kept: armed.kept.clone(),
        });
        Ok(timers.collect())
    }

    pub(super) fn disarm_timer(
        &self,
        key: &str,
        id: &str,
        state: TimerState,
        fence: Option<&Fence>,
    ) -> Result<bool, PrimError> {
        self.reached()?;
        let mut inner = self.inner();
        self.guarded(fence)?;
        let meant = inner.timers.get(key).is_some_and(|armed| armed.guard.id == id && armed.state == state);
        Ok(meant && inner.timers.remove(key).is_some())
    }
}

/// The timer of this key, if it is still that one.
fn ours<'a>(inner: &'a mut Inner, key: &str, id: &str) -> Option<&'a mut Armed> {
    inner.timers.get_mut(key).filter(|armed| armed.guard.id == id)
}

/// Puts files back, then runs the command.
async fn fire(machine: Arc<Machine>, key: String, id: String) {
    let command = {
        let mut inner = machine.inner();
        let Some(armed) = ours(&mut inner, &key, &id).filter(|armed| armed.state == TimerState::Armed) else {
            return;
        };
        armed.state = TimerState::Firing;
        let (puts, copies) = (armed.guard.puts.clone(), armed.copies.clone());
        let command = armed.guard.restart.clone();
        let (mut undone, mut kept) = (Vec::new(), Vec::new());
        for (put, copy) in puts.iter().zip(copies) {
            match replace(machine.root(), machine.called(), std::slice::from_ref(put)) {
                Ok(_) => undone.push(copy),
                Err(_) => kept.push(copy.path),
            }
        }
        // What runs from now on was not started by the step that left its marker here.
        let marker = machine.root().spot(&format!("{}/restarts/{key}", machine.state()));
        if let Ok(spot) = marker {
            let _ = Root::remove(&spot.here);
        }
        if let Some(armed) = ours(&mut inner, &key, &id) {
            (armed.undone, armed.kept) = (undone, kept);
        }
        command
    };
    machine.rings();
    let done = commands::run(&machine, &command, b"").await;
    if let Some(armed) = ours(&mut machine.inner(), &key, &id) {
        (armed.code, armed.state) = (Some(done.code), TimerState::Fired);
    }
}
