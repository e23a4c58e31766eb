//! Which ports are dialled: those that are named, or those that the files found tell of. Pure.

use super::judge::{File, Row};

/// Ports that certificates are served on, by words in the paths of those: of the API server, and of etcd for its clients
/// and its peers.
const KNOWN: [(&str, u16); 3] = [("apiserver", 6443), ("etcd", 2379), ("etcd", 2380)];

/// The ports of a look.
#[derive(Default)]
pub(in crate::host) struct Ports(Vec<u16>);

impl Ports {
    /// These; where there are none, those that the files tell of.
    pub(in crate::host) fn new(named: Vec<u16>) -> Self {
        Self(named)
    }

    /// All that may be dialled.
    pub(in crate::host) fn iter(&self) -> impl Iterator<Item = u16> {
        let known = KNOWN.map(|(_, port)| port);
        let known = if self.0.is_empty() { known.to_vec() } else { Vec::new() };
        self.0.clone().into_iter().chain(known)
    }

    /// Whether they were named: then one that does not serve is a finding.
    pub(super) fn asked(&self) -> bool {
        !self.0.is_empty()
    }

    /// Those of a host with these files.
    pub(super) fn of(&self, files: &[File]) -> Vec<u16> {
        let told = |word: &str| {
            // What dials an API server or etcd says nothing of who listens here.
            let server = |file: &File| {
                let name = file.path.rsplit('/').next().unwrap_or_default();
                file.path.contains(word)
                    && !name.contains("client")
                    && !(word == "apiserver" && name.contains("etcd"))
            };
            files.iter().any(server)
        };
        let found = KNOWN.iter().filter(|(word, _)| told(word)).map(|(_, port)| *port);
        if self.asked() { self.0.clone() } else { found.collect() }
    }
}

/// What must be said where no port of a host was looked at.
pub(super) fn not_looked_at<'h>(hosts: impl Iterator<Item = &'h str>, rows: &[Row]) -> Option<String> {
    let looked = |host: &str| rows.iter().any(|row| row.host == host && row.place.starts_with("port "));
    let without: Vec<&str> = hosts.filter(|host| !looked(host)).collect();
    (!without.is_empty()).then(|| {
        format!(
            "no port of {} was looked at, so whether what runs there has loaded what lies there is not known; name them: `--set ports=2379,2380,6443`",
            without.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(paths: &[&str]) -> Vec<u16> {
        let file = |path: &&str| File { path: (*path).to_owned(), held: Ok(Vec::new()), key: None };
        Ports::default().of(&paths.iter().map(file).collect::<Vec<_>>())
    }

    #[test]
    fn ports_follow_from_the_files_that_are_there() {
        assert_eq!(of(&["/etc/kubernetes/pki/etcd/server.crt"]), [2379, 2380]);
        assert_eq!(
            of(&["/etc/kubernetes/pki/apiserver.crt", "/etc/kubernetes/pki/etcd/peer.crt"]),
            [6443, 2379, 2380]
        );
        let dials = [
            "/etc/kubernetes/pki/apiserver-etcd-client.crt",
            "/etc/kubernetes/pki/apiserver-kubelet-client.crt",
        ];
        assert!(of(&dials).is_empty());
        assert!(of(&["/etc/ssl/web.pem"]).is_empty());
        assert_eq!(Ports::new(vec![8443]).of(&[]), [8443]);
    }

    #[test]
    fn a_host_without_a_port_is_named() {
        let row = |host: &str, place: &str| Row {
            host: host.into(),
            place: place.into(),
            what: String::new(),
            name: String::new(),
            not_after: String::new(),
            days_left: None,
            fingerprint: String::new(),
            findings: Vec::new(),
        };
        let rows = [row("m1", "port 2379"), row("m2", "/etc/a.pem")];
        assert!(
            not_looked_at(["m1", "m2"].into_iter(), &rows)
                .unwrap()
                .starts_with("no port of m2 was looked at")
        );
        assert_eq!(not_looked_at(["m1"].into_iter(), &rows), None);
    }
}
