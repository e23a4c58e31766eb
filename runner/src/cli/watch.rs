//! What the sandbox saw while a run went on: handshakes made and refused, and which states met in each phase.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sandbox::hosts::History;
use sandbox::world::counters::{Snapshot, State};
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
        let mut clients: BTreeSet<_> = met.iter().map(|pair| &pair.client).collect();
        let mut servers: BTreeSet<_> = met.iter().map(|pair| &pair.server).collect();
        // Also those who had something loaded that nobody met.
        let (client, server) = kind.split_once(" -> ").unwrap_or_default();
        clients.extend(had(client, before, after));
        servers.extend(had(server, before, after));
        counted.met += met.len();
        counted.possible += clients.len() * servers.len();
    }
    counted
}

/// What processes of a component were seen to have loaded between two snapshots.
fn had<'a>(component: &str, before: &Snapshot, after: &'a Snapshot) -> impl Iterator<Item = &'a State> {
    let earlier: BTreeMap<State, u64> = before
        .loaded
        .get(component)
        .into_iter()
        .flatten()
        .map(|loaded| (loaded.state.clone(), loaded.seen))
        .collect();
    let later = after.loaded.get(component).into_iter().flatten();
    later
        .filter(move |loaded| loaded.seen > earlier.get(&loaded.state).copied().unwrap_or(0))
        .map(|loaded| &loaded.state)
}

/// A little more than the pause between two writes of the counters.
const SETTLE: Duration = Duration::from_millis(250);

type Fetched = JoinHandle<Result<Snapshot, String>>;

#[derive(Default)]
struct Seen {
    open: Option<(String, Fetched)>,
    phases: Vec<(String, Fetched, Fetched)>,
    /// The end of the run, kept back until the counters were told: it closes with what to type next.
    end: Option<(time::OffsetDateTime, Event)>,
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
        let path = dir.join("counters.json");
        let named = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        let bytes = SystemDisk.read(&path).map_err(|error| named(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| named(&error))
    })
}

/// What is known of each phase, and of which nothing is.
#[derive(Debug, Default)]
struct Tally {
    counted: Vec<Counted>,
    unknown: Vec<(String, String)>,
    /// What the members of an etcd cluster did to who writes to them, from the beginning of the sandbox.
    history: Option<History>,
}

/// What became of what was written meanwhile, in a sentence.
fn told(history: &History) -> String {
    let mut text = format!("{} writes acknowledged by the members, ", history.acknowledged);
    text += match history.wrong.len() {
        0 => "none lost or read stale",
        _ => "some lost or read stale",
    };
    text += &format!("; at most {} of them down at one moment", history.most_down);
    for wrong in &history.wrong {
        text += &format!("\n  {wrong}");
    }
    text
}

impl Tally {
    async fn of(phases: Vec<(String, Fetched, Fetched)>) -> Self {
        let mut tally = Self::default();
        for (phase, before, after) in phases {
            let ended = |error: tokio::task::JoinError| Err(error.to_string());
            match (before.await.unwrap_or_else(ended), after.await.unwrap_or_else(ended)) {
                (Ok(before), Ok(after)) => {
                    tally.counted.push(between(&phase, &before, &after));
                    tally.history = after.history;
                }
                (Err(why), _) | (_, Err(why)) => tally.unknown.push((phase, why)),
            }
        }
        tally
    }

    fn lines(&self) -> Vec<String> {
        let counted = self.counted.iter().map(|row| {
            json!({"event": "sandbox-counted", "phase": row.phase, "made": row.made, "refused": row.refused, "pairs_met": row.met, "pairs_possible": row.possible})
        });
        let unknown = self
            .unknown
            .iter()
            .map(|(phase, why)| json!({"event": "sandbox-not-counted", "phase": phase, "why": why}));
        let history =
            self.history.iter().map(|history| json!({"event": "sandbox-history", "history": history}));
        counted.chain(unknown).chain(history).map(|line| line.to_string()).collect()
    }

    fn text(&self) -> Option<String> {
        if self.counted.is_empty() && self.unknown.is_empty() {
            return None;
        }
        let mut lines = vec![format!("\n{}", style::strong().apply_to("What the sandbox saw"))];
        if !self.counted.is_empty() {
            lines.push(table::text(&self.table()));
            let (made, refused): (u64, u64) = self
                .counted
                .iter()
                .fold((0, 0), |(made, refused), row| (made + row.made, refused + row.refused));
            let sum = format!("{made} handshakes between components, {refused} refused");
            let sum = if refused == 0 { style::good().apply_to(sum) } else { style::bad().apply_to(sum) };
            lines.push(sum.to_string());
            if let Some(history) = &self.history {
                let (text, well) = (told(history), history.wrong.is_empty());
                let shown = if well { style::good().apply_to(text) } else { style::bad().apply_to(text) };
                lines.push(shown.to_string());
            }
            if self.counted.iter().any(|row| row.met < row.possible) {
                let text =
                    "* not every combination of old and new that could have met did meet in that phase";
                lines.push(style::faint().apply_to(text).to_string());
            }
        }
        if let Some((_, why)) = self.unknown.first() {
            let phases: Vec<&str> = self.unknown.iter().map(|(phase, _)| phase.as_str()).collect();
            let text = format!(
                "its counters could not be read, so nothing is known of handshakes in {}: {why}",
                phases.join(", ")
            );
            lines.push(format!("{} {text}", style::warn().apply_to("note:")));
        }
        Some(lines.join("\n"))
    }

    fn table(&self) -> comfy_table::Table {
        let mut shown = table::plain(&["phase", "handshakes", "refused", "state pairs met"]);
        // A phase in which nothing was to be done is over before anybody dials.
        for row in self.counted.iter().filter(|row| row.made + row.refused > 0) {
            let mark = if row.met < row.possible { " *" } else { "" };
            shown.add_row([
                row.phase.clone(),
                row.made.to_string(),
                row.refused.to_string(),
                format!("{} of {}{mark}", row.met, row.possible),
            ]);
        }
        shown
    }
}

impl Watched {
    pub(crate) fn new(inner: Arc<dyn Reporter>, sandbox: Option<PathBuf>) -> Arc<Self> {
        Arc::new(Self { inner, sandbox, seen: Mutex::default() })
    }

    /// Tells what was counted, phase by phase; the last one may have been left in the middle.
    pub(crate) async fn tell(&self, as_json: bool) {
        let (tally, end) = self.tally().await;
        if as_json {
            tally.lines().iter().for_each(|line| output::data(line));
        } else if let Some(text) = tally.text() {
            output::data(&text);
        }
        if let Some((at, event)) = end {
            self.inner.event(at, &event);
        }
    }

    async fn tally(&self) -> (Tally, Option<(time::OffsetDateTime, Event)>) {
        let mut seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        if let (Some((name, before)), Some(dir)) = (seen.open.take(), &self.sandbox) {
            seen.phases.push((format!("{name} (not finished)"), before, fetch(dir.clone())));
        }
        (Tally::of(seen.phases).await, seen.end)
    }
}

impl Reporter for Watched {
    fn event(&self, at: time::OffsetDateTime, event: &Event) {
        let Some(dir) = &self.sandbox else { return self.inner.event(at, event) };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(event, Event::RunEnded { .. }) {
            seen.end = Some((at, event.clone()));
            return;
        }
        self.inner.event(at, event);
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::disallowed_methods)]
mod tests {
    use super::*;
    use crate::events::Silent;

    fn phase(watched: &Watched, name: &str, begins: bool) {
        let at = time::OffsetDateTime::UNIX_EPOCH;
        let (phase, direction) = (name.to_owned(), Direction::Forward);
        let event = if begins {
            Event::PhaseStarted { phase, why: String::new(), direction, number: 1, of: 2 }
        } else {
            Event::PhaseEnded { phase, direction, ms: 1, head: crate::events::Head::default() }
        };
        watched.event(at, &event);
    }

    /// A run of two phases, the second of which is left in the middle, before these counters.
    async fn watched(dir: &std::path::Path, counters: Option<&str>) -> Tally {
        if let Some(text) = counters {
            std::fs::write(dir.join("counters.json"), text).unwrap();
        }
        let watched = Watched::new(Arc::new(Silent), Some(dir.to_owned()));
        phase(&watched, "trust-both", true);
        phase(&watched, "trust-both", false);
        phase(&watched, "switch-leaves", true);
        watched.tally().await.0
    }

    #[tokio::test(start_paused = true)]
    async fn counters_that_cannot_be_read_are_told_and_not_taken_for_none() {
        let dir = tempfile::tempdir().unwrap();
        for counters in [None, Some("{ half a")] {
            let tally = watched(dir.path(), counters).await;
            let text = tally.text().unwrap();
            let words = ["could not be read", "trust-both, switch-leaves (not finished)", "counters.json"];
            for word in words {
                assert!(text.contains(word), "`{word}` is missing: {text}");
            }
            assert!(!text.contains("refused"), "nothing is claimed of what nobody counted: {text}");
            let lines = tally.lines();
            assert_eq!(lines.len(), 2);
            assert!(lines.iter().all(|line| line.contains("sandbox-not-counted")), "{lines:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_phase_that_was_left_in_the_middle_is_counted_too() {
        let dir = tempfile::tempdir().unwrap();
        let counters = serde_json::to_string(&Snapshot::default()).unwrap();
        let tally = watched(dir.path(), Some(&counters)).await;
        assert_eq!(tally.counted.len(), 2);
        let text = tally.text().unwrap();
        assert!(text.contains("0 handshakes between components, 0 refused"), "{text}");
    }

    #[test]
    fn what_was_loaded_and_met_by_nobody_counts_as_possible() {
        let counters = |text: &str| serde_json::from_str::<Snapshot>(text).unwrap();
        let whole = |links: &str, loaded: &str| {
            counters(&format!(
                r#"{{"made":1,"refused":0,"unreachable":0,"handshakes":1,"memoised":0,"outside_accepted":0,
                "outside_refused":0,"refusals":[],"material":{{}},"links":{{"tikv -> pd":{{"made":1,"refused":0,
                "unreachable":0,"pairs":[{links}]}}}},"loaded":{loaded}}}"#
            ))
        };
        let state = |leaf: &str| format!(r#"{{"leaf":"{leaf}","anchors":"a"}}"#);
        let pair = format!(r#"{{"client":{},"server":{},"held":1,"refused":0}}"#, state("old"), state("old"));
        let loaded = |old: u64, new: u64| {
            format!(
                r#"{{"pd":[{{"state":{},"seen":{old}}},{{"state":{},"seen":{new}}}]}}"#,
                state("old"),
                state("new")
            )
        };
        let counted = between("p", &whole("", &loaded(3, 0)), &whole(&pair, &loaded(3, 2)));
        assert_eq!(
            (counted.met, counted.possible),
            (1, 2),
            "a PD had the new certificate, and TiKV never met it"
        );
        let counted = between("p", &whole("", &loaded(3, 2)), &whole(&pair, &loaded(4, 2)));
        assert_eq!((counted.met, counted.possible), (1, 1), "that one was gone before the phase began");
    }

    #[tokio::test]
    async fn outside_a_sandbox_nothing_is_said() {
        let watched = Watched::new(Arc::new(Silent), None);
        phase(&watched, "trust-both", true);
        assert!(watched.tally().await.0.text().is_none());
    }
}
