//! What a run leaves in a namespace and in a PKI folder, in words that are the same for all runs that end alike:
//! certificates and keys are told by what they are and who holds the same, markers without the id of the run.

mod issued;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sandbox::world::genesis::Pki;
use sandbox::world::json as js;
use sandbox::world::kube::{DEPLOYMENTS, Kind, Kube, PODS, SECRETS, SERVICES, STATEFUL_SETS, TIDB_CLUSTERS};
use sandbox::world::operator::v2::{CLUSTERS, GROUPS};
use sandbox::world::volume::secret_files;
use sandbox::world::{EndState, IssuedBy, Operator, Scenario};
use serde_json::{Map, Value, json};
use stdlib::cert::{Certificate, Key, parse_many};
use stdlib::lease;
use stdlib::world::Disk;

pub use issued::at_rest;

/// What runs hold, one a cluster.
pub const LEASES: Kind =
    Kind { api_version: "coordination.k8s.io/v1", kind: "Lease", plural: "leases", namespaced: true };
/// What the server draws or counts, labels that name a digest of a template, and with it of a marker, and the head of a record.
const DRAWN: [&str; 10] = [
    "clusterIP",
    "clusterIPs",
    "controller-revision-hash",
    "pod-template-hash",
    "pingcap.com/instance-revision-hash",
    // Operator v2 draws the names of its instances, which labels repeat.
    "pingcap.com/instance",
    "deployment.kubernetes.io/revision",
    "cert-manager.io/certificate-revision",
    "cert-manager.io/private-key-secret-name",
    lease::LAST,
];
/// What a restart leaves: its marker, and how far the operator has let it come.
const MARKERS: [&str; 4] = [
    "tidb.pingcap.com/restartedAt",
    "pingcap.com/restartedAt",
    "kubectl.kubernetes.io/restartedAt",
    "partition",
];

/// By place.
pub type State = BTreeMap<String, Value>;

/// Files by path.
pub type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Whether restart markers are compared, and what else a restart leaves: going back restarts afresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Markers {
    /// They are.
    Kept,
    /// They are not.
    Dropped,
}

/// The places at which two states differ, with both.
pub fn difference(left: &State, right: &State) -> BTreeMap<String, (Value, Value)> {
    let places: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    let at = |state: &State, place: &String| state.get(place).cloned().unwrap_or(json!("absent"));
    places
        .into_iter()
        .filter(|place| left.get(*place) != right.get(*place))
        .map(|place| (place.clone(), (at(left, place), at(right, place))))
        .collect()
}

/// The same with other words in every place and everything that is told.
pub fn renamed(state: &State, words: &[(&str, &str)]) -> State {
    let text = serde_json::to_string(state).unwrap();
    let text = words.iter().fold(text, |text, (word, by)| text.replace(word, by));
    serde_json::from_str(&text).unwrap()
}

/// Where to look, and what not to tell.
pub struct Look<'a> {
    /// The API server.
    pub kube: &'a Kube,
    /// What the world began with: the namespace, and who keeps the cluster and its certificates there.
    pub scenario: &'a Scenario,
    /// Who serves what there, as [`sandbox::world::World::end_state`] found it.
    pub end: &'a EndState,
    /// Id of the run; empty for none.
    pub run: &'a str,
    /// What becomes of markers.
    pub markers: Markers,
    /// Where the files lie.
    pub disk: &'a dyn Disk,
    /// The PKI folder.
    pub folder: &'a Path,
    /// Its files, or those that count.
    pub files: Files,
}

impl Look<'_> {
    /// What is there. Certificates are told as `names` has them, which learns those that are new.
    pub async fn state(&self, mut names: Names) -> State {
        let mut state = State::new();
        let namespace = self.scenario.namespace.as_str();
        let (secrets, _) = self.kube.list(SECRETS, namespace).await.unwrap();
        // A server has made those of its service accounts.
        let secrets: Vec<Value> = secrets
            .into_iter()
            .filter(|s| !js::text(s, "/type").ends_with("service-account-token"))
            .collect();
        names.learn(secrets.iter().flat_map(|secret| secret_files(secret).into_values()));
        names.learn(self.files.values().cloned());
        let neutral = Neutral { run: self.run, markers: self.markers };
        for secret in &secrets {
            let files = secret_files(secret);
            let data: Map<String, Value> =
                files.iter().map(|(name, bytes)| (name.clone(), names.content(bytes))).collect();
            let mut told = neutral.metadata(secret);
            told["type"] = secret["type"].clone();
            told["data"] = Value::Object(data);
            state.insert(format!("Secret {}", js::name(secret)), told);
        }
        let keeps: Vec<Kind> = match self.scenario.operator {
            Operator::V1 => vec![TIDB_CLUSTERS],
            Operator::V2 => GROUPS.iter().map(|group| group.group).chain([CLUSTERS]).collect(),
        };
        for kind in keeps.iter().copied().chain([STATEFUL_SETS, DEPLOYMENTS, SERVICES, LEASES]) {
            for object in self.kube.list(kind, namespace).await.unwrap().0 {
                let mut told = neutral.metadata(&object);
                told["spec"] = neutral.value(&object["spec"]);
                if keeps.contains(&kind) {
                    told["status"] = health(&object);
                }
                state.insert(format!("{} {}", kind.kind, js::name(&object)), told);
            }
        }
        if self.scenario.issued_by == IssuedBy::CertManager {
            issued::tell(self.kube, namespace, neutral, &mut names, &mut state).await;
        }
        let mut pods = BTreeMap::<String, usize>::new();
        for pod in self.kube.list(PODS, namespace).await.unwrap().0 {
            let Some(served) = self.end.pods.get(js::name(&pod)) else {
                state.insert(format!("Pod {}, which serves nothing", js::name(&pod)), neutral.metadata(&pod));
                continue;
            };
            let mut told = neutral.metadata(&pod);
            told["ready"] = json!(js::ready(&pod) && served.ready);
            told["chain"] = names.prints(&served.chain);
            told["anchors"] = names.prints(&served.anchors);
            let number = pods.entry(served.component.clone()).or_default();
            *number += 1;
            state.insert(format!("Pod of {} #{number}", served.component), told);
        }
        for (path, bytes) in &self.files {
            let mode = format!("{:o}", self.disk.mode(path).unwrap());
            let mut folder = path.clone();
            while folder.pop() && folder.starts_with(self.folder) {
                let mode = format!("{:o}", self.disk.mode(&folder).unwrap());
                state.insert(folder.display().to_string(), json!({ "mode": mode }));
            }
            let told = json!({ "mode": mode, "content": names.content(bytes) });
            state.insert(path.display().to_string(), told);
        }
        state
    }
}

/// What the operator says of the cluster, without numbers that move.
fn health(cluster: &Value) -> Value {
    let phases = ["pd", "tikv", "tidb"].map(|c| js::text(cluster, &format!("/status/{c}/phase")).to_owned());
    json!({ "phases": phases, "conditions": conditions(cluster) })
}

/// Types and states of an object's conditions.
fn conditions(object: &Value) -> Value {
    let conditions = js::items(object, "/status/conditions").iter();
    conditions.map(|one| json!([js::text(one, "/type"), js::text(one, "/status")])).collect()
}

/// Takes out of an object what differs between two runs that end alike.
#[derive(Clone, Copy)]
struct Neutral<'a> {
    run: &'a str,
    markers: Markers,
}

impl Neutral<'_> {
    fn metadata(&self, object: &Value) -> Value {
        let part = |name: &str| self.value(&object["metadata"][name]);
        json!({ "labels": part("labels"), "annotations": part("annotations"), "finalizers": part("finalizers") })
    }

    /// Without markers and digests of them; no map is the same as an empty one.
    fn value(&self, value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                let mut kept = Map::new();
                for (key, inner) in map {
                    let marker = MARKERS.contains(&key.as_str());
                    if DRAWN.contains(&key.as_str()) || (marker && self.markers == Markers::Dropped) {
                        continue;
                    }
                    let inner = self.value(inner);
                    if !inner.is_null() {
                        kept.insert(key.clone(), inner);
                    }
                }
                if kept.is_empty() { Value::Null } else { Value::Object(kept) }
            }
            Value::Array(items) => items.iter().map(|item| self.value(item)).collect(),
            Value::String(text) if text.starts_with('{') => match text.parse::<Value>() {
                Ok(inner) => self.value(&inner),
                Err(_) => value.clone(),
            },
            Value::String(text) if !self.run.is_empty() => json!(text.replace(self.run, "RUN")),
            other => other.clone(),
        }
    }
}

/// What certificates and keys are called: those that were there before are `first`, the others `new`.
pub struct Names {
    first: BTreeSet<String>,
    authorities: Vec<Certificate>,
    known: Vec<(Certificate, String)>,
}

fn certificates(file: &[u8]) -> Vec<Certificate> {
    if is_key(file) { Vec::new() } else { parse_many(file, "").unwrap_or_default() }
}

fn is_key(bytes: &[u8]) -> bool {
    String::from_utf8_lossy(bytes).contains("PRIVATE KEY")
}

impl Names {
    /// Before, there was what a world began with.
    pub fn of(pki: &Pki) -> Self {
        let secret = |component| pki.secret(component).unwrap().into_values();
        Self::before(pki.components().flat_map(secret))
    }

    /// Before, there were the certificates in these files.
    pub fn before(files: impl Iterator<Item = Vec<u8>>) -> Self {
        let certificates: Vec<Certificate> = files.flat_map(|file| certificates(&file)).collect();
        let mut authorities: Vec<Certificate> = Vec::new();
        for authority in certificates.iter().filter(|c| c.is_ca()) {
            if !authorities.contains(authority) {
                authorities.push(authority.clone());
            }
        }
        let first = certificates.iter().map(Certificate::fingerprint).collect();
        Self { first, authorities, known: Vec::new() }
    }

    /// The authorities first, since others are told by who issued them.
    fn learn(&mut self, files: impl Iterator<Item = Vec<u8>>) {
        let certificates: Vec<Certificate> = files.flat_map(|file| certificates(&file)).collect();
        for authority in certificates.iter().filter(|c| c.is_ca()) {
            if !self.authorities.contains(authority) {
                self.authorities.push(authority.clone());
            }
        }
        for certificate in &certificates {
            self.certificate(certificate);
        }
    }

    fn certificate(&mut self, certificate: &Certificate) -> String {
        if let Some((_, name)) = self.known.iter().find(|(known, _)| known == certificate) {
            return name.clone();
        }
        let age = if self.first.contains(&certificate.fingerprint()) { "first" } else { "new" };
        let issuer = self.authorities.iter().find(|ca| certificate.check_signed_by(ca).is_ok()).cloned();
        let issuer = match issuer {
            Some(ca) if ca == *certificate => "itself".to_owned(),
            Some(ca) => self.certificate(&ca),
            None => "nobody known".to_owned(),
        };
        let valid = certificate.not_after() - certificate.not_before();
        let names: Vec<String> = certificate.sans().iter().map(ToString::to_string).collect();
        let what = format!(
            "{age} {} {} `{}` [{}] {:?} {:?} for {} h, by {issuer}",
            if certificate.is_ca() { "CA" } else { "leaf" },
            certificate.key_text(),
            certificate.subject_text(),
            names.join(" "),
            certificate.key_usage(),
            certificate.ext_usage().unwrap_or_default(),
            valid.whole_hours(),
        );
        let twins = self.known.iter().filter(|(_, name)| name.starts_with(&what)).count();
        let name = format!("{what} #{}", twins + 1);
        self.known.push((certificate.clone(), name.clone()));
        name
    }

    /// A file: certificates and keys by name, everything else as it is.
    fn content(&mut self, bytes: &[u8]) -> Value {
        let text = String::from_utf8_lossy(bytes).into_owned();
        if is_key(bytes) {
            let key = Key::from_pem(bytes, "a key").unwrap();
            let of = self.known.iter().find(|(certificate, _)| key.matches(certificate));
            return json!({ "key of": of.map_or("nobody", |(_, name)| name) });
        }
        if !text.contains("BEGIN CERTIFICATE") {
            return json!(text);
        }
        let certificates = parse_many(bytes, "certificates").unwrap();
        let plain: String = certificates.iter().map(Certificate::pem).collect();
        let names: Vec<String> = certificates.iter().map(|c| self.certificate(c)).collect();
        if plain == text { json!(names) } else { json!({ "written otherwise": names, "text": text }) }
    }

    /// What a pod has loaded.
    fn prints(&self, fingerprints: &[String]) -> Value {
        let name = |print: &String| {
            let whole = format!("sha256:{print}");
            let known = self.known.iter().find(|(certificate, _)| certificate.fingerprint() == whole);
            known.map_or_else(|| "unknown".to_owned(), |(_, name)| name.clone())
        };
        fingerprints.iter().map(name).collect()
    }
}
