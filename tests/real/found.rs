//! What is there after a run, object by object, told by what was there before it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sandbox::world::kube::Kube;
use sandbox::world::{EndState, IssuedBy, Scenario};
use serde_json::json;
use stdlib::files::SystemDisk;
use tests::kills::{self, folder_files, secret_files};
use tests::state::{Files, Look, Markers, Names, State, at_rest, difference, renamed};

/// Kinds of objects that a rotation changes for good. All others it leaves as it found them, but for restart markers.
const RENEWED: [&str; 3] = ["Secret ", "Pod ", "CertificateRequest "];

/// What was there before a run.
pub(crate) struct Before {
    scenario: Scenario,
    pki: PathBuf,
    pub(crate) secrets: kills::Files,
    pub(crate) files: Files,
}

fn files(pki: &Path) -> Files {
    folder_files(pki).into_iter().map(|(path, bytes)| (PathBuf::from(path), bytes)).collect()
}

impl Before {
    /// Looks.
    pub(crate) async fn of(kube: &Kube, scenario: &Scenario, pki: &Path) -> Self {
        let secrets = secret_files(kube, &scenario.namespace).await;
        // Without a slash at its end.
        let pki: PathBuf = pki.components().collect();
        Self { scenario: scenario.clone(), secrets, files: files(&pki), pki }
    }

    /// Waits until cert-manager, where it keeps something, has nothing under way.
    pub(crate) async fn rests(&self, kube: &Kube, patience: Duration) {
        let begun = Instant::now();
        while self.scenario.issued_by == IssuedBy::CertManager
            && !at_rest(kube, &self.scenario.namespace).await
        {
            assert!(begun.elapsed() < patience, "cert-manager still has something under way");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// What is there now, with who serves what. A file that is as it was says no more than that.
    pub(crate) async fn state(&self, kube: &Kube, end: &EndState, run: &str, markers: Markers) -> State {
        let (same, other): (Files, Files) =
            files(&self.pki).into_iter().partition(|(path, bytes)| self.files.get(path) == Some(bytes));
        let look = Look {
            kube,
            scenario: &self.scenario,
            end,
            run,
            markers,
            disk: &SystemDisk,
            folder: &self.pki,
            files: other,
        };
        let mut state =
            look.state(Names::before(self.secrets.values().chain(self.files.values()).cloned())).await;
        state.extend(same.keys().map(|path| (path.display().to_string(), json!("as before"))));
        // The old CA's folder is named after the old CA.
        let ca = &self.files[&self.pki.join("ca.pem")];
        let ca = stdlib::cert::parse_many(ca, "ca.pem").unwrap().remove(0).fingerprint();
        let retired = ca.trim_start_matches("sha256:").get(..16).unwrap().to_owned();
        renamed(&state, &[(&retired, "OLD"), (&self.pki.display().to_string(), "/PKI")])
    }
}

/// That nothing but certificates is otherwise: every other object is what it was, with its labels, annotations and
/// specification. Both states were told without markers.
pub(crate) fn leaves_the_rest(was: &State, is: &State, what: &str) {
    let mut found = difference(was, is);
    found.retain(|place, _| !place.starts_with('/') && !RENEWED.iter().any(|kind| place.starts_with(kind)));
    // How well the cluster was is not what it was left as.
    found.retain(|_, (was, is)| {
        ["labels", "annotations", "finalizers", "spec"].iter().any(|part| was[part] != is[part])
    });
    assert!(found.is_empty(), "{what} leaves something behind: {found:#?}");
}
