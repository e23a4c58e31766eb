//! Who accepts whom, folded by group: the table that is shown after each phase.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::combine::{Bench, Direction, States, sides};
use super::{Evidence, Handshake, Link, Party, Rejection, View};

/// How many links of a cell hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holds {
    /// Every link.
    All,
    /// Some links.
    Some,
    /// No link.
    None,
}

/// All links from one group to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Group of the clients.
    pub client: String,
    /// Group of the servers.
    pub server: String,
    /// How many hold, in a word.
    pub holds: Holds,
    /// Links.
    pub links: usize,
    /// Links that hold.
    pub holding: usize,
    /// The weakest evidence of all that is involved.
    pub evidence: Evidence,
    /// The first link that fails, and why.
    pub reason: Option<String>,
    /// The rejection behind the reason.
    pub rejection: Option<Rejection>,
}

/// Clients by servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matrix {
    /// At which moment.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Row groups, in the order of the view.
    pub clients: Vec<String>,
    /// Column groups, in the order of the view.
    pub servers: Vec<String>,
    /// The cells that have links, row by row.
    pub cells: Vec<Cell>,
}

impl Matrix {
    /// The cell of a row and a column; `None` where nobody dials.
    pub fn cell(&self, client: &str, server: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.client == client && cell.server == server)
    }

    /// Whether every link holds.
    pub fn holds(&self) -> bool {
        self.cells.iter().all(|cell| cell.holds == Holds::All)
    }
}

/// A group with its place in the view, by which rows and columns are ordered.
type Placed = (usize, String);

/// The matrix of a view at one moment. A link whose handshake was made is as the handshake was. Any other holds when
/// everything that its ends may have loaded is accepted: what is not known counts as all that it may still be.
pub fn matrix(view: &View, at: OffsetDateTime) -> Matrix {
    let mut bench = Bench::default();
    let parties: HashMap<&str, (&Party, States)> =
        view.parties.iter().map(|party| (party.id.as_str(), (party, bench.states(party, &[])))).collect();
    let order: HashMap<&str, usize> =
        view.parties.iter().enumerate().rev().map(|(i, p)| (p.group.as_str(), i)).collect();
    let place = |group: &str| (order.get(group).copied().unwrap_or(usize::MAX), group.to_owned());
    let mut cells: BTreeMap<(Placed, Placed), Cell> = BTreeMap::new();
    for link in &view.links {
        let client = parties.get(link.client.as_str());
        let server = parties.get(link.server.as_str());
        let group = |party: Option<&(&Party, States)>, id: &str| {
            party.map_or_else(|| id.to_owned(), |(p, _)| p.group.clone())
        };
        let (row, column) = (group(client, &link.client), group(server, &link.server));
        let (refusal, evidence) = match (client, server) {
            _ if link.handshake.is_some() => (refused(link), Evidence::Measured),
            (Some((client, client_states)), Some((server, server_states))) => {
                let refusal =
                    sides(link, (client, client_states), (server, server_states)).iter().find_map(|side| {
                        side.meetings.iter().find_map(|meeting| {
                            bench.judge(side, *meeting, at).err().map(|rejection| (side.direction, rejection))
                        })
                    });
                (refusal, evidence(link, client, server))
            }
            _ => {
                let missing = if client.is_none() { &link.client } else { &link.server };
                let rejection = Rejection {
                    code: "unknown-party".into(),
                    text: format!("nothing is known of `{missing}`"),
                };
                (Some((Direction::Server, rejection)), Evidence::Unknown)
            }
        };
        let cell = cells.entry((place(&row), place(&column))).or_insert_with(|| Cell {
            client: row.clone(),
            server: column.clone(),
            holds: Holds::All,
            links: 0,
            holding: 0,
            evidence: Evidence::Measured,
            reason: None,
            rejection: None,
        });
        cell.links += 1;
        cell.evidence = cell.evidence.max(evidence);
        match refusal {
            None => cell.holding += 1,
            Some((direction, rejection)) => {
                if cell.reason.is_none() {
                    let (who, whom) = match direction {
                        Direction::Server => (&link.client, &link.server),
                        Direction::Client => (&link.server, &link.client),
                    };
                    cell.reason = Some(if link.handshake.is_some() {
                        format!("{} dialled {}: {}", link.client, link.server, rejection.text)
                    } else {
                        format!("{who} refuses {whom}: {}", rejection.text)
                    });
                    cell.rejection = Some(rejection);
                }
            }
        }
        cell.holds = match cell.holding {
            0 => Holds::None,
            all if all == cell.links => Holds::All,
            _ => Holds::Some,
        };
    }
    let mut clients: Vec<Placed> = cells.keys().map(|(row, _)| row.clone()).collect();
    let mut servers: Vec<Placed> = cells.keys().map(|(_, column)| column.clone()).collect();
    for groups in [&mut clients, &mut servers] {
        groups.sort();
        groups.dedup();
    }
    Matrix {
        at,
        clients: clients.into_iter().map(|(_, group)| group).collect(),
        servers: servers.into_iter().map(|(_, group)| group).collect(),
        cells: cells.into_values().collect(),
    }
}

/// Why the handshake of a link failed, where it did.
fn refused(link: &Link) -> Option<(Direction, Rejection)> {
    let Some(Handshake::Refused(text)) = &link.handshake else { return None };
    Some((Direction::Server, Rejection { code: "refused".into(), text: text.clone() }))
}

fn evidence(link: &Link, client: &Party, server: &Party) -> Evidence {
    let one_way = server.chain_evidence.max(client.anchor_evidence);
    if link.mutual { one_way.max(client.chain_evidence).max(server.anchor_evidence) } else { one_way }
}
