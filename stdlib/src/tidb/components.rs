//! The components of a TiDB cluster as data: names, order, ports, verifiers, certificates.

use crate::trust::Verifier;

/// One component that the TiDB operator runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Component {
    /// Its name: field of `spec` and `status`, label `app.kubernetes.io/component`, part of the names.
    pub name: &'static str,
    /// Where it answers with the cluster certificate.
    pub port: u16,
    /// By whose rules it judges a peer.
    pub verifier: Verifier,
    /// How it comes by a changed leaf (a changed CA always needs a restart).
    pub leaf_reload: &'static str,
}

/// In the order in which the operator reconciles them, which is the order to restart them in.
pub const COMPONENTS: [Component; 7] = [
    component("pd", 2379, Verifier::Go, "each connection"),
    component("tiproxy", 3080, Verifier::Go, "hourly"),
    component("tiflash", 3930, Verifier::Openssl, "each connection"),
    component("tikv", 20160, Verifier::Openssl, "each connection"),
    component("pump", 8250, Verifier::Go, "restart"),
    component("tidb", 10080, Verifier::Go, "each connection"),
    component("ticdc", 8301, Verifier::Go, "each connection"),
];

/// The profile of `ca-config.json` for servers, which are clients of each other too.
pub const SERVER_PROFILE: &str = "internal";
/// The profile, request and component name of pure clients.
pub const CLIENT: &str = "client";

const fn component(
    name: &'static str,
    port: u16,
    verifier: Verifier,
    leaf_reload: &'static str,
) -> Component {
    Component { name, port, verifier, leaf_reload }
}

/// The component of this name.
pub fn by_name(name: &str) -> Option<&'static Component> {
    COMPONENTS.iter().find(|component| component.name == name)
}

/// The Secret of a component's identity.
pub fn secret_name(cluster: &str, component: &str) -> String {
    if component == CLIENT {
        format!("{cluster}-cluster-client-secret")
    } else {
        format!("{cluster}-{component}-cluster-secret")
    }
}

/// The component whose identity lies in a Secret of this name, if it follows the operator's scheme.
pub fn component_of_secret<'a>(cluster: &str, secret: &'a str) -> Option<&'a str> {
    let rest = secret.strip_prefix(cluster)?.strip_prefix('-')?;
    if rest == "cluster-client-secret" {
        return Some(CLIENT);
    }
    rest.strip_suffix("-cluster-secret").filter(|component| !component.is_empty())
}

/// The stem of the component's request file, e.g. `pd-server.json`.
pub fn request(component: &str) -> String {
    if component == CLIENT { CLIENT.into() } else { format!("{component}-server") }
}

/// The profile that its certificate is issued under.
pub fn profile(component: &str) -> &'static str {
    if component == CLIENT { CLIENT } else { SERVER_PROFILE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_named_as_the_operator_names_them_and_read_back() {
        for component in COMPONENTS.iter().map(|c| c.name).chain([CLIENT, "drainer", "lightning"]) {
            let secret = secret_name("basic", component);
            assert_eq!(component_of_secret("basic", &secret), Some(component), "{secret}");
        }
        assert_eq!(secret_name("basic", "pd"), "basic-pd-cluster-secret");
        assert_eq!(secret_name("basic", CLIENT), "basic-cluster-client-secret");
        // A cluster whose name begins like ours.
        assert_eq!(component_of_secret("basic", "basically-pd-cluster-secret"), None);
        assert_eq!(component_of_secret("basic", "basic-tidb-server-secret"), None);
    }

    #[test]
    fn restarts_follow_the_operators_order() {
        let names: Vec<&str> = COMPONENTS.iter().map(|c| c.name).collect();
        assert_eq!(names, ["pd", "tiproxy", "tiflash", "tikv", "pump", "tidb", "ticdc"]);
    }
}
