//! Who dials whom inside a TiDB cluster, and under which names: one table, for the trust view and for proofs.

/// How a server is named by those who dial it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The short name of its Service, from flags such as `--pd=basic-pd:2379`.
    Service,
    /// Service and namespace.
    ServiceIn,
    /// Service, namespace and `svc`.
    ServiceSvc,
    /// The pod's own name, which it advertises.
    Pod,
}

/// One kind of link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dials {
    /// Component of the client.
    pub client: &'static str,
    /// Component of the server.
    pub server: &'static str,
    /// The port, for a reader of the table.
    pub port: u16,
    /// The names dialled.
    pub forms: &'static [Form],
}

/// The client that stands for workloads outside the operator's components: it may dial any server.
pub const ANY: &str = "*";
/// The operator, which reads the client Secret again for every connection.
pub const OPERATOR: &str = "tidb-operator";
/// Operator v2 where it asks PD: with the client that it made when it started.
pub const OPERATOR_PD: &str = "tidb-operator-pd";
/// This program, which dials what it proves.
pub const RUNNER: &str = "rollover";

use Form::{Pod, Service, ServiceIn, ServiceSvc};

const EVERY: &[Form] = &[Service, ServiceIn, ServiceSvc, Pod];
const PD: &[Form] = &[Service, ServiceSvc, Pod];
const POD: &[Form] = &[Pod];

/// All links. Both ends of each ask for a certificate.
pub const LINKS: &[Dials] = &[
    dials("pd", "pd", 2380, POD),
    dials("pd", "pd", 2379, POD),
    dials("tikv", "pd", 2379, PD),
    dials("tikv", "tikv", 20160, POD),
    dials("tikv", "tiflash", 20170, POD),
    dials("tidb", "pd", 2379, PD),
    dials("tidb", "tikv", 20160, POD),
    dials("tidb", "tidb", 10080, POD),
    dials("tidb", "tiflash", 3930, POD),
    dials("tidb", "pump", 8250, POD),
    dials("tiflash", "pd", 2379, PD),
    dials("tiflash", "tikv", 20160, POD),
    dials("tiflash", "tidb", 10080, POD),
    dials("tiflash", "tiflash", 3930, POD),
    dials("ticdc", "pd", 2379, PD),
    dials("ticdc", "tikv", 20160, POD),
    dials("ticdc", "ticdc", 8301, POD),
    dials("tiproxy", "pd", 2379, PD),
    dials("tiproxy", "tidb", 10080, POD),
    dials("pump", "pd", 2379, PD),
    dials("pump", "tikv", 20160, POD),
    dials(OPERATOR, "pd", 2379, &[ServiceIn, ServiceSvc, Pod]),
    dials(OPERATOR, "tikv", 20180, POD),
    dials(OPERATOR, "tidb", 10080, POD),
    dials(OPERATOR, "tiflash", 20170, POD),
    dials(OPERATOR, "ticdc", 8301, POD),
    dials(OPERATOR, "tiproxy", 3080, POD),
    dials(OPERATOR_PD, "pd", 2379, &[ServiceIn, ServiceSvc, Pod]),
    dials(RUNNER, ANY, 0, POD),
    dials(ANY, "pd", 2379, EVERY),
    dials(ANY, "tikv", 20160, POD),
    dials(ANY, "tidb", 10080, EVERY),
];

const fn dials(client: &'static str, server: &'static str, port: u16, forms: &'static [Form]) -> Dials {
    Dials { client, server, port, forms }
}

/// The forms under which `client` dials `server`, if it does. A client that the table does not know is [`ANY`].
pub fn forms(client: &str, server: &str) -> Vec<Form> {
    let known = LINKS.iter().any(|link| link.client == client);
    let client = if known { client } else { ANY };
    let mut forms: Vec<Form> = Vec::new();
    for link in LINKS.iter().filter(|l| l.client == client && (l.server == server || l.server == ANY)) {
        forms.extend(link.forms.iter().filter(|form| !forms.contains(form)).collect::<Vec<_>>());
    }
    forms
}

/// The headless Service of a component whose Service is called so. Pump has one headless Service, without the suffix.
pub fn peer(service: &str, component: &str) -> String {
    if component == "pump" { service.into() } else { format!("{service}-peer") }
}

/// The names of one pod in these forms, with its Service and its headless Service.
pub fn names(forms: &[Form], service: &str, peer: &str, namespace: &str, pod: &str) -> Vec<String> {
    forms
        .iter()
        .map(|form| match form {
            Service => service.to_owned(),
            ServiceIn => format!("{service}.{namespace}"),
            ServiceSvc => format!("{service}.{namespace}.svc"),
            Pod => format!("{pod}.{peer}.{namespace}.svc"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidb::components::by_name;

    #[test]
    fn the_names_are_those_that_the_certificates_carry() {
        let names = names(&forms("tidb", "pd"), "basic-pd", &peer("basic-pd", "pd"), "tidb", "basic-pd-0");
        assert_eq!(names, ["basic-pd", "basic-pd.tidb.svc", "basic-pd-0.basic-pd-peer.tidb.svc"]);
        let pump = super::names(
            &forms("tidb", "pump"),
            "basic-pump",
            &peer("basic-pump", "pump"),
            "tidb",
            "basic-pump-0",
        );
        assert_eq!(pump, ["basic-pump-0.basic-pump.tidb.svc"]);
    }

    #[test]
    fn an_unknown_workload_may_dial_every_entry_of_the_cluster() {
        assert_eq!(forms("monitor", "pd").len(), 4);
        assert_eq!(forms("monitor", "tikv"), [Form::Pod]);
        assert!(forms("tikv", "tidb").is_empty());
        assert_eq!(forms(RUNNER, "ticdc"), [Form::Pod]);
    }

    #[test]
    fn every_server_in_the_table_is_a_component() {
        for link in LINKS.iter().filter(|link| link.server != ANY) {
            assert!(by_name(link.server).is_some(), "{}", link.server);
        }
    }
}
