//! What else lies in the folders that the documentation of ACK looks into: renewed with the rest, or refused by name.

use std::sync::Arc;

use journal::NoTripwire;
use runner::events::{EndState, Event};
use sandbox::hosts::{Etcd, Layout};
use stdlib::cert::Certificate;

use super::lab::Lab;
use crate::lab::virtual_time;

const CERT: &str = "var/lib/etcd/cert";
const KUBE: &str = "etc/kubernetes/pki";

async fn masters() -> Lab {
    Lab::of(1, &Etcd { layout: Layout::Ack, ..Etcd::default() }).await
}

fn kept(path: &str) -> bool {
    path.ends_with("pki/ca.key") || path.ends_with("/front-proxy-ca.key")
}

#[test]
fn every_certificate_of_the_folders_is_renewed_and_shown_with_its_date() {
    virtual_time(async {
        let lab = masters().await;
        let pair = |host: &str, from: &str, to: &str, ending: &[&str; 2]| {
            for ending in ending {
                lab.copies(host, &format!("{from}{ending}"), &format!("{to}{ending}"));
            }
        };
        let pem = ["-key.pem", ".pem"];
        // A client's that monitors, one of a member that was replaced, an API server's under kubeadm's name.
        pair("m1", &format!("{CERT}/etcd-client"), &format!("{CERT}/monitor"), &pem);
        let files = lab.files();
        let own =
            files.keys().find_map(|path| path.strip_prefix("m1/")?.strip_suffix("-name-1.pem")).unwrap();
        pair("m1", &format!("{own}-name-1"), &format!("{CERT}/10.9.9.9-name-7"), &pem);
        pair("m2", &format!("{KUBE}/etcd/etcd-client"), &format!("{KUBE}/etcd/other"), &pem);
        lab.copies(
            "m2",
            &format!("{KUBE}/etcd/etcd-client.pem"),
            &format!("{KUBE}/apiserver-etcd-client.crt"),
        );
        lab.copies(
            "m2",
            &format!("{KUBE}/etcd/etcd-client-key.pem"),
            &format!("{KUBE}/apiserver-etcd-client.key"),
        );
        lab.copies("m2", &format!("{KUBE}/etcd/ca.pem"), &format!("{KUBE}/etcd/again-ca.pem"));
        let before = lab.files();

        let ending = lab.run(&lab.workflow("ack/etcd-renew"), Arc::new(NoTripwire)).await.unwrap();
        assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
        assert_eq!(lab.renewed(&before, kept), Vec::<String>::new());
        assert_eq!(lab.ailing().await, Vec::<String>::new());

        // The page's table: every file of its three folders, and more than 49 years to go.
        let events = lab.reporter.events();
        let tables: Vec<_> = events
            .iter()
            .filter_map(|e| if let Event::Table { table, .. } = e { Some(table) } else { None })
            .collect();
        let table = tables.last().unwrap();
        for (name, (bytes, _)) in lab.files() {
            let (host, path) = name.split_once('/').unwrap();
            let shown = path.replace("data/etcd/cert", CERT);
            let is = |ending: &str| path.ends_with(ending) && !path.ends_with(&format!("-key{ending}"));
            if !is(".pem") && !is(".crt") {
                continue;
            }
            let until = Certificate::from_pem(&bytes, &name).unwrap().not_after();
            let row = table.rows.iter().find(|row| row[0] == host && row[1] == format!("/{shown}"));
            let row = row.unwrap_or_else(|| panic!("{name} is not in the table: {:?}", table.rows));
            assert!(row[5].parse::<i64>().unwrap() > 49 * 365, "{row:?}");
            assert_eq!(row[4], until.date().to_string());
        }
        for port in ["port 2379", "port 2380", "port 6443"] {
            assert_eq!(table.rows.iter().filter(|row| row[1] == port).count(), 3, "{port}");
        }
    });
}

#[test]
fn what_could_not_be_renewed_is_refused_by_name_before_anything_is_changed() {
    virtual_time(async {
        let lab = masters().await;
        lab.copies("m1", &format!("{KUBE}/front-proxy-client.crt"), &format!("{CERT}/strange.pem"));
        lab.copies("m2", &format!("{CERT}/etcd-client.pem"), &format!("{CERT}/keyless.pem"));
        let before = lab.files();
        for workflow in ["ack/etcd-renew", "ack/etcd-rollback"] {
            let failure =
                lab.run(&lab.workflow(workflow), Arc::new(NoTripwire)).await.unwrap_err().to_string();
            for word in
                ["m1:/var/lib/etcd/cert/strange.pem (its issuer", "m2:/var/lib/etcd/cert/keyless.pem (no key"]
            {
                assert!(failure.contains(word), "`{word}` is missing: {failure}");
            }
            assert!(lab.files() == before);
        }
    });
}

#[test]
fn what_was_forgotten_is_found_in_the_end() {
    virtual_time(async {
        let lab = masters().await;
        let mut workflow = lab.workflow("ack/etcd-renew");
        let script = workflow.sources.files.get_mut("main.rhai").unwrap();
        // One pair is left as it was: valid, and of a CA that is gone.
        let usual = "rotation::unproved(job);";
        assert_eq!(script.matches(usual).count(), 1);
        lab.copies("m1", &format!("{CERT}/etcd-client.pem"), &format!("{CERT}/zz.pem"));
        lab.copies("m1", &format!("{CERT}/etcd-client-key.pem"), &format!("{CERT}/zz-key.pem"));
        *script = script.replace(usual, &format!("job.pairs.pop(); {usual}"));
        let ending = lab.run(&workflow, Arc::new(NoTripwire)).await.unwrap();
        let failure = ending.failure.unwrap().to_string();
        assert_eq!(ending.state, EndState::Stopped, "{failure}");
        assert!(failure.contains("zz.pem") && failure.contains("expires within"), "{failure}");
    });
}
