//! An API server serves again before the next one is touched; where it does not, its host takes the change back.

use std::sync::Arc;
use std::time::Duration;

use journal::NoTripwire;
use runner::events::{EndState, Event};
use sandbox::hosts::{Etcd, Layout};

use super::lab::{Files, Lab};
use crate::lab::virtual_time;

const CLIENT: &str = "/etc/kubernetes/pki/apiserver-etcd-client.crt";

fn of_client(files: &Files) -> Vec<&(Vec<u8>, u32)> {
    files.iter().filter(|(path, _)| path.ends_with(CLIENT)).map(|(_, file)| file).collect()
}

#[test]
fn an_api_server_that_does_not_serve_again_is_the_last_that_is_touched_and_takes_its_change_back() {
    virtual_time(async {
        let lab = Lab::of(1, &Etcd { layout: Layout::Kubeadm, ..Etcd::default() }).await;
        let before = lab.files();
        // In the phase that gives API servers other certificates, what was well before does not serve any more.
        let mut workflow = lab.workflow("etcd/rotate-ca");
        let script = workflow.sources.files.get_mut("lib/etcd.rhai").unwrap();
        let usual =
            "    if options.restart { restart_services(job, p, options); }\n    // By the new CAs alone";
        assert_eq!(script.matches(usual).count(), 1);
        let elsewhere =
            "    for n in 0..job.services.len() { job.services[n].serves.endpoints[0].port = 6444; }\n";
        *script = script.replace(usual, &format!("{elsewhere}{usual}"));

        let ending = lab.run(&workflow, Arc::new(NoTripwire)).await.unwrap();
        let failure = ending.failure.unwrap();
        let failure = format!("{failure}: {}", failure.hint.as_deref().unwrap_or_default());
        assert_eq!(ending.state, EndState::Stopped, "{failure}");
        assert!(failure.contains("the API server of m1"), "{failure}");
        assert!(
            failure.contains("m1 puts /etc/kubernetes/pki/apiserver-etcd-client.crt"),
            "what the host does by itself is not said: {failure}"
        );
        let restarts = |event: &Event| matches!(event, Event::Changing { step, .. } if step.contains("switch-leaves/settle"));
        assert_eq!(lab.reporter.events().iter().filter(|event| restarts(event)).count(), 1);

        tokio::time::sleep(Duration::from_secs(400)).await;
        let after = lab.files();
        let (was, is) = (of_client(&before), of_client(&after));
        assert_eq!(was.len(), 3);
        assert_eq!(was[0], is[0], "m1 has put its old certificate back");
        assert!(
            was[1] != is[1] && was[2] != is[2],
            "the others were not restarted, and have nothing to take back"
        );
        assert_eq!(lab.ailing().await, Vec::<String>::new());
    });
}

#[test]
fn an_api_server_that_does_not_serve_with_its_own_new_certificates_takes_them_back() {
    virtual_time(async {
        let lab = Lab::of(1, &Etcd { layout: Layout::Ack, ..Etcd::default() }).await;
        let before = lab.files();
        let mut workflow = lab.workflow("ack/etcd-renew");
        let script = workflow.sources.files.get_mut("lib/ack.rhai").unwrap();
        let usual = "    rotation::restart_services(loading(job, found), p, options);";
        assert_eq!(script.matches(usual).count(), 1);
        let elsewhere =
            "    for n in 0..job.services.len() { job.services[n].serves.endpoints[0].port = 6444; }\n";
        *script = script.replace(usual, &format!("{elsewhere}{usual}"));

        let ending = lab.run(&workflow, Arc::new(NoTripwire)).await.unwrap();
        let failure = ending.failure.unwrap();
        let failure = format!("{failure}: {}", failure.hint.as_deref().unwrap_or_default());
        assert_eq!(ending.state, EndState::Stopped, "{failure}");
        assert!(
            failure.contains("m1 puts ") && failure.contains("/etc/kubernetes/pki/apiserver.crt"),
            "{failure}"
        );

        tokio::time::sleep(Duration::from_secs(400)).await;
        let after = lab.files();
        let back = |host: &str, name: &str| {
            let path = format!("{host}/etc/kubernetes/pki/{name}");
            before[&path] == after[&path]
        };
        for name in
            ["ca.crt", "apiserver.crt", "apiserver.key", "front-proxy-ca.crt", "front-proxy-client.crt"]
        {
            assert!(back("m1", name), "m1 has put {name} back");
            assert!(!back("m2", name), "m2 was not restarted: {name}");
        }
        assert_eq!(lab.ailing().await, Vec::<String>::new());
    });
}
