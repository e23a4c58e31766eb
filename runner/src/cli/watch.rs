//! What the sandbox saw while a run went on: handshakes made and refused, and which states met in each phase.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sandbox::world::counters::Snapshot;
use serde_json::json;
use stdlib::files::SystemDisk;
use stdlib::world::Disk as _;
use tokio::task::JoinHandle;

use crate::events::{Direction, Event, Reporter};
use crate::output::{self, style, table};

/// What was counted in one phase.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// The phase.
    pub phase: String,
    /// Links dialled and held.
    pub made: u64,
    /// Links refused.
    pub refused: u64,
    /// Distinct pairs of states that met.
    pub met: usize,
    /// Pairs that could have met: every client state with every server state of the same kind of link.
    pub possible: usize,
}

/// What happened between two snapshots.
pub(crate) fn between(phase: &str, before: &Snapshot, after: &Snapshot) -> Counted {
    let mut counted = Counted {
        phase: phase.to_owned(),
        made: after.made.saturating_sub(before.made),
        refused: after.refused.saturating_sub(before.refused),
        ..Counted::default()
    };
    for (kind, link) in &after.links {
        let earlier: BTreeMap<_, u64> = before
            .links
            .get(kind)
            .map(|link| {
                link.pairs
                    .iter()
                    .map(|pair| ((&pair.client, &pair.server), pair.held + pair.refused))
                    .collect()
            })
            .unwrap_or_default();
        let met: Vec<_> = link
            .pairs
            .iter()
            .filter(|pair| {
                pair.held + pair.refused > earlier.get(&(&pair.client, &pair.server)).copied().unwrap_or(0)
            })
            .collect();
        let clients: BTreeSet<_> = met.iter().map(|pair| &pair.client).collect();
        let servers: BTreeSet<_> = met.iter().map(|pair| &pair.server).collect();
        counted.met += met.len();
        counted.possible += clients.len() * servers.len();
    }
    counted
}

/// A little more than the pause between two writes of the counters.
const SETTLE: Duration = Duration::from_millis(250);

type Fetched = JoinHandle<Option<Snapshot>>;

#[derive(Default)]
struct Seen {
    open: Option<(String, Fetched)>,
    phases: Vec<(String, Fetched, Fetched)>,
}

/// A reporter that also asks the sandbox for its counters at the edges of each phase. Outside a sandbox it only passes on.
pub(crate) struct Watched {
    inner: Arc<dyn Reporter>,
    sandbox: Option<PathBuf>,
    seen: Mutex<Seen>,
}

/// The counters as the sandbox last wrote them, once it had time to write what went before.
fn fetch(dir: PathBuf) -> Fetched {
    tokio::spawn(async move {
        tokio::time::sleep(SETTLE).await;
        let bytes = SystemDisk.read(&dir.join("counters.json")).ok()?;
        serde_json::from_slice(&bytes).ok()
    })
}

impl Watched {
    pub(crate) fn new(inner: Arc<dyn Reporter>, sandbox: Option<PathBuf>) -> Arc<Self> {
        Arc::new(Self { inner, sandbox, seen: Mutex::default() })
    }

    /// Tells what was counted, phase by phase.
    pub(crate) async fn tell(&self, as_json: bool) {
        let phases = std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner).phases);
        let mut rows = Vec::new();
        for (phase, before, after) in phases {
            if let (Ok(Some(before)), Ok(Some(after))) = (before.await, after.await) {
                rows.push(between(&phase, &before, &after));
            }
        }
        if rows.is_empty() {
            return;
        }
        if as_json {
            for row in &rows {
                output::data(&json!({"event": "sandbox-counted", "phase": row.phase, "made": row.made, "refused": row.refused, "pairs_met": row.met, "pairs_possible": row.possible}).to_string());
            }
            return;
        }
        let mut shown = table::plain(&["phase", "handshakes", "refused", "state pairs met", ""]);
        for row in &rows {
            let rest = if row.met < row.possible { "not every combination was met" } else { "" };
            shown.add_row([
                row.phase.clone(),
                row.made.to_string(),
                row.refused.to_string(),
                format!("{} of {}", row.met, row.possible),
                rest.into(),
            ]);
        }
        let (made, refused): (u64, u64) =
            rows.iter().fold((0, 0), |(made, refused), row| (made + row.made, refused + row.refused));
        let sum = format!("{made} handshakes between components, {refused} refused");
        let sum = if refused == 0 { style::good().apply_to(sum) } else { style::bad().apply_to(sum) };
        output::data(&format!(
            "\n{}\n{}\n{sum}",
            style::strong().apply_to("What the sandbox saw"),
            table::text(&shown)
        ));
    }
}

impl Reporter for Watched {
    fn event(&self, at: time::OffsetDateTime, event: &Event) {
        self.inner.event(at, event);
        let Some(dir) = &self.sandbox else { return };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::PhaseStarted { phase, direction, .. } => {
                let name =
                    if *direction == Direction::Back { format!("{phase} (back)") } else { phase.clone() };
                seen.open = Some((name, fetch(dir.clone())));
            }
            Event::PhaseEnded { .. } => {
                if let Some((name, before)) = seen.open.take() {
                    let after = fetch(dir.clone());
                    seen.phases.push((name, before, after));
                }
            }
            _ => {}
        }
    }
}
