//! Who trusts whom: parties, links, the matrix and the forecast (law 5 of the design). Pure: no IO.
//!
//! A *party* is one identity (chain and key) with one trust store of one process, *as loaded*. A *link* is a client
//! party that dials a server party under names. What a party may have loaded is a *set*: after a write and before a
//! proof it may be the old or the new.

mod certs;
mod combine;
mod forecast;
mod matrix;
#[cfg(test)]
mod tests;
mod verifier;

pub use certs::Certs;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

pub use self::combine::Direction;
pub use self::forecast::{Broken, Forecast, forecast};
pub use self::matrix::{Cell, Holds, Matrix, matrix};
pub use self::verifier::{Described, describe, verify};
use crate::gate::Place;

/// Which implementation judges a peer's certificate; their rules differ (`procedures`, X.509 facts).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verifier {
    /// Rust's webpki.
    Webpki,
    /// Go's crypto/x509 (PD, TiDB, TiCDC, TiProxy, Kubernetes, etcd).
    Go,
    /// OpenSSL and its kin under gRPC (TiKV, TiFlash).
    Openssl,
}

/// What the certificate is asked to prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Usage {
    /// A server before its client.
    Server,
    /// A client before its server.
    Client,
}

/// One question to a verifier.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// As server or as client.
    pub usage: Usage,
    /// The DNS name or IP address dialled (servers only).
    pub name: Option<&'a str>,
    /// Allowed common names of the leaf; empty allows all.
    pub allowed_cn: &'a [String],
    /// At which moment.
    pub at: OffsetDateTime,
}

/// Why a verifier refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// Stable word: `expired`, `not-yet-valid`, `unknown-authority`, `bad-signature`, `name-mismatch`, `usage`,
    /// `path-length`, `not-a-ca`, `cn-not-allowed`, `empty-chain`, `malformed`, `name-constraint`,
    /// `critical-extension`, `self-signed`; `refused` where only the failed handshake is known.
    pub code: String,
    /// In the operator's words, with names and dates.
    pub text: String,
}

/// How we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// A real handshake showed it.
    Measured,
    /// It started after the bundle reached it.
    Inferred,
    /// Neither: counts as all that it may still hold.
    Unknown,
}

/// One identity with one trust store of one process, with everything that it may have loaded now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Party {
    /// e.g. `pod/basic-pd-0`.
    pub id: String,
    /// Row and column of the folded table, e.g. `pd`.
    pub group: String,
    /// The process; parties of one process share it (for those that dial themselves).
    pub process: String,
    /// Whose rules it verifies by.
    pub verifier: Verifier,
    /// Where its key material comes from.
    pub source: Place,
    /// Where its anchors come from, where that is another place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchors_source: Option<Place>,
    /// Chains that it may present.
    pub chains: Vec<Certs>,
    /// How we know the chains.
    pub chain_evidence: Evidence,
    /// Anchor sets that it may have loaded.
    pub anchors: Vec<Certs>,
    /// How we know the anchors.
    pub anchor_evidence: Evidence,
}

/// A client party that dials a server party.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Link {
    /// Id of the client party.
    pub client: String,
    /// Id of the server party.
    pub server: String,
    /// Every name or address under which it dials.
    pub names: Vec<String>,
    /// Whether the server asks for and verifies a client certificate.
    pub mutual: bool,
    /// Common names that the server allows of clients; empty allows all.
    #[serde(default)]
    pub client_cn: Vec<String>,
    /// What came of the handshake of this very link, where it was made for the view. It says how the link is at this
    /// moment, and nothing about what either end has beside it: the forecast does not rest on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake: Option<Handshake>,
}

/// A handshake that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Handshake {
    /// Both ends accepted each other.
    Accepted,
    /// An end refused, in words.
    Refused(String),
}

/// Parties and links as they are at one moment.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct View {
    /// All parties, controllers and known outside clients among them.
    pub parties: Vec<Party>,
    /// All links.
    pub links: Vec<Link>,
}

/// What a change is about to put at a place that parties load from. `None` leaves that half as it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Write {
    /// The place, as in [`Party::source`].
    pub place: Place,
    /// The chain that parties will present.
    pub chain: Option<Certs>,
    /// The anchors that parties will trust.
    pub anchors: Option<Certs>,
}
