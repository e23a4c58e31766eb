//! Stopped dead before and after every record of the workflows of hosts: resume ends with everything new, rollback with
//! every file as it was; no acknowledged write is lost, and where the cluster was well before, never two members are down and
//! no handshake is refused at any moment.
//!
//! The bounded tier stops a rotation at a few records, chosen by a seed; `ROLLOVER_TEST_TIER=all` stops a rotation at every
//! record in each way, and each other workflow at every record once to go on and once to go back. `ROLLOVER_TEST_PART=2/5`
//! stops at the second of five parts of them, for a machine that is not left alone for so long.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use journal::{Moment, NoTripwire, Why};
use runner::events::EndState;
use sandbox::hosts::{Etcd, Layout};
use sandbox::world::Expired;

use super::lab::Lab;
use crate::lab::{StopAt, virtual_time};

/// A workflow upon a cluster.
struct Case {
    workflow: &'static str,
    etcd: fn() -> Etcd,
    /// Which files are not replaced.
    kept: fn(&str) -> bool,
    /// Whether there is a way back.
    back: bool,
    /// What each record of a run that nothing interrupts is about.
    whole: OnceLock<Vec<String>>,
}

impl Case {
    const fn new(workflow: &'static str, etcd: fn() -> Etcd, kept: fn(&str) -> bool, back: bool) -> Self {
        Self { workflow, etcd, kept, back, whole: OnceLock::new() }
    }
}

/// CAs of Kubernetes keep their keys.
pub(super) fn keys_of_cas(path: &str) -> bool {
    path.ends_with("pki/ca.key") || path.ends_with("/front-proxy-ca.key")
}

fn cas(path: &str) -> bool {
    path.ends_with("/ca.pem")
}

/// What of the API servers has nothing to do with etcd.
pub(super) fn of_kubernetes_alone(path: &str) -> bool {
    let (_, path) = path.split_once("/etc/kubernetes/pki/").unwrap();
    !path.starts_with("etcd/") && !path.starts_with("apiserver-etcd-client.")
}

fn none(_: &str) -> bool {
    false
}

fn usual() -> Etcd {
    Etcd::default()
}

fn expired() -> Etcd {
    Etcd { expired: Expired::Everything, ..usual() }
}

fn ack() -> Etcd {
    Etcd { layout: Layout::Ack, ..usual() }
}

static ROTATE: Case = Case::new("etcd/rotate-ca", usual, none, true);
static FIVE: Case = Case::new("etcd/rotate-ca", || Etcd { members: 5, ..usual() }, none, true);
static PEERS_APART: Case = Case::new("etcd/rotate-ca", || Etcd { peer_ca: true, ..usual() }, none, true);
static LEAVES: Case = Case::new("etcd/renew-leaves", usual, cas, true);
static EXPIRED: Case = Case::new("etcd/renew-expired", expired, none, false);
static EXPIRED_LEAVES: Case =
    Case::new("etcd/renew-expired", || Etcd { expired: Expired::Leaves, ..usual() }, cas, false);
static ACK: Case = Case::new("ack/etcd-renew", ack, keys_of_cas, true);
static ACK_EXPIRED: Case = Case::new(
    "ack/etcd-renew-expired",
    || Etcd { expired: Expired::Everything, ..ack() },
    keys_of_cas,
    false,
);
static ACK_BROKEN: Case =
    Case::new("ack/etcd-rollback", || Etcd { broken: true, ..ack() }, keys_of_cas, false);

static KUBEADM: Case =
    Case::new("etcd/rotate-ca", || Etcd { layout: Layout::Kubeadm, ..usual() }, of_kubernetes_alone, true);
static RKE: Case = Case::new("etcd/rotate-ca", || Etcd { layout: Layout::Rke, ..usual() }, none, true);

/// A run that nothing interrupts, once.
fn whole(case: &'static Case) -> &'static Vec<String> {
    case.whole.get_or_init(|| {
        virtual_time(async {
            let lab = Lab::of(1, &(case.etcd)()).await;
            let before = lab.files();
            let ending = lab.run(&lab.workflow(case.workflow), Arc::new(NoTripwire)).await.unwrap();
            assert_eq!(ending.state, EndState::Done, "{}: {:?}", case.workflow, ending.failure);
            assert_eq!(lab.renewed(&before, case.kept), Vec::<String>::new(), "{}", case.workflow);
            assert_eq!(lab.left_behind(&ending.run), Vec::<String>::new(), "{}", case.workflow);
            assert_eq!(lab.ailing().await, Vec::<String>::new(), "{}", case.workflow);
            let id = lab.store().list().unwrap().pop().unwrap();
            let records = lab.store().load(&id).unwrap().records;
            records.iter().map(|record| serde_json::to_value(&record.event).unwrap().to_string()).collect()
        })
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Resume,
    Rollback,
}

/// One way to stop, and what is done afterwards.
#[derive(Clone, Copy, Debug)]
struct Way {
    number: u64,
    moment: Moment,
    then: Then,
}

/// One life and death, and what comes after.
fn once(case: &'static Case, seq: u64, way: Way) {
    let Way { number, moment, then } = way;
    let name = case.workflow;
    let about: String = whole(case)[usize::try_from(seq).unwrap() - 1].chars().take(160).collect();
    let context = format!("{name} stopped {moment:?} of record {seq} ({about}), then {then:?}");
    virtual_time(async {
        let lab = Lab::torn(seq + 1000 * number, &(case.etcd)()).await;
        let before = lab.files();
        let first = lab.run(&lab.workflow(name), Arc::new(StopAt(seq, moment))).await;
        let killed = match &first {
            Ok(ending) => ending.state == EndState::Killed,
            // Stopped within the first records: the run never came to be.
            Err(_) => true,
        };
        assert!(killed, "{context}: {first:?}");
        // A killed process leaves what it wrote; a dead machine forgets what was not synced.
        if moment == Moment::AfterWrite && seq.is_multiple_of(2) {
            lab.disk.kill()
        } else {
            lab.disk.crash()
        }
        // Back at once, a little later, or after every timer on the hosts has fired.
        let away = [0, 45, 400][usize::try_from(seq / 3 + number).unwrap() % 3];
        tokio::time::sleep(Duration::from_secs(away)).await;
        let why = if then == Then::Resume { Why::Resume } else { Why::Rollback };
        let Ok(run) = lab.open(why) else {
            assert!(seq <= 2, "{context}: a run that began can be opened again");
            assert_eq!(lab.files(), before, "{context}");
            if case.back {
                assert_eq!(lab.ailing().await, Vec::<String>::new(), "{context}");
            }
            return;
        };
        let id = run.id().to_owned();
        let ending = if then == Then::Resume { run.resume().await } else { run.back("test").await };
        let wanted = if then == Then::Resume { EndState::Done } else { EndState::RolledBack };
        assert_eq!(ending.state, wanted, "{context}: {:?}", ending.failure);
        match then {
            Then::Resume => {
                assert_eq!(lab.renewed(&before, case.kept), Vec::<String>::new(), "{context}");
            }
            Then::Rollback => assert!(lab.files() == before, "{context}: a file is not as it was"),
        }
        assert_eq!(lab.left_behind(&id), Vec::<String>::new(), "{context}");
        assert_eq!(lab.ailing().await, Vec::<String>::new(), "{context}");
        let folder = lab.store().dir(&lab.store().find(&id).unwrap());
        let audit = journal::verify(&*lab.disk, &folder, &[], None).unwrap();
        assert!(audit.integrity.holds && audit.completeness.holds, "{context}: {audit:?}");
    });
}

fn next_of<'a, T>(next: &AtomicUsize, all: &'a [T]) -> Option<(usize, &'a T)> {
    let nth = next.fetch_add(1, Ordering::Relaxed);
    all.get(nth).map(|one| (nth, one))
}

/// Stops at these records in these ways, on both cores.
fn all(case: &'static Case, stops: &[(u64, Way)]) {
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((nth, (seq, way))) = next_of(&next, stops) {
                    if nth % 100 == 99 {
                        eprintln!("{}: {} of {} stops", case.workflow, nth + 1, stops.len());
                    }
                    // All are tried, so that one run of the long tier names every record that is not well.
                    if std::panic::catch_unwind(|| once(case, *seq, *way)).is_err() {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    println!("{}: {} stops in a run of {} records", case.workflow, stops.len(), whole(case).len());
    assert_eq!(failed.into_inner(), 0, "see above");
}

const WAYS: [(Moment, Then); 5] = [
    (Moment::BeforeWrite, Then::Resume),
    (Moment::AfterWrite, Then::Resume),
    (Moment::AfterSync, Then::Resume),
    (Moment::BeforeWrite, Then::Rollback),
    (Moment::AfterSync, Then::Rollback),
];

fn way(number: u64) -> Way {
    let (moment, then) = WAYS[usize::try_from(number).unwrap()];
    Way { number, moment, then }
}

fn last(case: &'static Case) -> u64 {
    u64::try_from(whole(case).len()).unwrap()
}

#[test]
fn stopped_at_some_records_a_rotation_of_etcd_is_resumed_or_taken_back() {
    // Spread over the run, two in the first way and one in each other.
    let last = last(&ROTATE);
    let stops: Vec<_> = (0..6).map(|n: u64| (4 + (n * 29 + 7) % (last - 4), way(n % 5))).collect();
    all(&ROTATE, &stops);
}

#[test]
fn clusters_of_other_sizes_ages_and_layouts_are_renewed_too() {
    // What the others begin with is in `sandbox.rs`, where the program itself runs them.
    let cases = [&FIVE, &PEERS_APART, &LEAVES, &EXPIRED_LEAVES, &KUBEADM, &RKE];
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((_, case)) = next_of(&next, &cases) {
                    whole(case);
                }
            });
        }
    });
}

/// The stops of the part that is asked for; all where none is.
fn part(stops: impl Iterator<Item = (u64, Way)>) -> Vec<(u64, Way)> {
    let Ok(asked) = std::env::var("ROLLOVER_TEST_PART") else { return stops.collect() };
    let numbers = asked.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
    let (part, parts): (usize, usize) =
        numbers.expect("ROLLOVER_TEST_PART is a part and how many there are: 2/5");
    assert!((1..=parts).contains(&part), "ROLLOVER_TEST_PART={asked} is no part");
    stops.skip(part - 1).step_by(parts).collect()
}

/// Every record in one way.
fn every(case: &'static Case, number: u64) {
    if super::rotation::all_tier() {
        all(case, &part((1..=last(case)).map(|seq| (seq, way(number)))));
    }
}

/// Every record, once to go on and once to go back where there is a way back; the moments take turns.
fn each(case: &'static Case) {
    if super::rotation::all_tier() {
        let ways = |seq: u64| [Some(way(seq % 3)), case.back.then(|| way(3 + seq / 3 % 2))];
        let stops =
            (1..=last(case)).flat_map(|seq| ways(seq).into_iter().flatten().map(move |way| (seq, way)));
        all(case, &part(stops));
    }
}

#[test]
fn stopped_before_any_record_a_rotation_of_etcd_can_be_resumed() {
    every(&ROTATE, 0);
}

#[test]
fn stopped_with_any_record_written_but_not_synced_a_rotation_of_etcd_can_be_resumed() {
    every(&ROTATE, 1);
}

#[test]
fn stopped_after_any_record_a_rotation_of_etcd_can_be_resumed() {
    every(&ROTATE, 2);
}

#[test]
fn stopped_before_any_record_a_rotation_of_etcd_can_be_taken_back() {
    every(&ROTATE, 3);
}

#[test]
fn stopped_after_any_record_a_rotation_of_etcd_can_be_taken_back() {
    every(&ROTATE, 4);
}

#[test]
fn stopped_at_any_record_a_renewal_of_leaves_goes_on_or_back() {
    each(&LEAVES);
}

#[test]
fn stopped_at_any_record_an_expired_cluster_is_brought_on() {
    each(&EXPIRED);
}

#[test]
fn stopped_at_any_record_a_renewal_of_masters_goes_on_or_back() {
    each(&ACK);
}

#[test]
fn stopped_at_any_record_expired_masters_are_brought_on() {
    each(&ACK_EXPIRED);
}

#[test]
fn stopped_at_any_record_broken_masters_are_brought_on() {
    each(&ACK_BROKEN);
}

#[test]
fn stopped_at_any_record_a_rotation_of_static_pods_goes_on_or_back() {
    each(&KUBEADM);
}

#[test]
fn stopped_at_any_record_a_rotation_of_containers_goes_on_or_back() {
    each(&RKE);
}
