//! What the links of the sandbox have seen: handshakes made and refused, and which states met.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// Key material as a process has it loaded, by digests. Two processes with the same digests hold the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct State {
    /// Digest of the chain that it presents.
    pub leaf: String,
    /// Digest of the anchors that it trusts.
    pub anchors: String,
}

/// One handshake that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// When, by the world's clock.
    pub at: String,
    /// Who dialled: `pod/basic-tikv-0`, `operator`.
    pub client: String,
    /// Who was dialled.
    pub server: String,
    /// Under which name.
    pub name: String,
    /// On which port.
    pub port: u16,
    /// Who refused: `client` or `server`.
    pub by: String,
    /// Why, in that verifier's words.
    pub why: String,
}

/// A client state and a server state that met on a kind of link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// What the client had loaded.
    pub client: State,
    /// What the server had loaded.
    pub server: State,
    /// How often they agreed.
    pub held: u64,
    /// How often one refused the other.
    pub refused: u64,
}

/// One kind of link, e.g. `tikv -> pd`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Handshakes that held.
    pub made: u64,
    /// Handshakes that one side refused.
    pub refused: u64,
    /// Dials that found nobody (a pod restarting): no question of trust.
    pub unreachable: u64,
    /// Which states met.
    pub pairs: Vec<Pair>,
}

/// Everything counted so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Links dialled with an answer, really shaken or known from the memo.
    pub made: u64,
    /// Links refused by either side.
    pub refused: u64,
    /// Dials that found nobody.
    pub unreachable: u64,
    /// Real TLS handshakes.
    pub handshakes: u64,
    /// Dials answered from the memo of identical handshakes (in-process worlds only).
    pub memoised: u64,
    /// Connections from outside the world (probes) that were accepted.
    pub outside_accepted: u64,
    /// Connections from outside the world that were refused.
    pub outside_refused: u64,
    /// The first refusals (at most 100).
    pub refusals: Vec<Refusal>,
    /// By kind of link.
    pub links: BTreeMap<String, Link>,
    /// SHA-256 fingerprints of the certificates behind each digest.
    pub material: BTreeMap<String, Vec<String>>,
    /// What processes have had loaded, by component, whether or not anybody met them with it.
    #[serde(default)]
    pub loaded: BTreeMap<String, Vec<Loaded>>,
    /// What the members of an etcd cluster did to the applications beside it, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<crate::hosts::History>,
}

/// A state that processes of a component have had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// What was loaded.
    pub state: State,
    /// How often a process was seen with it.
    pub seen: u64,
}

const KEPT: usize = 100;

type Met = BTreeMap<(State, State), (u64, u64)>;

#[derive(Default)]
struct Held {
    totals: Snapshot,
    met: BTreeMap<String, Met>,
    known: BTreeSet<String>,
    loaded: BTreeMap<String, BTreeMap<State, u64>>,
}

/// What came of a dial, for counting.
#[derive(Debug)]
pub enum Count<'a> {
    /// Both accepted.
    Held,
    /// One refused.
    Refused(&'a Refusal),
    /// Nobody there.
    Unreachable,
}

/// The counters of one world.
#[derive(Default)]
pub struct Counters(Mutex<Held>);

impl Counters {
    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a dial on a kind of link; `memoised` tells whether it was really shaken.
    pub fn count(&self, link: &str, states: Option<(State, State)>, outcome: &Count<'_>, memoised: bool) {
        let mut held = self.held();
        let totals = &mut held.totals;
        let entry = totals.links.entry(link.to_owned()).or_default();
        match outcome {
            Count::Unreachable => {
                entry.unreachable += 1;
                totals.unreachable += 1;
                return;
            }
            Count::Held => {
                entry.made += 1;
                totals.made += 1;
            }
            Count::Refused(refusal) => {
                entry.refused += 1;
                totals.refused += 1;
                if totals.refusals.len() < KEPT {
                    totals.refusals.push((*refusal).clone());
                }
            }
        }
        if memoised {
            totals.memoised += 1;
        } else {
            totals.handshakes += 1;
        }
        if let Some(states) = states {
            let met = held.met.entry(link.to_owned()).or_default().entry(states).or_default();
            match outcome {
                Count::Held => met.0 += 1,
                _ => met.1 += 1,
            }
        }
    }

    /// Counts a connection from outside.
    pub fn outside(&self, accepted: bool) {
        let mut held = self.held();
        if accepted {
            held.totals.outside_accepted += 1;
        } else {
            held.totals.outside_refused += 1;
        }
    }

    /// Remembers that a process of a component has this loaded now.
    pub fn loaded(&self, component: &str, state: State) {
        *self.held().loaded.entry(component.to_owned()).or_default().entry(state).or_default() += 1;
    }

    /// Remembers which certificates are behind a digest.
    pub fn material(&self, digest: &str, fingerprints: impl FnOnce() -> Vec<String>) {
        let mut held = self.held();
        if held.known.insert(digest.to_owned()) {
            held.totals.material.insert(digest.to_owned(), fingerprints());
        }
    }

    /// All of it, as of now.
    pub fn snapshot(&self) -> Snapshot {
        let held = self.held();
        let mut snapshot = held.totals.clone();
        for (link, met) in &held.met {
            let entry = snapshot.links.entry(link.clone()).or_default();
            entry.pairs = met
                .iter()
                .map(|((client, server), (agreed, refused))| Pair {
                    client: client.clone(),
                    server: server.clone(),
                    held: *agreed,
                    refused: *refused,
                })
                .collect();
        }
        let states = |(component, states): (&String, &BTreeMap<State, u64>)| {
            let states = states.iter().map(|(state, seen)| Loaded { state: state.clone(), seen: *seen });
            (component.clone(), states.collect())
        };
        snapshot.loaded = held.loaded.iter().map(states).collect();
        snapshot
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn state(leaf: &str) -> State {
        State { leaf: leaf.into(), anchors: "ca".into() }
    }

    #[test]
    fn a_pod_that_restarts_is_no_refusal_and_each_pair_of_states_is_kept_once() {
        let counters = Counters::default();
        let refusal = Refusal {
            at: String::new(),
            client: "pod/basic-tikv-0".into(),
            server: "pod/basic-pd-0".into(),
            name: "basic-pd".into(),
            port: 2379,
            by: "client".into(),
            why: "unknown authority".into(),
        };
        counters.count("tikv -> pd", None, &Count::Unreachable, false);
        counters.count("tikv -> pd", Some((state("a"), state("b"))), &Count::Held, false);
        counters.count("tikv -> pd", Some((state("a"), state("b"))), &Count::Held, true);
        counters.count("tikv -> pd", Some((state("a"), state("c"))), &Count::Refused(&refusal), false);
        let seen = counters.snapshot();
        assert_eq!((seen.made, seen.refused, seen.unreachable), (2, 1, 1));
        assert_eq!((seen.handshakes, seen.memoised), (2, 1));
        assert_eq!(seen.refusals, [refusal]);
        let pairs = &seen.links.get("tikv -> pd").unwrap().pairs;
        assert_eq!(pairs.iter().map(|p| (p.held, p.refused)).collect::<Vec<_>>(), [(2, 0), (0, 1)]);
    }
}
