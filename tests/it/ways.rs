//! How a resumed run reaches its cluster: as recorded or as the operator says, never by whatever kubectl would take now.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use journal::{Signer, Store, Tools};
use runner::engine::{Actor, Begin, Options, Run};
use runner::manifest::Manifest;
use runner::script::{self, Sources};
use serde_json::{Value, json};
use stdlib::World;
use stdlib::files::SystemDisk;

use crate::program::{Program, says};

const MANIFEST: &str = "title: Nothing\n";
const SCRIPT: &str = "let p = phase(\"one\", \"Why.\");\np.change(\"nothing\", flow::nothing());\n";

/// A run that was begun and not approved, with this in its record about the way to its cluster.
fn begun(program: &Program, reach: Option<Value>) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::system(None, "/".into());
        let manifest = Manifest::parse(MANIFEST).unwrap();
        let files = [("workflow.yaml", MANIFEST), ("main.rhai", SCRIPT)];
        let files: BTreeMap<String, String> =
            files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let pinned = files.iter().map(|(name, text)| (name.clone(), text.clone().into_bytes())).collect();
        let input = script::Input {
            workflow: "site/nothing",
            sources: &Sources { main: "main.rhai".into(), files },
            manifest: &manifest,
            params: &BTreeMap::new(),
            world: &world,
            registry: stdlib::registry(),
        };
        let plan = script::evaluate(&input).await.unwrap();
        let actor = Actor { program: "rollover 9.9.9".into(), host: "h".into(), user: "u".into(), pid: 1 };
        let begin = Begin { plan, sources: pinned, reach, actor };
        let store = Store::new(Arc::new(SystemDisk), &program.state());
        let signer = Signer::load_or_create(&SystemDisk, &program.state().join("keys"), "h").unwrap();
        let tools = Tools::new(world.clock.clone(), Arc::new(signer));
        let run = Run::start(begin, world, &store, tools, Options::default()).unwrap();
        run.forward().await.run
    })
}

/// A cluster that the user's kubeconfig leads to, and that counts who comes.
struct Lure(TcpListener);

impl Lure {
    fn set() -> (Self, Program) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let program = Program::new();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {}}],
        });
        program.writes(".kube/config", &config.to_string());
        (Self(listener), program)
    }

    fn nobody_came(&self) {
        assert!(self.0.accept().is_err(), "the default cluster was asked");
    }
}

fn journal(program: &Program, run: &str) -> Vec<u8> {
    std::fs::read(program.state().join("runs").join(run).join("journal.jsonl")).unwrap()
}

#[test]
fn a_way_that_cannot_be_read_is_refused_and_not_replaced_by_the_default() {
    let cases = [
        (None, "does not say how its cluster is reached"),
        (Some(json!({"carrier_pigeon": 7})), "carrier_pigeon"),
        (Some(json!("by hand")), "cannot be read"),
    ];
    for (reach, why) in cases {
        let (lure, program) = Lure::set();
        let run = begun(&program, reach.clone());
        let before = journal(&program, &run);
        for command in ["resume", "rollback", "abort"] {
            says(&program.types(&[command, &run, "--yes"]), 38, &[why, &run, "hint:", "--kubeconfig"]);
        }
        lure.nobody_came();
        assert_eq!(journal(&program, &run), before, "nothing was written: {reach:?}");
    }
}

#[test]
fn the_operator_can_name_the_cluster_where_the_record_cannot() {
    let (_lure, program) = Lure::set();
    let run = begun(&program, Some(json!({"carrier_pigeon": 7})));
    let config = program.path().join(".kube/config");
    let config = config.to_str().unwrap();
    says(&program.types(&["resume", &run, "--yes", "--kubeconfig", config]), 0, &["Done."]);
}

#[test]
fn a_recorded_kubeconfig_that_is_gone_is_named() {
    let (lure, program) = Lure::set();
    let gone = program.path().join("gone");
    let run = begun(&program, Some(json!({"kubeconfig": gone})));
    says(&program.types(&["resume", &run, "--yes"]), 19, &["gone", "cannot use the kubeconfig"]);
    lure.nobody_came();
}

#[test]
fn a_sandbox_that_has_ended_is_named_and_its_run_can_still_be_closed() {
    let (lure, program) = Lure::set();
    let ended = program.path().join("sandbox");
    std::fs::create_dir_all(&ended).unwrap();
    // What a sandbox that was killed leaves: it says that it is ready, and no process has its number.
    std::fs::write(ended.join("ready.json"), json!({"pid": i32::MAX}).to_string()).unwrap();
    let kubeconfig = Path::join(&ended, "kubeconfig");
    let run = begun(&program, Some(json!({"kubeconfig": kubeconfig, "sandbox": ended})));
    for command in ["resume", "rollback"] {
        says(&program.types(&[command, &run, "--yes"]), 19, &["has ended", "rollover abort"]);
    }
    says(&program.types(&["abort", &run, "--yes"]), 0, &["Given up"]);
    says(&program.types(&["status"]), 0, &[&run, "given up"]);
    lure.nobody_came();
}

#[test]
fn a_run_that_has_ended_cannot_be_given_up() {
    let (_lure, program) = Lure::set();
    let run = begun(&program, Some(json!({})));
    says(&program.types(&["resume", &run, "--yes"]), 0, &["Done."]);
    let before = journal(&program, &run);
    says(&program.types(&["abort", &run, "--yes"]), 2, &["has ended (done)", "rollover rollback"]);
    assert_eq!(journal(&program, &run), before);
}

#[test]
fn a_run_means_the_same_paths_wherever_it_is_resumed() {
    let program = Program::new();
    program.writes(
        "site/notes/workflow.yaml",
        "title: Notes\nparams:\n  dir: { type: path }\ntouches:\n  - files: { path: \"{{dir}}\", write: true }\n  - files: { path: plain, write: true }\n",
    );
    program.writes(
        "site/notes/main.rhai",
        "let p = phase(\"notes\", \"Why.\");\np.change(\"given\", files::write(param(\"dir\") + \"/note\", \"text\"));\np.change(\"plain\", files::write(\"plain/note\", \"text\"));\n",
    );
    program.writes("elsewhere/keep", "");
    for (given, written) in [("./here", "here/note"), ("~/there", "there/note"), ("../up", "up/note")] {
        let from = if given.starts_with("..") { "site" } else { "" };
        let set = format!("dir={given}");
        let workflow = program.path().join("site/notes");
        let before = program.runs();
        let output = program.types_in(from, &["run", workflow.to_str().unwrap(), "--set", &set]);
        says(&output, 22, &[]);
        let run = program.runs().into_iter().find(|run| !before.contains(run)).unwrap();
        says(&program.types_in("elsewhere", &["resume", &run, "--yes"]), 0, &["Done."]);
        assert!(program.path().join(written).exists(), "{given}");
        assert!(
            program.path().join(from).join("plain/note").exists(),
            "{given}: below the folder of the start"
        );
    }
    let stray: Vec<_> = std::fs::read_dir(program.path().join("elsewhere")).unwrap().collect();
    assert_eq!(stray.len(), 1, "nothing lies where the run was resumed: {stray:?}");
}

#[test]
fn the_way_to_pods_is_the_records_until_the_operator_says_another() {
    let program = Program::new();
    let needs = ["`--pods forward` needs a cluster"];
    let run = begun(&program, Some(json!({"forward": ["tidb"]})));
    let before = journal(&program, &run);
    says(&program.types(&["resume", &run, "--yes"]), 2, &needs);
    assert_eq!(journal(&program, &run), before, "nothing was written");
    says(&program.types(&["resume", &run, "--yes", "--pods", "direct"]), 0, &["Done."]);
    let run = begun(&program, Some(json!({})));
    says(&program.types(&["resume", &run, "--yes", "--pods", "forward"]), 2, &needs);
    says(&program.types(&["resume", &run, "--yes"]), 0, &["Done."]);
}
