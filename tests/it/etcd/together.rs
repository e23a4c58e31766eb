//! A cluster whose certificates have expired is replaced in the order that its plan tells: all is laid beside the old files,
//! all members are stopped, all files take their places, all members start.

use std::fs;
use std::sync::Arc;

use journal::{Event, Moment, NoTripwire, Tripwire, Why};
use runner::events::EndState;
use sandbox::hosts::{Etcd, Fault, Layout, Machine};
use sandbox::world::Expired;

use super::lab::Lab;
use crate::lab::virtual_time;

pub(super) const NEW: &str = ".rollover-new";
const MEMBERS: [&str; 3] = ["m1", "m2", "m3"];

/// Stops before a record about a step whose key has this text.
pub(super) struct StopWhen(pub(super) &'static str);

impl Tripwire for StopWhen {
    fn stops(&self, _: u64, event: &Event, moment: Moment) -> bool {
        let Event::Intent(_) = event else { return false };
        moment == Moment::BeforeWrite && serde_json::to_value(event).unwrap().to_string().contains(self.0)
    }
}

/// Fills a host's disk before a record about a step whose key has this text.
struct FullAt(&'static str, Arc<Machine>);

impl Tripwire for FullAt {
    fn stops(&self, _: u64, event: &Event, _: Moment) -> bool {
        let Event::Intent(_) = event else { return false };
        if serde_json::to_value(event).unwrap().to_string().contains(self.0) && !self.1.has(Fault::Full) {
            self.1.fault(Fault::Full, true);
        }
        false
    }
}

fn expired(layout: Layout) -> Etcd {
    Etcd { expired: Expired::Everything, layout, ..Etcd::default() }
}

fn laid(lab: &Lab) -> usize {
    lab.files().keys().filter(|path| path.ends_with(NEW)).count()
}

pub(super) fn running(lab: &Lab) -> Vec<&'static str> {
    let is_up = |host: &&str| lab.world.machine(host).unwrap().unit("etcd").unwrap().is_active();
    MEMBERS.into_iter().filter(is_up).collect()
}

/// What the newest run did, in order, in a word each.
fn told(lab: &Lab) -> Vec<&'static str> {
    let run = lab.store().list().unwrap().pop().unwrap();
    let word = |event: &Event| {
        let effect = match event {
            Event::Effect(effect) => effect,
            // Down, not only about to be.
            Event::Outcome(step) if step.step.contains("/change/stop ") => return Some("stop"),
            Event::Outcome(step) if step.step.contains("/settle/m") && step.step.contains("etcd") => {
                return Some("up");
            }
            _ => return None,
        };
        let (place, service) = (&effect.place.0, effect.place.0.contains(":service:"));
        Some(match effect.primitive.as_str() {
            "host::stop" => return None,
            "host::install" => "install",
            "host::restart" if place.ends_with(":service:etcd") => "start",
            "host::restart" if service => return None,
            _ if place.ends_with(NEW) => "lay",
            _ => return None,
        })
    };
    lab.store().load(&run).unwrap().records.iter().filter_map(|record| word(&record.event)).collect()
}

#[test]
fn all_is_laid_then_all_are_stopped_then_all_is_installed_then_all_start() {
    virtual_time(async {
        for (layout, workflow) in [
            (Layout::Systemd, "etcd/renew-expired"),
            (Layout::Kubeadm, "etcd/renew-expired"),
            (Layout::Rke, "etcd/renew-expired"),
            (Layout::Ack, "ack/etcd-renew-expired"),
        ] {
            let lab = Lab::of(1, &expired(layout)).await;
            let before = lab.files();
            let ending = lab.run(&lab.workflow(workflow), Arc::new(NoTripwire)).await.unwrap();
            assert_eq!(ending.state, EndState::Done, "{layout:?}: {:?}", ending.failure);
            let mut words = told(&lab);
            let count = |word: &str| words.iter().filter(|known| **known == word).count();
            assert_eq!((count("stop"), count("start"), count("up")), (3, 3, 3), "{layout:?}: {words:?}");
            assert_eq!(
                count("install"),
                2 * count("lay"),
                "each takes its place, and lies beside it no more"
            );
            words.dedup();
            // None waits for another to be up: each may be up only when the others are.
            assert_eq!(words, ["lay", "stop", "install", "start", "up"], "{layout:?}");
            assert!(lab.files().keys().eq(before.keys()), "{layout:?}: a file more or less");
            assert_eq!(lab.left_behind(&ending.run), Vec::<String>::new());
        }
    });
}

#[test]
fn a_disk_that_is_full_is_found_while_every_member_still_runs() {
    virtual_time(async {
        let lab = Lab::of(1, &expired(Layout::Systemd)).await;
        let (before, up) = (lab.files(), running(&lab));
        // It was not full when the hosts were looked at.
        let full = FullAt("stage/change/m3 ", lab.world.machine("m3").unwrap());
        let ending = lab.run(&lab.workflow("etcd/renew-expired"), Arc::new(full)).await.unwrap();
        let text = ending.failure.as_ref().unwrap().to_string();
        assert!(text.contains("m3") && text.contains("No space left"), "{text}");
        assert_eq!(running(&lab), up, "a member was stopped");
        let is_old = |path: &String| lab.files()[path] == before[path];
        assert!(before.keys().all(is_old), "a file took its place");
        assert!(!told(&lab).contains(&"stop"));

        lab.world.machine("m3").unwrap().fault(Fault::Full, false);
        let ending = lab.open(Why::Resume).unwrap().resume().await;
        assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
        assert_eq!(lab.renewed(&before, |_| false), Vec::<String>::new());
        assert_eq!(laid(&lab), 0);
    });
}

/// Has a host hold something else than what was laid there, before a step whose key has this text.
struct SpoiltAt(&'static str, std::path::PathBuf);

impl Tripwire for SpoiltAt {
    fn stops(&self, _: u64, event: &Event, _: Moment) -> bool {
        if serde_json::to_value(event).unwrap().to_string().contains(self.0) {
            fs::write(&self.1, "not what was sent").unwrap();
        }
        false
    }
}

#[test]
fn a_host_that_holds_something_else_than_was_sent_is_found_while_every_member_still_runs() {
    virtual_time(async {
        let lab = Lab::of(1, &expired(Layout::Systemd)).await;
        let up = running(&lab);
        let path = lab.path("m2", &format!("etc/etcd/pki/server.pem{NEW}"));
        // The last of what is laid there.
        let spoilt = Arc::new(SpoiltAt("laid on m1", path));
        let ending = lab.run(&lab.workflow("etcd/renew-expired"), spoilt).await.unwrap();
        let text = ending.failure.as_ref().unwrap().to_string();
        assert!(text.contains("laid on m2") && text.contains("/etc/etcd/pki/server.pem"), "{text}");
        assert_eq!(running(&lab), up, "a member was stopped");
        assert!(!told(&lab).contains(&"stop"));
    });
}

#[test]
fn a_host_that_has_half_of_its_files_gets_the_rest_and_who_came_up_meanwhile_starts_afresh() {
    virtual_time(async {
        let lab = Lab::of(1, &expired(Layout::Systemd)).await;
        let before = lab.files();
        let workflow = lab.workflow("etcd/renew-expired");
        let ending = lab.run(&workflow, Arc::new(StopWhen("install m2"))).await.unwrap();
        assert_eq!(ending.state, EndState::Killed);
        assert!(running(&lab).is_empty(), "all are down before a file takes its place");
        // The process and m2 died amid m2's renames; then m2 was booted, and its member came up by itself.
        let machine = lab.world.machine("m2").unwrap();
        let place = |name: &str| lab.path("m2", &format!("etc/etcd/pki/{name}"));
        fs::rename(place(&format!("ca.pem{NEW}")), place("ca.pem")).unwrap();
        machine.unit("etcd").unwrap().start().await.unwrap();

        let ending = lab.open(Why::Resume).unwrap().resume().await;
        assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
        assert_eq!(lab.renewed(&before, |_| false), Vec::<String>::new());
        assert_eq!(lab.left_behind(&ending.run), Vec::<String>::new());
        assert_eq!(lab.ailing().await, Vec::<String>::new());
    });
}

#[test]
fn what_somebody_else_put_beside_a_file_is_named_and_not_installed() {
    virtual_time(async {
        let lab = Lab::of(1, &expired(Layout::Systemd)).await;
        let ending =
            lab.run(&lab.workflow("etcd/renew-expired"), Arc::new(StopWhen("install m2"))).await.unwrap();
        assert_eq!(ending.state, EndState::Killed);
        lab.copies("m2", "etc/etcd/pki/server.pem", &format!("etc/etcd/pki/server.pem{NEW}"));
        let before = lab.files();
        let ending = lab.open(Why::Resume).unwrap().resume().await;
        let text = ending.failure.unwrap().to_string();
        assert!(text.contains("m2:/etc/etcd/pki/server.pem.rollover-new"), "{text}");
        assert!(text.contains("what was laid there is gone, or is another"), "{text}");
        let on_m2 = |files: super::lab::Files| files.into_iter().filter(|(path, _)| path.starts_with("m2/"));
        assert!(on_m2(lab.files()).eq(on_m2(before)), "half of it was installed");
    });
}
