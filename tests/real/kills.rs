//! The program itself is killed with SIGKILL at records all over a rotation of real objects. Resumed, it ends as one that
//! nothing stopped, object by object; taken back from the end of each phase, everything is as it was.
//!
//! `ROLLOVER_KILLS` is at how many records, 20 where it is not said. Whoever goes on is killed too, so that each run dies five
//! times; a rotation as a whole is also killed once a run.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sandbox::world::kube::Kube;
use sandbox::world::{EndState, Expired, Fault, IssuedBy, RotationPolicy, Scenario};
use stdlib::files::SystemDisk;
use tests::kills::Town;
use tests::program::Program;
use tests::state::{Files, Look, Markers, Names, State, difference, renamed};

use crate::bench::Bench;
use crate::rotate::served;

const PATIENCE: Duration = Duration::from_secs(300);
/// How often a run dies, and whoever goes on with it.
const DEATHS: u64 = 5;

/// A town on a real server. Its world goes on while the test waits for the program.
struct Place {
    town: Town,
    bench: Arc<Bench>,
    world: tokio::runtime::Runtime,
}

impl Place {
    fn new(seed: u64) -> Self {
        Self::of(seed, Scenario::default(), "tidb/cfssl-rotate", &["--set", "remove_old_ca=true"])
    }

    /// Another beginning, and another workflow with these words of its own.
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
        let mut begins = reach.clone();
        if !issued {
            begins.extend(["--set".to_owned(), format!("pki={}", bench.pki("").display())]);
        }
        begins.extend(words.iter().map(|word| (*word).to_owned()));
        let counted = Arc::clone(&bench);
        let town = Town {
            program: Program::new(),
            workflow,
            scenario,
            begins,
            goes_on: reach,
            pki: bench.pki(""),
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

    fn files(&self) -> Files {
        self.town.folder().into_iter().map(|(path, bytes)| (PathBuf::from(path), bytes)).collect()
    }

    /// What is there, told by what was there before: files that lay there already and are the same are left out.
    fn state(&self, run: &str, before: &Before, markers: Markers) -> State {
        let (end, mut files) = (self.end(), self.files());
        files.retain(|path, bytes| before.files.get(path) != Some(bytes));
        let look = Look {
            kube: &self.town.kube,
            namespace: "tidb",
            operator: self.town.scenario.operator,
            end: &end,
            run,
            markers,
            disk: &SystemDisk,
            folder: &self.town.pki,
            files,
        };
        let names = Names::before(before.secrets.values().chain(before.files.values()).cloned());
        let state = self.town.runtime.block_on(look.state(names));
        // The old CA's folder is named after the old CA.
        let ca = &before.files[&self.town.pki.join("ca.pem")];
        let ca = stdlib::cert::parse_many(ca, "ca.pem").unwrap().remove(0).fingerprint();
        let retired = ca.trim_start_matches("sha256:").get(..16).unwrap().to_owned();
        let revision = revision(&state);
        renamed(&state, &[(&retired, "OLD"), (&revision, "\"deployment.kubernetes.io/revision\":\"N\"")])
    }

    /// Runs another workflow of the same folder to its end.
    fn runs(&mut self, workflow: &'static str) {
        let ours = std::mem::replace(&mut self.town.workflow, workflow);
        assert!(self.town.begins().0.wait().unwrap().success(), "{workflow}");
        self.town.workflow = ours;
    }

    /// Begins a run and kills it at a record in this part of the whole.
    fn killed(&mut self, kill: u64, kills: u64, records: u64) -> (String, u64) {
        let (child, run) = self.town.begins();
        // One in each part of the record, anywhere in it. What comes after the last phase is too short to be hit.
        let width = (records - 4) / kills;
        let at = 1 + kill * width + self.town.throw(width);
        assert!(self.town.kill_at(child, &run, at), "it ended before record {at} of {records}");
        (run, at)
    }

    /// Begins a run and kills it, and who goes on with it, in every so many parts of the whole, from this part on. Returns
    /// the run and where it died.
    fn killed_often(&mut self, first: u64, kills: u64, records: u64) -> (String, Vec<u64>) {
        let every = kills.div_ceil(DEATHS);
        let (run, at) = self.killed(first, kills, records);
        let mut died = vec![at];
        let width = (records - 4) / kills;
        for part in (first + every..kills).step_by(usize::try_from(every).unwrap()) {
            // Going on writes records of its own.
            let own = u64::try_from(died.len()).unwrap();
            let at = (1 + part * width + self.town.throw(width) + own).max(self.town.records(&run) + 1);
            assert!(
                self.town.goes_on_and_is_killed(&run, at),
                "it ended before record {at}; died at {died:?}"
            );
            died.push(at);
        }
        (run, died)
    }

    /// Begins a run and kills it as soon as a phase of it has ended.
    fn killed_after(&mut self, phase: &str) -> String {
        let (child, run) = self.town.begins();
        // The last phase's end is soon followed by the run's; either way is one from there.
        let (ended, phase) = (run.clone(), phase.to_owned());
        self.town.kill_when(child, &run, move |town| town.ended(&ended).contains(&phase));
        run
    }

    fn before(&self) -> Before {
        Before { secrets: self.town.secrets(), files: self.files() }
    }
}

/// How often the client was rolled out so far: the server counts.
fn revision(state: &State) -> String {
    let key = "deployment.kubernetes.io/revision";
    let count = &state["Deployment basic-client"]["annotations"][key];
    format!("\"{key}\":{count}")
}

/// What was there before a run.
struct Before {
    secrets: tests::kills::Files,
    files: Files,
}

fn kills() -> u64 {
    std::env::var("ROLLOVER_KILLS").map_or(20, |kills| kills.parse().unwrap())
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn killed_at_records_all_over_a_rotation_goes_on_to_the_same_end() {
    let kills = kills();
    let mut place = Place::new(41);
    let before = place.before();
    let (mut child, run) = place.town.begins();
    assert!(child.wait().unwrap().success(), "a rotation that nothing stops");
    let records = place.town.records(&run);
    let whole = place.state(&run, &before, Markers::Kept);

    for kill in 0..kills {
        let before = place.before();
        let old = before.files[&place.town.pki.join("ca.pem")].clone();
        let (run, at) = place.killed(kill, kills, records);
        place.town.goes_on("resume", &run, None, &["done"]);
        place.town.is_rotated(&old);
        let found = difference(&whole, &place.state(&run, &before, Markers::Kept));
        assert!(found.is_empty(), "killed at record {at} of {records} it ends otherwise: {found:#?}");
    }
    assert_eq!(place.town.kills as u64, kills);
}

/// A rotation or a part of one, begun after these others: killed all over it goes on to the same end each time; from there,
/// and from the end of each phase, it goes back to where it began.
fn forth_and_back(seed: u64, workflow: &'static str, words: &[&str], after: &[&'static str]) {
    forth_and_back_in(Scenario::default(), seed, workflow, words, after);
}

/// The same in a cluster of this kind.
fn forth_and_back_in(
    scenario: Scenario,
    seed: u64,
    workflow: &'static str,
    words: &[&str],
    after: &[&'static str],
) {
    let kills = kills();
    let mut place = Place::of(seed, scenario, workflow, words);
    for earlier in after {
        place.runs(earlier);
    }
    let (secrets, folder) = (place.town.secrets(), place.town.folder());
    let before = place.before();
    let was = place.state("", &before, Markers::Dropped);
    let (mut child, run) = place.town.begins();
    assert!(child.wait().unwrap().success(), "a run that nothing stops");
    let (records, phases) = (place.town.records(&run), place.town.ended(&run));
    let whole = place.state(&run, &before, Markers::Kept);
    let back = |place: &mut Place, run: &str, from: &str| {
        place.town.goes_on("rollback", run, None, &["rolled back"]);
        place.town.is_as_before(&secrets, &folder);
        let found = difference(&was, &place.state(run, &before, Markers::Dropped));
        assert!(found.is_empty(), "{workflow}, taken back from {from}, is otherwise: {found:#?}");
    };
    back(&mut place, &run, "its end");
    for first in 0..kills.div_ceil(DEATHS) {
        let (run, died) = place.killed_often(first, kills, records);
        place.town.goes_on("resume", &run, None, &["done"]);
        let found = difference(&whole, &place.state(&run, &before, Markers::Kept));
        assert!(found.is_empty(), "{workflow}, killed at {died:?} of {records}, ends otherwise: {found:#?}");
        back(&mut place, &run, &format!("its end, after kills at {died:?}"));
    }
    assert!(place.town.kills as u64 >= kills);
    for phase in phases {
        let run = place.killed_after(&phase);
        back(&mut place, &run, &format!("the end of {phase}"));
    }
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn killed_all_over_a_rotation_goes_on_and_back() {
    forth_and_back(42, "tidb/cfssl-rotate", &["--set", "remove_old_ca=true"], &[]);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn killed_all_over_a_rotation_under_operator_v2_goes_on_and_back() {
    let words = ["--set", "operator=v2", "--set", "remove_old_ca=true"];
    forth_and_back_in(tests::operator_v2::scenario(), 50, "tidb/cfssl-rotate", &words, &[]);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn killed_all_over_a_new_ca_goes_on_and_back() {
    forth_and_back(43, "tidb/cfssl-ca", &[], &[]);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn killed_all_over_new_certificates_go_on_and_back() {
    forth_and_back(44, "tidb/cfssl-components", &[], &[]);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn killed_all_over_the_removal_of_the_old_ca_goes_on_and_back() {
    forth_and_back(45, "tidb/cfssl-remove-old-ca", &[], &["tidb/cfssl-ca", "tidb/cfssl-components"]);
}

/// What cert-manager keeps: killed all over, it ends with other certificates that everybody accepts, and goes back to those
/// that were there, byte for byte.
fn kept_by_cert_manager(seed: u64, workflow: &'static str, policy: RotationPolicy) {
    let kills = kills();
    let scenario =
        Scenario { issued_by: IssuedBy::CertManager, rotation_policy: policy, ..Scenario::default() };
    let mut place = Place::of(seed, scenario, workflow, &["--accept-outage"]);
    // To go back is an outage as well, and its own to accept.
    place.town.goes_on.push("--accept-outage".into());
    let at_first = served(&place.end());
    let secrets = place.town.secrets();
    let back = |place: &mut Place, run: &str, from: &str| {
        place.town.goes_on("rollback", run, None, &["rolled back"]);
        assert_eq!(served(&place.end()), at_first, "{workflow}, taken back from {from}");
        assert!(place.town.secrets() == secrets, "{workflow}, taken back from {from}: other Secrets");
    };
    let (mut child, run) = place.town.begins();
    assert!(child.wait().unwrap().success(), "a run that nothing stops");
    let (records, phases) = (place.town.records(&run), place.town.ended(&run));
    back(&mut place, &run, "its end");
    for first in 0..kills.div_ceil(DEATHS) {
        let (run, died) = place.killed_often(first, kills, records);
        place.town.goes_on("resume", &run, None, &["done"]);
        let now = served(&place.end());
        assert!(now.iter().all(|(component, chain)| at_first[component] != *chain), "{workflow}: {died:?}");
        back(&mut place, &run, &format!("its end, after kills at {died:?} of {records}"));
    }
    assert!(place.town.kills as u64 >= kills);
    for phase in phases {
        let run = place.killed_after(&phase);
        back(&mut place, &run, &format!("the end of {phase}"));
    }
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn killed_all_over_the_leaves_that_cert_manager_keeps_go_on_and_back() {
    kept_by_cert_manager(46, "tidb/cert-manager-components", RotationPolicy::Always);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn killed_all_over_a_ca_of_cert_manager_without_a_gap_goes_on_and_back() {
    kept_by_cert_manager(47, "tidb/cert-manager-ca-gapless", RotationPolicy::Always);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn killed_all_over_the_documented_way_to_a_ca_of_cert_manager_goes_on_and_back() {
    kept_by_cert_manager(48, "tidb/cert-manager-ca", RotationPolicy::Always);
}

/// It only goes forward, so each run has a cluster of its own.
#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn killed_all_over_what_brings_an_expired_cluster_back_goes_on() {
    let kills = kills();
    let expired = || Scenario { expired: Expired::Everything, ..Scenario::default() };
    let new = || Place::of(49, expired(), "tidb/cfssl-expired", &["--accept-outage"]);
    let whole = new();
    let (mut child, run) = whole.town.begins();
    assert!(child.wait().unwrap().success(), "a run that nothing stops");
    let records = whole.town.records(&run);
    whole.town.serves_its_secrets();
    drop(whole);
    for first in 0..kills.div_ceil(DEATHS) {
        let mut place = new();
        let (run, died) = place.killed_often(first, kills, records);
        place.town.goes_on("resume", &run, None, &["done"]);
        assert!(place.end().holds(), "killed at {died:?} of {records}");
        place.town.serves_its_secrets();
    }
}
