//! The program itself is killed with SIGKILL at records all over a rotation of real objects. Resumed, it ends as one that
//! nothing stopped, object by object; taken back from the end of each phase, everything is as it was.
//!
//! `ROLLOVER_KILLS` is at how many records, 20 where it is not said. Whoever goes on is killed too, so that each run dies five
//! times.

use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sandbox::world::kube::Kube;
use sandbox::world::{EndState, Expired, Fault, IssuedBy, Scenario};
use tests::kills::Town;
use tests::operator_v2 as v2;
use tests::program::Program;
use tests::state::{Markers, State, difference};

use crate::bench::Bench;
use crate::found::{Before, leaves_the_rest};

const PATIENCE: Duration = Duration::from_secs(300);
/// How often a run dies, and whoever goes on with it.
const DEATHS: u64 = 5;
/// The word by which an outage is accepted.
const OUTAGE: &str = "--accept-outage";

/// What a run that nothing stops has written, and the phases that it ended.
struct Whole {
    records: u64,
    phases: Vec<String>,
}

impl Whole {
    fn of(town: &Town, run: &str) -> Self {
        Self { records: town.records(run), phases: town.ended(run) }
    }
}

/// A town on a real server. Its world goes on while the test waits for the program.
struct Place {
    town: Town,
    bench: Arc<Bench>,
    world: tokio::runtime::Runtime,
}

impl Place {
    /// Such a beginning, and a workflow with these words of its own.
    fn of(seed: u64, scenario: Scenario, workflow: &'static str, words: &[&str]) -> Self {
        let world = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let issued = scenario.issued_by == IssuedBy::CertManager;
        let bench = Arc::new(world.block_on(Bench::of(seed, scenario.clone())));
        // A rotation does not begin while a process is down, and these begin often.
        bench.world.set_fault(Fault::NoRestarts);
        let kubeconfig = bench.plane.admin_kubeconfig();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let kube = Kube::new(runtime.block_on(tests::control_plane::client(&kubeconfig)).unwrap());
        let reach = vec!["--kubeconfig".to_owned(), kubeconfig.display().to_string()];
        let sql = workflow == v2::SQL;
        let pki = if sql { bench.dir.path().join("sql-pki") } else { bench.pki("") };
        let (mut begins, mut goes_on) = (reach.clone(), reach);
        if !issued {
            let name = if sql { "sql_pki" } else { "pki" };
            begins.extend(["--set".to_owned(), format!("{name}={}", pki.display())]);
        }
        if sql {
            begins.extend(["--set", "login_secret=basic-tidb-root"].map(str::to_owned));
        }
        begins.extend(words.iter().map(|word| (*word).to_owned()));
        // To go back is an outage as well, and its own to accept.
        goes_on.extend(words.iter().filter(|word| **word == OUTAGE).map(|word| (*word).to_owned()));
        let counted = Arc::clone(&bench);
        let town = Town {
            program: Program::new(),
            workflow,
            scenario,
            begins,
            goes_on,
            pki,
            kube,
            runtime,
            counters: Box::new(move || serde_json::to_value(counted.world.counters()).unwrap()),
            dice: seed,
            kills: 0,
        };
        Self { town, bench, world }
    }

    /// Who serves what, as soon as everybody who is restarting is back.
    fn end(&self) -> EndState {
        let begun = Instant::now();
        loop {
            let end = self.world.block_on(async {
                self.bench.world.steady(PATIENCE).await.unwrap();
                self.bench.world.end_state().await
            });
            if end.holds() {
                return end;
            }
            assert!(begun.elapsed() < PATIENCE, "{:?}", end.broken);
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Runs another workflow of the same folder to its end.
    fn runs(&mut self, workflow: &'static str) {
        let ours = std::mem::replace(&mut self.town.workflow, workflow);
        assert!(self.town.begins().0.wait().unwrap().success(), "{workflow}");
        self.town.workflow = ours;
    }

    /// Begins a run and kills it, and who goes on with it, in every so many parts of the whole, from this part on. Returns
    /// the run and where it died.
    fn killed_often(&mut self, first: u64, kills: u64, whole: &Whole) -> (String, Vec<u64>) {
        let every = kills.div_ceil(DEATHS);
        // One in each part of the record, anywhere in it. What comes after the last phase is too short to be hit.
        let width = (whole.records - 4) / kills;
        let (child, run) = self.town.begins();
        let at = 1 + first * width + self.town.throw(width);
        assert!(self.dies(child, &run, at, whole), "it ended before record {at}");
        let mut died = vec![at];
        for part in (first + every..kills).step_by(usize::try_from(every).unwrap()) {
            // Going on writes records of its own.
            let own = u64::try_from(died.len()).unwrap();
            let at = (1 + part * width + self.town.throw(width) + own).max(self.town.records(&run) + 1);
            let child = self.town.resumes(&run);
            assert!(self.dies(child, &run, at, whole), "it ended before record {at}; died at {died:?}");
            died.push(at);
        }
        (run, died)
    }

    /// Kills a run at a record, or when its last phase has ended: one that was killed may have less to write than the one
    /// by which the records were counted.
    fn dies(&mut self, child: Child, run: &str, at: u64, whole: &Whole) -> bool {
        let (name, last) = (run.to_owned(), whole.phases.last().cloned().unwrap_or_default());
        self.town
            .kill_when(child, run, move |town| town.records(&name) >= at || town.ended(&name).contains(&last))
    }

    /// Begins a run and kills it as soon as a phase of it has ended.
    fn killed_after(&mut self, phase: &str) -> String {
        let (child, run) = self.town.begins();
        // The last phase's end is soon followed by the run's; either way is one from there.
        let (ended, phase) = (run.clone(), phase.to_owned());
        self.town.kill_when(child, &run, move |town| town.ended(&ended).contains(&phase));
        run
    }

    /// What is there, told by what comes after it.
    fn before(&self) -> Before {
        let town = &self.town;
        town.runtime.block_on(Before::of(&town.kube, &town.scenario, &town.pki))
    }

    /// Waits until each component presents what its Secret holds, as soon as the kubelet has brought it there, and until
    /// cert-manager has nothing under way.
    fn settles(&self, before: &Before) -> EndState {
        self.town.runtime.block_on(before.rests(&self.town.kube, PATIENCE));
        let begun = Instant::now();
        loop {
            let (end, secrets) = (self.end(), self.town.secrets());
            let held = |component: &str, chain: &[String]| {
                let file = format!("{}/tls.crt", self.town.scenario.secret_name(component));
                let Some(pem) = secrets.get(&file) else { return true };
                let leaf = stdlib::cert::parse_many(pem, &file).unwrap().remove(0).fingerprint();
                chain.first().is_some_and(|print| leaf.ends_with(print.as_str()))
            };
            if end.pods.values().all(|served| held(&served.component, &served.chain)) {
                return end;
            }
            assert!(begun.elapsed() < PATIENCE, "{:?} is not what the Secrets hold", end.pods);
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// What is to be the same after every run that ends alike: everything, object by object.
    fn found(&self, run: &str, before: &Before, markers: Markers) -> State {
        let end = self.settles(before);
        self.told(&end, run, before, markers)
    }

    fn told(&self, end: &EndState, run: &str, before: &Before, markers: Markers) -> State {
        self.town.runtime.block_on(before.state(&self.town.kube, end, run, markers))
    }

    /// Everything is as it was, and nobody was refused on the way unless that was accepted.
    fn is_as_before(&self, before: &Before) {
        if self.town.scenario.issued_by == IssuedBy::Cfssl {
            let folder = before.files.iter().map(|(path, bytes)| (path.display().to_string(), bytes.clone()));
            self.town.is_as_before(&before.secrets, &folder.collect());
        } else if !self.town.goes_on.iter().any(|word| word == OUTAGE) {
            self.town.nobody_was_refused();
        }
    }
}

fn kills() -> u64 {
    std::env::var("ROLLOVER_KILLS").map_or(20, |kills| kills.parse().unwrap())
}

/// A run, or one begun after these others: killed all over it goes on to the same end each time; from there, and from the end
/// of each phase, it goes back to where it began.
fn forth_and_back(mut place: Place, after: &[&'static str]) {
    let (kills, workflow) = (kills(), place.town.workflow);
    for earlier in after {
        place.runs(earlier);
    }
    let before = place.before();
    let was = place.found("", &before, Markers::Dropped);
    let (mut child, run) = place.town.begins();
    assert!(child.wait().unwrap().success(), "a run that nothing stops");
    let whole = Whole::of(&place.town, &run);
    let end = place.found(&run, &before, Markers::Kept);
    assert!(!difference(&was, &end).is_empty(), "{workflow} changes something");
    leaves_the_rest(&was, &place.found(&run, &before, Markers::Dropped), workflow);
    let back = |place: &mut Place, run: &str, from: &str| {
        place.town.goes_on("rollback", run, None, &["rolled back"]);
        place.is_as_before(&before);
        let found = difference(&was, &place.found(run, &before, Markers::Dropped));
        assert!(found.is_empty(), "{workflow}, taken back from {from}, is otherwise: {found:#?}");
    };
    back(&mut place, &run, "its end");
    for first in 0..kills.div_ceil(DEATHS) {
        let (run, died) = place.killed_often(first, kills, &whole);
        place.town.goes_on("resume", &run, None, &["done"]);
        let found = difference(&end, &place.found(&run, &before, Markers::Kept));
        let records = whole.records;
        assert!(found.is_empty(), "{workflow}, killed at {died:?} of {records}, ends otherwise: {found:#?}");
        back(&mut place, &run, &format!("its end, after kills at {died:?}"));
    }
    assert!(place.town.kills as u64 >= kills);
    for phase in &whole.phases {
        let run = place.killed_after(phase);
        back(&mut place, &run, &format!("the end of {phase}"));
    }
}

const REMOVE: [&str; 2] = ["--set", "remove_old_ca=true"];
const V2: [&str; 2] = ["--set", "operator=v2"];

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn killed_all_over_a_rotation_goes_on_and_back() {
    forth_and_back(Place::of(42, Scenario::default(), "tidb/cfssl-rotate", &REMOVE), &[]);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn killed_all_over_a_rotation_under_operator_v2_goes_on_and_back() {
    let words = [V2, REMOVE].concat();
    forth_and_back(Place::of(50, v2::scenario(), "tidb/cfssl-rotate", &words), &[]);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn killed_all_over_a_new_ca_goes_on_and_back() {
    forth_and_back(Place::of(43, Scenario::default(), "tidb/cfssl-ca", &[]), &[]);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn killed_all_over_new_certificates_go_on_and_back() {
    forth_and_back(Place::of(44, Scenario::default(), "tidb/cfssl-components", &[]), &[]);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn killed_all_over_the_removal_of_the_old_ca_goes_on_and_back() {
    let place = Place::of(45, Scenario::default(), "tidb/cfssl-remove-old-ca", &[]);
    forth_and_back(place, &["tidb/cfssl-ca", "tidb/cfssl-components"]);
}

/// A cluster whose certificates cert-manager keeps.
fn issued() -> Scenario {
    Scenario { issued_by: IssuedBy::CertManager, ..Scenario::default() }
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn killed_all_over_the_leaves_that_cert_manager_keeps_go_on_and_back() {
    forth_and_back(Place::of(46, issued(), "tidb/cert-manager-components", &[]), &[]);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn killed_all_over_a_ca_of_cert_manager_without_a_gap_goes_on_and_back() {
    forth_and_back(Place::of(47, issued(), "tidb/cert-manager-ca-gapless", &[]), &[]);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn killed_all_over_the_documented_way_to_a_ca_of_cert_manager_goes_on_and_back() {
    forth_and_back(Place::of(48, issued(), "tidb/cert-manager-ca", &[OUTAGE]), &[]);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn killed_all_over_the_leaves_that_cert_manager_keeps_under_operator_v2_go_on_and_back() {
    forth_and_back(Place::of(51, v2::with_cert_manager(), "tidb/cert-manager-components", &V2), &[]);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn killed_all_over_a_ca_of_cert_manager_under_operator_v2_goes_on_and_back() {
    forth_and_back(Place::of(52, v2::with_cert_manager(), "tidb/cert-manager-ca-gapless", &V2), &[]);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn killed_all_over_the_documented_way_to_a_ca_under_operator_v2_goes_on_and_back() {
    let words = [&V2[..], &[OUTAGE]].concat();
    forth_and_back(Place::of(53, v2::with_cert_manager(), "tidb/cert-manager-ca", &words), &[]);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn killed_all_over_the_mysql_side_goes_on_and_back() {
    let scenario = Scenario { sql_tls: true, ..Scenario::default() };
    forth_and_back(Place::of(54, scenario, v2::SQL, &REMOVE), &[]);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn killed_all_over_the_mysql_side_under_operator_v2_goes_on_and_back() {
    forth_and_back(Place::of(55, v2::with_sql(), v2::SQL, &[V2, REMOVE].concat()), &[]);
}

/// What brings an expired cluster back only goes forward, so each run has a cluster of its own.
fn forth(new: impl Fn() -> Place) {
    let kills = kills();
    let place = new();
    let before = place.before();
    // Nothing holds yet.
    let now = place.world.block_on(place.bench.world.end_state());
    let was = place.told(&now, "", &before, Markers::Dropped);
    let (mut child, run) = place.town.begins();
    assert!(child.wait().unwrap().success(), "a run that nothing stops");
    let whole = Whole::of(&place.town, &run);
    place.town.serves_its_secrets();
    let end = place.found(&run, &before, Markers::Kept);
    leaves_the_rest(&was, &place.found(&run, &before, Markers::Dropped), place.town.workflow);
    drop(place);
    for first in 0..kills.div_ceil(DEATHS) {
        let mut place = new();
        let before = place.before();
        let (run, died) = place.killed_often(first, kills, &whole);
        place.town.goes_on("resume", &run, None, &["done"]);
        place.town.serves_its_secrets();
        let found = difference(&end, &place.found(&run, &before, Markers::Kept));
        let records = whole.records;
        assert!(found.is_empty(), "killed at {died:?} of {records}, it ends otherwise: {found:#?}");
    }
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn killed_all_over_what_brings_an_expired_cluster_back_goes_on() {
    let scenario = Scenario { expired: Expired::Everything, ..Scenario::default() };
    forth(|| Place::of(49, scenario.clone(), v2::EXPIRED, &[OUTAGE]));
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn killed_all_over_what_brings_an_expired_cluster_of_operator_v2_back_goes_on() {
    forth(|| Place::of(56, v2::expired(), v2::EXPIRED, &[&V2[..], &[OUTAGE]].concat()));
}
