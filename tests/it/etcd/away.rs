//! A host that drops off amid a restart, in the sandbox: it takes its own change back, and the run goes on; `abort` calls that
//! off.

use std::sync::Arc;
use std::time::Duration;

use journal::{NoTripwire, Why};
use runner::events::{EndState, Ending};
use sandbox::hosts::Fault;
use stdlib::host::{Host as _, TimerState};

use super::lab::{Files, Lab};
use crate::lab::virtual_time;

/// Waits until a timer waits on one of these hosts, and takes that host off the network.
async fn cut_once_armed(lab: &Lab, hosts: &[&'static str]) -> &'static str {
    loop {
        for name in hosts {
            let machine = lab.world.machine(name).unwrap();
            let timers = machine.timers().await.unwrap();
            if timers.iter().any(|timer| timer.state == TimerState::Armed) {
                machine.fault(Fault::Away, true);
                return name;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A rotation in which one of these hosts drops off while its service restarts; the host is back on the network `after`.
async fn is_cut(lab: &Lab, hosts: &[&'static str], after: Duration) -> &'static str {
    let workflow = lab.workflow("etcd/rotate-ca");
    let (ending, name) = tokio::join!(lab.run(&workflow, Arc::new(NoTripwire)), cut_once_armed(lab, hosts));
    let ending = ending.unwrap();
    let failure = ending.failure.as_ref().unwrap();
    let text = format!("{failure}: {}", failure.hint.as_deref().unwrap_or_default());
    assert_eq!(ending.state, EndState::Stopped, "{text}");
    let owed = format!("unless a resume confirms it, {name} puts /etc/etcd/pki/ca.pem back by itself");
    assert!(text.contains("cannot be reached") && text.contains(&owed), "{text}");
    tokio::time::sleep(after).await;
    lab.world.machine(name).unwrap().fault(Fault::Away, false);
    name
}

fn ca<'f>(files: &'f Files, host: &str) -> &'f [u8] {
    &files[&format!("{host}/etc/etcd/pki/ca.pem")].0
}

async fn is_well(lab: &Lab, before: &Files, ending: &Ending) {
    assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
    assert_eq!(lab.renewed(before, |_| false), Vec::<String>::new());
    assert_eq!(lab.left_behind(&ending.run), Vec::<String>::new());
    assert_eq!(lab.ailing().await, Vec::<String>::new());
    for name in ["m1", "m2", "m3", "app1"] {
        assert!(lab.world.machine(name).unwrap().timers().await.unwrap().is_empty(), "{name}");
    }
}

async fn comes_back(hosts: &[&'static str]) {
    let lab = Lab::new(1).await;
    let before = lab.files();
    let name = is_cut(&lab, hosts, Duration::from_secs(600)).await;
    let files = lab.files();
    assert_eq!(ca(&files, name), ca(&before, name), "{name} has put its file back");
    assert!(files != before, "others have theirs as the run wrote them");
    let ending = lab.open(Why::Resume).unwrap().resume().await;
    let told = format!("{:?}", lab.reporter.events());
    let note = format!("{name}: nobody confirmed the restart in time");
    assert!(told.contains(&note), "`{note}` is missing");
    is_well(&lab, &before, &ending).await;
}

#[test]
fn a_member_that_drops_off_amid_its_restart_takes_its_change_back_and_the_run_goes_on() {
    virtual_time(comes_back(&["m1", "m2", "m3"]));
}

#[test]
fn a_client_that_drops_off_amid_its_restart_takes_its_change_back_and_the_run_goes_on() {
    virtual_time(comes_back(&["app1"]));
}

#[test]
fn a_run_that_is_given_up_calls_off_what_its_hosts_would_do_by_themselves() {
    for leave_mixed in [false, true] {
        virtual_time(async {
            let lab = Lab::new(1).await;
            let before = lab.files();
            let name = is_cut(&lab, &["m1", "m2", "m3"], Duration::from_secs(5)).await;
            let machine = lab.world.machine(name).unwrap();
            assert_eq!(machine.timers().await.unwrap()[0].state, TimerState::Armed);
            let (written, starts) = (lab.files(), machine.unit("etcd").unwrap().starts());
            assert_ne!(ca(&written, name), ca(&before, name));

            let ending = lab.open(Why::Abort).unwrap().abort(leave_mixed).await;
            assert_eq!(ending.state, EndState::Aborted, "{:?}", ending.failure);
            assert!(machine.timers().await.unwrap().is_empty());
            tokio::time::sleep(Duration::from_secs(1200)).await;
            assert!(lab.files() == written, "it stands as it stood when it was given up");
            assert_eq!(machine.unit("etcd").unwrap().starts(), starts);
            let marked = lab.left_behind(&ending.run).iter().any(|left| left.contains("has a mark"));
            assert_eq!(marked, !leave_mixed);
            if !leave_mixed {
                let ending = lab.open(Why::Resume).unwrap().resume().await;
                is_well(&lab, &before, &ending).await;
            }
        });
    }
}
