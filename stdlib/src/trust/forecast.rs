//! Whether a phase leaves every link whole (law 5): every chain that may be presented against every anchor set that may
//! judge it, from before the first write to the end of the proof.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::combine::{Bench, Direction, Meeting, Side, States, sides};
use super::{Certs, Described, Link, Party, Rejection, Verifier, View, Write, describe};

/// What a forecast found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Forecast {
    /// Links looked at.
    pub links: usize,
    /// Pairs of chain and anchors over all links, directions and names.
    pub combinations: usize,
    /// Different questions put to a verifier.
    pub verifications: usize,
    /// Combinations that the phase would break.
    pub broken: Vec<Broken>,
    /// Combinations that fail already, so that no phase can be blamed for them.
    pub already_broken: Vec<Broken>,
}

impl Forecast {
    /// Whether the phase breaks nothing that holds now.
    pub fn gap_free(&self) -> bool {
        self.broken.is_empty()
    }

    /// One broken combination for each pair of groups, direction and reason: what a person needs to read.
    pub fn counterexamples(&self) -> Vec<&Broken> {
        let mut seen = BTreeSet::new();
        self.broken
            .iter()
            .filter(|broken| {
                seen.insert((
                    &broken.client_group,
                    &broken.server_group,
                    broken.direction,
                    &broken.rejection.code,
                ))
            })
            .collect()
    }
}

/// A combination of chain and anchors that is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// Id of the client party.
    pub client: String,
    /// Its group.
    pub client_group: String,
    /// Id of the server party.
    pub server: String,
    /// Its group.
    pub server_group: String,
    /// Whose chain is refused.
    pub direction: Direction,
    /// The name dialled.
    pub name: Option<String>,
    /// By whose rules.
    pub verifier: Verifier,
    /// The leaf of the chain presented; `None` where none is presented.
    pub chain: Option<Described>,
    /// The anchors that judge it.
    pub anchors: Vec<Described>,
    /// At which moment.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Why.
    pub rejection: Rejection,
}

fn short(fingerprint: &str) -> &str {
    fingerprint.get(..fingerprint.len().min(19)).unwrap_or(fingerprint)
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (judge, presenter, role) = match self.direction {
            Direction::Server => (&self.client, &self.server, "server"),
            Direction::Client => (&self.server, &self.client, "client"),
        };
        write!(f, "{judge} would refuse {role} {presenter}")?;
        if let Some(name) = &self.name {
            write!(f, " dialled as `{name}`")?;
        }
        match &self.chain {
            Some(leaf) => write!(
                f,
                " presenting `{}` ({}…, valid until {})",
                leaf.subject,
                short(&leaf.fingerprint),
                crate::cert::date(leaf.not_after)
            )?,
            None => write!(f, " presenting no certificate")?,
        }
        write!(f, " while trusting ")?;
        if self.anchors.is_empty() {
            write!(f, "nothing")?;
        }
        for (index, anchor) in self.anchors.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}`{}` ({}…)", anchor.subject, short(&anchor.fingerprint))?;
        }
        write!(f, ": {}", self.rejection.text)
    }
}

/// What would break between `from` and `until`, give or take `skew`, if `writes` were made, in this order, to a target
/// whose parties are as in `view`.
///
/// A link that does not hold now cannot be broken: where in one of its directions nothing that is loaded now is
/// accepted, all that fails is *already broken*; so is a pair of chain and anchors that meets now and fails.
pub fn forecast(
    view: &View,
    writes: &[Write],
    from: OffsetDateTime,
    until: OffsetDateTime,
    skew: Duration,
) -> Forecast {
    let mut result = Forecast { links: view.links.len(), ..Forecast::default() };
    let mut bench = Bench::default();
    let parties: HashMap<&str, (&Party, States)> =
        view.parties.iter().map(|party| (party.id.as_str(), (party, bench.states(party, writes)))).collect();
    let window = Window { from, first: from - skew, last: until.max(from) + skew };
    for link in &view.links {
        let (Some((client, client_states)), Some((server, server_states))) =
            (parties.get(link.client.as_str()), parties.get(link.server.as_str()))
        else {
            result.broken.push(dangling(view, link, from));
            continue;
        };
        let sides = sides(link, (client, client_states), (server, server_states));
        let alive = holds_now(&mut bench, &sides, from);
        for (side, alive) in sides.iter().zip(alive) {
            for meeting in &side.meetings {
                result.combinations += 1;
                let Some((at, rejection, fails_now)) = first_failure(&mut bench, side, *meeting, window)
                else {
                    continue;
                };
                let broken = Broken {
                    client: client.id.clone(),
                    client_group: client.group.clone(),
                    server: server.id.clone(),
                    server_group: server.group.clone(),
                    direction: side.direction,
                    name: side.name.map(str::to_owned),
                    verifier: side.verifier,
                    chain: bench.certs(meeting.chain).0.first().map(describe),
                    anchors: bench.certs(meeting.anchors).0.iter().map(describe).collect(),
                    at,
                    rejection,
                };
                if !alive || (meeting.present && fails_now) {
                    result.already_broken.push(broken);
                } else {
                    result.broken.push(broken);
                }
            }
        }
    }
    result.verifications = bench.verifications();
    result
}

#[derive(Clone, Copy)]
struct Window {
    from: OffsetDateTime,
    first: OffsetDateTime,
    last: OffsetDateTime,
}

/// For each side, whether the link holds now as far as that side is concerned: something that is loaded now is accepted
/// there, and in the other direction (under some name).
fn holds_now<'v>(bench: &mut Bench<'v>, sides: &[Side<'v>], now: OffsetDateTime) -> Vec<bool> {
    let accepted: Vec<bool> = sides
        .iter()
        .map(|side| {
            side.meetings
                .iter()
                .filter(|meeting| meeting.present)
                .any(|meeting| bench.judge(side, *meeting, now).is_ok())
        })
        .collect();
    let of = |direction: Direction| {
        let mut relevant =
            sides.iter().zip(&accepted).filter(|(side, _)| side.direction == direction).peekable();
        relevant.peek().is_none() || relevant.any(|(_, accepted)| *accepted)
    };
    let (server, client) = (of(Direction::Server), of(Direction::Client));
    sides
        .iter()
        .zip(&accepted)
        .map(|(side, accepted)| match side.direction {
            Direction::Server => *accepted && client,
            Direction::Client => *accepted && server,
        })
        .collect()
}

/// The first moment of the window at which the meeting is refused, why, and whether it is refused now.
fn first_failure<'v>(
    bench: &mut Bench<'v>,
    side: &Side<'v>,
    meeting: Meeting,
    window: Window,
) -> Option<(OffsetDateTime, Rejection, bool)> {
    let (chain, anchors) = (bench.certs(meeting.chain), bench.certs(meeting.anchors));
    let window = &Window { first: begins(meeting, chain, anchors, &window), ..window };
    let moments = moments(chain, anchors, window);
    let mut judge = |at| bench.judge(side, meeting, at).err();
    let (at, rejection) = moments.into_iter().find_map(|at| judge(at).map(|rejection| (at, rejection)))?;
    let fails_now = judge(window.from).is_some();
    Some((at, rejection, fails_now))
}

/// From when a meeting counts. A clock that goes so slow that what is in use already is not valid yet refuses it already:
/// that is not what a phase brings about.
fn begins(meeting: Meeting, chain: &Certs, anchors: &Certs, window: &Window) -> OffsetDateTime {
    let known = if meeting.in_use { chain.0.as_slice() } else { &[] };
    let trusted = if meeting.present { anchors.0.as_slice() } else { &[] };
    let dates = known.iter().chain(trusted).filter_map(|der| super::verifier::validity(der));
    dates.map(|(not_before, _)| not_before.min(window.from)).fold(window.first, OffsetDateTime::max)
}

/// The ends of the window, and every moment within at which a certificate comes into force or expires: between two of
/// these a verifier's answer cannot change.
fn moments(chain: &Certs, anchors: &Certs, window: &Window) -> BTreeSet<OffsetDateTime> {
    let mut moments = BTreeSet::from([window.first, window.last]);
    for der in chain.0.iter().chain(&anchors.0) {
        if let Some((not_before, not_after)) = super::verifier::validity(der) {
            let second = time::Duration::SECOND;
            let turns = [not_before.checked_sub(second), Some(not_after), not_after.checked_add(second)];
            moments.extend(turns.into_iter().flatten().filter(|at| (window.first..window.last).contains(at)));
        }
    }
    moments
}

/// A link that names a party which the view does not have: nothing can be said of it, so nothing may be done to it.
fn dangling(view: &View, link: &Link, at: OffsetDateTime) -> Broken {
    let known = |id: &str| view.parties.iter().find(|party| party.id == id);
    let group = |id: &str| known(id).map_or_else(|| id.to_owned(), |party| party.group.clone());
    let missing = if known(&link.client).is_none() { &link.client } else { &link.server };
    Broken {
        client: link.client.clone(),
        client_group: group(&link.client),
        server: link.server.clone(),
        server_group: group(&link.server),
        direction: Direction::Server,
        name: link.names.first().cloned(),
        verifier: known(&link.client).map_or(Verifier::Go, |party| party.verifier),
        chain: None,
        anchors: Vec::new(),
        at,
        rejection: Rejection {
            code: "unknown-party".into(),
            text: format!("nothing is known of `{missing}`, so nothing can be promised of this link"),
        },
    }
}
