//! What a host that is dialled may be in a cluster: pure.

use std::net::IpAddr;

use serde_json::Value;

use crate::k8s::object::{at, text};

/// A host, by what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    /// An address, of a pod perhaps.
    Address(IpAddr),
    /// A Service, or with `pod` one pod of it: `basic-pd-0.basic-pd-peer.tidb.svc`.
    Named { pod: Option<String>, service: String, namespace: String },
    /// Something outside.
    Other,
}

impl Host {
    /// Names of the cluster have `svc` after the namespace; shorter ones are the affair of who resolves them.
    pub(super) fn parse(host: &str) -> Self {
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = host.parse() {
            return Self::Address(address);
        }
        let labels: Vec<&str> = host.trim_end_matches('.').split('.').collect();
        // They become parts of a path.
        let plain = |label: &&str| {
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if !labels.iter().all(plain) {
            return Self::Other;
        }
        let named = |pod: Option<&str>, service: &str, namespace: &str| Self::Named {
            pod: pod.map(str::to_owned),
            service: service.to_owned(),
            namespace: namespace.to_owned(),
        };
        match labels.as_slice() {
            [service, namespace, "svc", ..] => named(None, service, namespace),
            [pod, service, namespace, "svc", ..] => named(Some(pod), service, namespace),
            _ => Self::Other,
        }
    }
}

/// The addresses of a pod.
fn addresses(pod: &Value) -> impl Iterator<Item = IpAddr> {
    let listed = at(pod, &["status", "podIPs"]).and_then(Value::as_array).into_iter().flatten();
    let listed = listed.map(|one| text(one, &["ip"]));
    [text(pod, &["status", "podIP"])].into_iter().chain(listed).filter_map(|ip| ip.parse().ok())
}

/// Whether a pod has this address, and a process that could have it.
pub(super) fn has(pod: &Value, address: IpAddr) -> bool {
    !matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed")
        && addresses(pod).any(|own| own == address)
}

/// The port of a pod behind a Service's port; `None` where the Service has no such port.
pub(super) fn port_behind(service: &Value, pod: &Value, port: u16) -> Option<u16> {
    // A headless Service is but a name for addresses.
    if text(service, &["spec", "clusterIP"]) == "None" {
        return Some(port);
    }
    let ports = at(service, &["spec", "ports"]).and_then(Value::as_array)?;
    let found = ports.iter().find(|one| number(one.get("port")) == Some(port))?;
    match found.get("targetPort") {
        None | Some(Value::Null) => Some(port),
        Some(Value::String(name)) => name.parse().ok().or_else(|| named_port(pod, name)),
        target => number(target),
    }
}

fn named_port(pod: &Value, name: &str) -> Option<u16> {
    declared(pod)
        .find(|port| text(port, &["name"]) == name)
        .and_then(|port| number(port.get("containerPort")))
}

fn declared(pod: &Value) -> impl Iterator<Item = &Value> {
    let containers = at(pod, &["spec", "containers"]).and_then(Value::as_array).into_iter().flatten();
    containers.flat_map(|one| one.get("ports").and_then(Value::as_array).into_iter().flatten())
}

/// Whether a pod says that it listens there.
pub(super) fn declares(pod: &Value, port: u16) -> bool {
    declared(pod).any(|one| number(one.get("containerPort")) == Some(port))
}

fn number(value: Option<&Value>) -> Option<u16> {
    value.and_then(Value::as_u64).and_then(|number| u16::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_host_of_the_cluster_is_known_by_its_name() {
        let named = |pod: Option<&str>, service: &str| Host::Named {
            pod: pod.map(str::to_owned),
            service: service.into(),
            namespace: "tidb".into(),
        };
        assert_eq!(Host::parse("basic-pd.tidb.svc"), named(None, "basic-pd"));
        assert_eq!(Host::parse("basic-pd.tidb.svc.cluster.local."), named(None, "basic-pd"));
        let pod = named(Some("basic-pd-0"), "basic-pd-peer");
        assert_eq!(Host::parse("basic-pd-0.basic-pd-peer.tidb.svc"), pod);
        assert_eq!(Host::parse("10.1.0.5"), Host::Address([10, 1, 0, 5].into()));
        assert!(matches!(Host::parse("[fd00::5]"), Host::Address(IpAddr::V6(_))));
        for outside in
            ["example.com", "basic-pd", "basic-pd.tidb", "svc", "a.svc", "a/../b.tidb.svc", "a..svc"]
        {
            assert_eq!(Host::parse(outside), Host::Other, "{outside}");
        }
    }

    #[test]
    fn a_services_port_leads_to_the_pods() {
        let pod =
            json!({ "spec": { "containers": [{ "ports": [{ "name": "mysql", "containerPort": 4000 }] }] } });
        let service = |target: Value| json!({ "spec": { "clusterIP": "10.96.0.7", "ports": [{ "port": 3306, "targetPort": target }] } });
        assert_eq!(port_behind(&service(json!("mysql")), &pod, 3306), Some(4000));
        assert_eq!(port_behind(&service(json!(4001)), &pod, 3306), Some(4001));
        assert_eq!(port_behind(&service(Value::Null), &pod, 3306), Some(3306));
        assert_eq!(port_behind(&service(json!("http")), &pod, 3306), None);
        assert_eq!(port_behind(&service(json!(4000)), &pod, 1), None);
        let headless = json!({ "spec": { "clusterIP": "None", "ports": [] } });
        assert_eq!(port_behind(&headless, &pod, 2379), Some(2379));
    }

    #[test]
    fn a_pod_that_has_ended_has_no_address_any_more() {
        let pod = |phase: &str| json!({ "status": { "phase": phase, "podIP": "10.1.0.5", "podIPs": [{ "ip": "10.1.0.5" }, { "ip": "fd00::5" }] } });
        assert!(has(&pod("Running"), [10, 1, 0, 5].into()));
        assert!(has(&pod("Running"), "fd00:0::5".parse().unwrap_or(IpAddr::from([0, 0, 0, 0]))));
        assert!(!has(&pod("Running"), [10, 1, 0, 6].into()));
        assert!(!has(&pod("Failed"), [10, 1, 0, 5].into()));
    }
}
