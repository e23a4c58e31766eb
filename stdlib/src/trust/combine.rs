//! What may meet on a link: the states that each end may hold, and one memo of all verifications.

use std::collections::HashMap;

use time::OffsetDateTime;

use super::{Ask, Certs, Link, Party, Rejection, Usage, Verifier, Write, verify};

/// Which end of a link is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// The client judges the server's chain.
    Server,
    /// The server judges the client's chain.
    Client,
}

/// One thing that a party may have loaded, with the states of its files that had it: 0 is now, *n* is after the *n*th
/// write to its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Loaded {
    certs: usize,
    first: usize,
    last: usize,
}

/// Everything that a party may present and trust.
#[derive(Debug, Clone, Default)]
pub(super) struct States {
    chains: Vec<Loaded>,
    anchors: Vec<Loaded>,
}

/// A chain that meets an anchor set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meeting {
    pub(super) chain: usize,
    pub(super) anchors: usize,
    /// Both are there now.
    pub(super) present: bool,
    /// The chain is presented now, if to others.
    pub(super) in_use: bool,
}

/// One question to a verifier, small enough for a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Question<'v> {
    verifier: Verifier,
    chain: usize,
    anchors: usize,
    usage: Usage,
    name: Option<&'v str>,
    allowed_cn: &'v [String],
    at: OffsetDateTime,
}

/// Distinct certificate lists and the answers about them.
#[derive(Default)]
pub(super) struct Bench<'v> {
    ids: HashMap<&'v Certs, usize>,
    certs: Vec<&'v Certs>,
    answers: HashMap<Question<'v>, Result<(), Rejection>>,
}

static NOTHING: Certs = Certs(Vec::new());

impl<'v> Bench<'v> {
    fn id(&mut self, certs: &'v Certs) -> usize {
        let next = self.certs.len();
        let id = *self.ids.entry(certs).or_insert(next);
        if id == next {
            self.certs.push(certs);
        }
        id
    }

    /// The certificates behind an id.
    pub(super) fn certs(&self, id: usize) -> &'v Certs {
        self.certs.get(id).copied().unwrap_or(&NOTHING)
    }

    /// How many different questions were asked of a verifier.
    pub(super) fn verifications(&self) -> usize {
        self.answers.len()
    }

    /// What a party may hold from now until after the writes.
    pub(super) fn states(&mut self, party: &'v Party, writes: &'v [Write]) -> States {
        let trusted = party.anchors_source.as_ref().unwrap_or(&party.source);
        let mine: Vec<&'v Write> =
            writes.iter().filter(|write| write.place == party.source || write.place == *trusted).collect();
        let chains = mine.iter().map(|write| write.chain.as_ref().filter(|_| write.place == party.source));
        let anchors = mine.iter().map(|write| write.anchors.as_ref().filter(|_| write.place == *trusted));
        let (chains, anchors) = (self.half(&party.chains, chains), self.half(&party.anchors, anchors));
        States { chains, anchors }
    }

    fn half(&mut self, present: &'v [Certs], writes: impl Iterator<Item = Option<&'v Certs>>) -> Vec<Loaded> {
        let mut all: Vec<Loaded> = Vec::new();
        let mut current: Vec<usize> = if present.is_empty() {
            vec![self.id(&NOTHING)]
        } else {
            present.iter().map(|certs| self.id(certs)).collect()
        };
        let mut note = |certs: &[usize], state: usize| {
            for id in certs {
                match all.iter_mut().find(|loaded| loaded.certs == *id) {
                    Some(known) => known.last = state,
                    None => all.push(Loaded { certs: *id, first: state, last: state }),
                }
            }
        };
        note(&current, 0);
        for (index, write) in writes.enumerate() {
            if let Some(certs) = write {
                current = vec![self.id(certs)];
            }
            note(&current, index + 1);
        }
        all
    }

    /// Whether the judge of a side accepts what is presented to it there.
    pub(super) fn judge(
        &mut self,
        side: &Side<'v>,
        meeting: Meeting,
        at: OffsetDateTime,
    ) -> Result<(), Rejection> {
        let (chain, anchors) = (self.certs(meeting.chain), self.certs(meeting.anchors));
        let Side { verifier, usage, name, allowed_cn, .. } = *side;
        let question = Question {
            verifier,
            chain: meeting.chain,
            anchors: meeting.anchors,
            usage,
            name,
            allowed_cn,
            at,
        };
        self.answers
            .entry(question)
            .or_insert_with(|| {
                let ask = Ask { usage, name, allowed_cn, at };
                verify(verifier, &chain.0, &anchors.0, &ask).map(|_| ())
            })
            .clone()
    }
}

/// One direction of a link under one name.
pub(super) struct Side<'v> {
    pub(super) direction: Direction,
    pub(super) verifier: Verifier,
    pub(super) usage: Usage,
    pub(super) name: Option<&'v str>,
    pub(super) allowed_cn: &'v [String],
    pub(super) meetings: Vec<Meeting>,
}

/// All that may meet on a link: the server's chains under every name, then the client's if the server asks.
pub(super) fn sides<'v>(
    link: &'v Link,
    client: (&'v Party, &States),
    server: (&'v Party, &States),
) -> Vec<Side<'v>> {
    let one_process = client.0.process == server.0.process && client.0.source == server.0.source;
    let to_client = meetings(server.1, client.1, one_process);
    let mut sides: Vec<Side<'v>> = link
        .names
        .iter()
        .map(|name| Side {
            direction: Direction::Server,
            verifier: client.0.verifier,
            usage: Usage::Server,
            name: Some(name.as_str()),
            allowed_cn: &[],
            meetings: to_client.clone(),
        })
        .collect();
    if link.mutual {
        sides.push(Side {
            direction: Direction::Client,
            verifier: server.0.verifier,
            usage: Usage::Client,
            name: None,
            allowed_cn: &link.client_cn,
            meetings: meetings(client.1, server.1, one_process),
        });
    }
    sides
}

/// Every chain with every anchor set. In one process that dials itself both come from the same files: it may have
/// loaded its chain later than its anchors (most re-read the chain and not the anchors), never earlier.
fn meetings(presenter: &States, judge: &States, one_process: bool) -> Vec<Meeting> {
    let mut met = Vec::new();
    for chain in &presenter.chains {
        for anchors in &judge.anchors {
            if one_process && chain.last < anchors.first {
                continue;
            }
            met.push(Meeting {
                chain: chain.certs,
                anchors: anchors.certs,
                present: chain.first == 0 && anchors.first == 0,
                in_use: chain.first == 0,
            });
        }
    }
    met
}
