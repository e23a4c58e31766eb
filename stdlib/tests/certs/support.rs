//! Programs that judge, worlds and gates that record.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use serde_json::{Value, json};
use stdlib::cert::{Certificate, Key};
use stdlib::cfssl::{Config, Request};
use stdlib::error::{Code, PrimError};
use stdlib::gate::{Effect, Gate, Past, Permit, Progress, RecordedEffect};
use stdlib::world::{Clock, World};
use time::OffsetDateTime;

/// The page's inputs, with a key that is quick to make.
pub(crate) const CA_CSR: &str = r#"{"CN":"TiDB","CA":{"expiry":"87600h"},"key":{"algo":"ecdsa","size":256},
  "names":[{"C":"US","L":"CA","O":"PingCAP","ST":"Beijing","OU":"TiDB"}]}"#;
pub(crate) const CA_CONFIG: &str = r#"{"signing":{"default":{"expiry":"8760h"},"profiles":{
  "internal":{"expiry":"8760h","usages":["signing","key encipherment","server auth","client auth"]},
  "client":{"expiry":"8760h","usages":["signing","key encipherment","client auth"]}}}}"#;
pub(crate) const PD: &str = r#"{"CN":"TiDB","hosts":["127.0.0.1","::1","basic-pd","basic-pd.tidb","basic-pd.tidb.svc","basic-pd-peer",
  "basic-pd-peer.tidb","basic-pd-peer.tidb.svc","*.basic-pd-peer","*.basic-pd-peer.tidb","*.basic-pd-peer.tidb.svc"],
  "key":{"algo":"ecdsa","size":256},"names":[{"C":"US","L":"CA","ST":"San Francisco"}]}"#;
pub(crate) const CLIENT: &str = r#"{"CN":"TiDB","hosts":[],"key":{"algo":"ecdsa","size":256},"names":[{"C":"US","L":"CA","ST":"San Francisco"}]}"#;

pub(crate) fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

pub(crate) fn request(json: &str) -> Request {
    Request::from_json(json.as_bytes(), "request.json").unwrap()
}

pub(crate) fn config() -> Config {
    Config::from_json(CA_CONFIG.as_bytes(), "ca-config.json").unwrap()
}

pub(crate) fn new_ca() -> (Certificate, Key) {
    stdlib::ca::create(&request(CA_CSR), now()).unwrap()
}

/// Runs a program in a folder; the exit must be as expected. Returns both outputs.
pub(crate) fn run(folder: &Path, program: &str, args: &[&str], succeeds: bool) -> String {
    let out =
        Command::new(program).args(args).current_dir(folder).output().unwrap_or_else(|e| {
            panic!("{program}: {e}; install it with `apt-get install golang-cfssl openssl`")
        });
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert_eq!(out.status.success(), succeeds, "{program} {args:?}: {text}");
    text
}

/// `cfssl ARGS | cfssljson -bare NAME`.
pub(crate) fn cfssl(folder: &Path, args: &[&str], name: &str) {
    let mut make = Command::new("cfssl")
        .args(args)
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("install cfssl with `apt-get install golang-cfssl`");
    let pipe = make.stdout.take().unwrap();
    let status =
        Command::new("cfssljson").args(["-bare", name]).current_dir(folder).stdin(pipe).status().unwrap();
    assert!(make.wait().unwrap().success(), "cfssl {args:?}");
    assert!(status.success(), "cfssljson after cfssl {args:?}");
}

/// What cfssl makes of two CAs with one name, `old.pem` and `new.pem`, and a leaf of the new one with that name too,
/// `theirs.pem`. Returns the leaf's request.
pub(crate) fn same_named_by_cfssl(folder: &Path) -> &'static str {
    let same = r#"{"CN":"TiDB","hosts":["basic-pd"],"key":{"algo":"ecdsa","size":256},
      "names":[{"C":"US","L":"CA","O":"PingCAP","ST":"Beijing","OU":"TiDB"}]}"#;
    write(folder, &[("ca-csr.json", CA_CSR), ("ca-config.json", CA_CONFIG), ("same.json", same)]);
    cfssl(folder, &["gencert", "-initca", "ca-csr.json"], "old");
    cfssl(folder, &["gencert", "-initca", "ca-csr.json"], "new");
    let args =
        ["gencert", "-ca=new.pem", "-ca-key=new-key.pem", "-config=ca-config.json", "-profile=internal"];
    cfssl(folder, &[&args[..], &["same.json"]].concat(), "theirs");
    same
}

/// A leaf for PD.
pub(crate) fn leaf_of(ca: &Certificate, key: &Key, at: OffsetDateTime) -> Certificate {
    let internal = config().profile("internal").unwrap().clone();
    stdlib::cfssl::issue(ca, key, &request(PD), &internal, at).unwrap().0
}

pub(crate) fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        std::fs::write(folder.join(name), text).unwrap();
    }
}

pub(crate) fn read_certificate(path: &Path) -> Certificate {
    Certificate::from_pem(&std::fs::read(path).unwrap(), "file").unwrap()
}

/// A world of this machine's disk at a fixed time.
pub(crate) fn world(folder: &Path, at: OffsetDateTime) -> World {
    struct At(OffsetDateTime);
    impl Clock for At {
        fn now(&self) -> OffsetDateTime {
            self.0
        }
    }
    World { clock: Arc::new(At(at)), ..World::system(None, PathBuf::from(folder)) }
}

/// Remembers every effect, and refuses the one with the given number.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) effects: Mutex<Vec<Effect>>,
    pub(crate) refuse_at: Option<usize>,
}

impl Gate for Recorder {
    fn effect(&self, effect: Effect) -> BoxFuture<'_, Result<Permit, PrimError>> {
        let mut effects = self.effects.lock().unwrap();
        let answer = if self.refuse_at == Some(effects.len()) {
            Err(PrimError::new(Code::Refused, "stopped here"))
        } else {
            effects.push(effect);
            Ok(Permit::Apply)
        };
        Box::pin(async move { answer })
    }
    fn progress(&self, _: Progress) {}
    fn marker(&self) -> String {
        "marker".into()
    }
    fn history(&self) -> Vec<Past> {
        Vec::new()
    }
}

impl Recorder {
    pub(crate) fn recorded(&self) -> Vec<RecordedEffect> {
        let effects = self.effects.lock().unwrap();
        effects
            .iter()
            .map(|e| RecordedEffect {
                place: e.place.clone(),
                before: e.before.clone(),
                after: e.after.clone(),
                backup: e.backup.clone(),
            })
            .collect()
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Calls a primitive by its name.
pub(crate) fn call(world: &World, gate: &dyn Gate, name: &str, args: &[Value]) -> Result<Value, PrimError> {
    let primitive = stdlib::registry().get(name).expect("a known primitive");
    block_on((primitive.run)(world, args, gate))
}

pub(crate) fn restore(
    world: &World,
    gate: &dyn Gate,
    name: &str,
    effect: &RecordedEffect,
) -> Result<(), PrimError> {
    let primitive = stdlib::registry().get(name).expect("a known primitive");
    block_on((primitive.restore.expect("restorable"))(world, effect, gate))
}

/// A PKI folder as the page leaves it before a rotation.
pub(crate) fn pki() -> tempfile::TempDir {
    pki_of(now())
}

pub(crate) fn pki_of(at: OffsetDateTime) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        &[
            ("ca-csr.json", CA_CSR),
            ("ca-config.json", CA_CONFIG),
            ("pd-server.json", PD),
            ("client.json", CLIENT),
        ],
    );
    let (ca, key) = stdlib::ca::create(&request(CA_CSR), at).unwrap();
    write_pair(folder.path(), "ca.pem", "ca-key.pem", &ca, &key);
    folder
}

pub(crate) fn write_pair(folder: &Path, certificate: &str, key_name: &str, ca: &Certificate, key: &Key) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(folder.join(certificate), ca.pem()).unwrap();
    std::fs::write(folder.join(key_name), key.to_pem().unwrap().as_bytes()).unwrap();
    std::fs::set_permissions(folder.join(key_name), std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// All files below a folder, with their modes: what must be the same again after going back.
pub(crate) fn files(folder: &Path) -> Vec<(String, u32, Vec<u8>)> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut all = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
                all.push((name, mode, std::fs::read(&path).unwrap()));
            }
        }
    }
    all.sort();
    all
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    files(folder).into_iter().map(|(name, _, _)| name).collect()
}

pub(crate) fn value_of(world: &World, ca: &Certificate, key: &Key) -> Value {
    stdlib::ca::to_value(world, ca, key).unwrap()
}

pub(crate) fn null() -> Value {
    json!(null)
}
