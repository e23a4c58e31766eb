//! What each component of a TiDB cluster listens on, whom it dials, and by whose rules it judges certificates.

use stdlib::trust::Verifier;

/// Where TiDB answers MySQL clients, if they are to speak TLS.
pub const SQL_PORT: u16 = 4000;

/// The folder in which operator v1 mounts the Secret of TiDB's MySQL side.
pub const SQL_FOLDER: &str = "/var/lib/tidb-server-tls";
/// The same under operator v2.
pub const SQL_FOLDER_V2: &str = "/var/lib/tidb-sql-tls";

/// How a target is named when it is dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Each pod by its own name under the headless service: `basic-pd-0.basic-pd-peer.tidb.svc`.
    Pod,
    /// Any ready pod by the service's name: `basic-pd.tidb.svc`.
    Service,
}

/// One kind of link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dials {
    /// The component dialled.
    pub target: &'static str,
    /// The port dialled.
    pub port: u16,
    /// Under which names.
    pub by: By,
    /// Whether the client is not ready without at least one that answers.
    pub needed: bool,
}

/// When a process reads its key pair again. A CA is read at the start only, by all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaf {
    /// For every new connection.
    EachConnection,
    /// Once an hour.
    Hourly,
    /// At the start, or when it is told to.
    AtStart,
}

/// One component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// `pd`.
    pub component: &'static str,
    /// Last part of its image's name.
    pub image: &'static str,
    /// Whose rules it verifies by.
    pub verifier: Verifier,
    /// When it reads its key pair.
    pub leaf: Leaf,
    /// Ports that speak TLS between components.
    pub ports: &'static [u16],
    /// Whether its headless service is `C-X-peer`, or (Pump) `C-X` alone.
    pub peer_service: bool,
    /// Whom it dials.
    pub dials: &'static [Dials],
}

impl Program {
    /// The folder in which its Secret is mounted.
    pub fn folder(&self) -> String {
        if self.component == "client" {
            "/var/lib/cluster-client-tls".to_owned()
        } else {
            format!("/var/lib/{}-tls", self.component)
        }
    }

    /// Whether MySQL clients dial it.
    pub fn has_sql(&self) -> bool {
        self.component == "tidb"
    }

    /// The port that says most about it (health, API).
    pub fn main_port(&self) -> u16 {
        self.ports.first().copied().unwrap_or(0)
    }

    /// Its name under a cluster: `basic-pd`.
    pub fn service(&self, cluster: &str) -> String {
        format!("{cluster}-{}", self.component)
    }
}

const fn dials(target: &'static str, port: u16, by: By, needed: bool) -> Dials {
    Dials { target, port, by, needed }
}

use By::{Pod, Service};

/// All components.
pub const PROGRAMS: &[Program] = &[
    Program {
        component: "pd",
        image: "pd",
        verifier: Verifier::Go,
        leaf: Leaf::EachConnection,
        ports: &[2379, 2380],
        peer_service: true,
        dials: &[dials("pd", 2380, Pod, false), dials("pd", 2379, Pod, false)],
    },
    Program {
        component: "tikv",
        image: "tikv",
        verifier: Verifier::Openssl,
        leaf: Leaf::EachConnection,
        ports: &[20160],
        peer_service: true,
        dials: &[
            dials("pd", 2379, Pod, true),
            dials("pd", 2379, Service, false),
            dials("tikv", 20160, Pod, false),
            dials("tiflash", 20170, Pod, false),
        ],
    },
    Program {
        component: "tidb",
        image: "tidb",
        verifier: Verifier::Go,
        leaf: Leaf::EachConnection,
        ports: &[10080],
        peer_service: true,
        dials: &[
            dials("pd", 2379, Pod, true),
            dials("pd", 2379, Service, false),
            dials("tikv", 20160, Pod, true),
            dials("tidb", 10080, Pod, false),
            dials("tiflash", 3930, Pod, false),
            dials("pump", 8250, Pod, false),
        ],
    },
    Program {
        component: "tiflash",
        image: "tiflash",
        verifier: Verifier::Openssl,
        leaf: Leaf::EachConnection,
        ports: &[3930, 20170],
        peer_service: true,
        dials: &[
            dials("pd", 2379, Pod, true),
            dials("pd", 2379, Service, false),
            dials("tikv", 20160, Pod, false),
            dials("tidb", 10080, Pod, false),
            dials("tiflash", 3930, Pod, false),
        ],
    },
    Program {
        component: "ticdc",
        image: "ticdc",
        verifier: Verifier::Go,
        leaf: Leaf::EachConnection,
        ports: &[8301],
        peer_service: true,
        dials: &[
            dials("pd", 2379, Pod, true),
            dials("pd", 2379, Service, false),
            dials("tikv", 20160, Pod, false),
            dials("ticdc", 8301, Pod, false),
        ],
    },
    Program {
        component: "tiproxy",
        image: "tiproxy",
        verifier: Verifier::Go,
        leaf: Leaf::Hourly,
        ports: &[3080],
        peer_service: true,
        dials: &[
            dials("pd", 2379, Pod, true),
            dials("pd", 2379, Service, false),
            dials("tidb", 10080, Pod, false),
        ],
    },
    Program {
        component: "pump",
        image: "tidb-binlog",
        verifier: Verifier::Go,
        leaf: Leaf::EachConnection,
        ports: &[8250],
        peer_service: false,
        dials: &[
            dials("pd", 2379, Pod, true),
            dials("pd", 2379, Service, false),
            dials("tikv", 20160, Pod, false),
        ],
    },
    Program {
        component: "client",
        image: "tidb-client",
        verifier: Verifier::Go,
        leaf: Leaf::EachConnection,
        ports: &[],
        peer_service: false,
        dials: &[
            dials("pd", 2379, Pod, true),
            dials("pd", 2379, Service, true),
            dials("tikv", 20160, Pod, true),
            dials("tidb", 10080, Pod, true),
            dials("tidb", 10080, Service, true),
        ],
    },
    Program {
        component: "sql-client",
        image: "tidb-sql-client",
        verifier: Verifier::Go,
        leaf: Leaf::EachConnection,
        ports: &[],
        peer_service: false,
        dials: &[dials("tidb", SQL_PORT, Pod, false), dials("tidb", SQL_PORT, Service, true)],
    },
];

/// What the operator dials, in whichever cluster has it.
pub const OPERATOR_DIALS: &[Dials] = &[
    dials("pd", 2379, Service, false),
    dials("pd", 2379, Pod, false),
    dials("tikv", 20160, Pod, false),
    dials("tidb", 10080, Pod, false),
    dials("tiflash", 20170, Pod, false),
    dials("ticdc", 8301, Pod, false),
    dials("tiproxy", 3080, Pod, false),
];

/// The program of a component.
pub fn program(component: &str) -> Option<&'static Program> {
    PROGRAMS.iter().find(|p| p.component == component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_that_is_dialled_is_listened_on() {
        let all = PROGRAMS.iter().flat_map(|p| p.dials).chain(OPERATOR_DIALS);
        for dialled in all {
            let on =
                |p: &Program| p.ports.contains(&dialled.port) || (p.has_sql() && dialled.port == SQL_PORT);
            let listens = program(dialled.target).is_some_and(on);
            assert!(listens, "{} does not listen on {}", dialled.target, dialled.port);
        }
    }
}
