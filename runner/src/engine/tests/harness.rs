//! Building plans in a few words, and running them on a disk that can crash.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use journal::{Event as Entry, Moment, Signer, Store, Tools, Tripwire, Why};
use serde_json::Value;
use stdlib::PrimError;
use stdlib::files::SimDisk;
use stdlib::secret::MemorySecrets;
use stdlib::trust::Write;
use stdlib::world::{SystemNet, TokioClock, World};
use time::OffsetDateTime;

use super::toy;
use crate::engine::Options;
use crate::engine::approve::{Answer, Approver};
use crate::engine::run::{Actor, Begin, Run};
use crate::engine::trust::{Forecasted, TrustModel};
use crate::events::{Collected, Ending, Question};
use crate::plan::{At, Call, Expr, OnFailure, Parallel, Phase, Plan, Role, Step};

pub(super) fn lit(value: impl Into<Value>) -> Expr {
    Expr::Lit(value.into())
}

pub(super) fn of(step: &str, path: &[&str]) -> Expr {
    Expr::Ref { step: step.into(), path: path.iter().map(|p| (*p).to_owned()).collect() }
}

pub(super) fn call(primitive: &str, args: Vec<Expr>) -> Expr {
    Expr::Call { primitive: primitive.into(), args, path: Vec::new() }
}

pub(super) fn item() -> Expr {
    Expr::Item { path: Vec::new() }
}

fn at() -> At {
    At { file: "main.rhai".into(), line: 7, column: 3 }
}

/// A step; its key is completed when it is put into a phase.
pub(super) fn step(role: Role, item: &str, primitive: &str, args: Vec<Expr>) -> Step {
    Step {
        key: String::new(),
        role,
        item: item.into(),
        action: Call { primitive: primitive.into(), args },
        deadline_s: 60,
        on_failure: OnFailure::Stop,
        parallel: None,
        when: None,
        each: None,
        at: at(),
    }
}

pub(super) fn set(name: &str, content: impl Into<Expr2>) -> Step {
    step(Role::Change, name, "t::set", vec![lit(name), content.into().0])
}

/// An expression, or text that is one.
pub(super) struct Expr2(Expr);
impl From<&str> for Expr2 {
    fn from(text: &str) -> Self {
        Self(lit(text))
    }
}
impl From<Expr> for Expr2 {
    fn from(expr: Expr) -> Self {
        Self(expr)
    }
}

pub(super) fn mint(label: &str) -> Step {
    step(Role::Stage, label, "t::mint", vec![lit(label)])
}

pub(super) fn restart(name: &str) -> Step {
    step(Role::Settle, name, "t::restart", vec![lit(name)])
}

pub(super) fn serves(name: &str) -> Step {
    step(Role::Prove, name, "t::serves", vec![lit(name)])
}

/// Marks steps as one parallel group.
pub(super) fn together(width: u32, steps: Vec<Step>) -> Vec<Step> {
    let parallel = Some(Parallel { group: 1, width });
    steps.into_iter().map(|step| Step { parallel, ..step }).collect()
}

pub(super) fn phase(name: &str, mut steps: Vec<Step>) -> Phase {
    for step in &mut steps {
        step.key = format!("{name}/{}/{}", step.role.word(), step.item);
    }
    Phase {
        name: name.into(),
        why: format!("the reason for {name}"),
        final_: false,
        outage: false,
        steps,
        back: Vec::new(),
        at: at(),
    }
}

pub(super) fn plan(phases: Vec<Phase>) -> Plan {
    Plan {
        workflow: "toy/rotate".into(),
        title: "Rotate the toy".into(),
        params: BTreeMap::new(),
        facts: Vec::new(),
        target: None,
        trust: None,
        forward_only: false,
        success: None,
        notes: Vec::new(),
        phases,
    }
}

/// A rotation in small: a secret is made, two processes are told of both, then of the new one only.
pub(super) fn rotation() -> Plan {
    // What lies there now and the new one: read again after it was written, it would be something else.
    let both =
        |name: &str| call("t::join", vec![of("both/stage/ca", &["cert"]), call("t::read", vec![lit(name)])]);
    plan(vec![
        phase(
            "both",
            [vec![mint("ca")], together(2, vec![set("pd", both("pd")), set("kv", both("kv"))])]
                .into_iter()
                .flatten()
                .chain([restart("pd"), restart("kv"), serves("pd"), serves("kv")])
                .collect(),
        ),
        phase(
            "switch",
            vec![
                mint("leaf"),
                set("leaf", of("switch/stage/leaf", &["cert"])),
                step(
                    Role::Change,
                    "pair",
                    "t::set_all",
                    vec![lit(serde_json::json!(["x", "y"])), of("switch/stage/leaf", &["cert"])],
                ),
                restart("leaf"),
                serves("leaf"),
            ],
        ),
        phase(
            "new",
            vec![
                set("pd", of("both/stage/ca", &["cert"])),
                set("kv", of("both/stage/ca", &["cert"])),
                restart("pd"),
                restart("kv"),
                serves("pd"),
                serves("kv"),
            ],
        ),
    ])
}

/// Stops at one moment of one record.
pub(super) struct StopAt {
    pub seq: u64,
    pub moment: Moment,
}

impl Tripwire for StopAt {
    fn stops(&self, seq: u64, _: &Entry, moment: Moment) -> bool {
        seq == self.seq && moment == self.moment
    }
}

/// Says yes, or no to one kind of question; counts.
#[derive(Default)]
pub(super) struct Says {
    pub no_to: Option<&'static str>,
    pub asked: AtomicU64,
}

impl Approver for Says {
    fn ask<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Answer> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let yes = self.no_to != Some(question.kind());
        Box::pin(async move { Answer { yes, who: "tess".into(), how: "test".into() } })
    }
}

/// Refuses the writes that are listed, as `PLACE=CONTENT`.
#[derive(Default)]
pub(super) struct Refuses(pub Vec<&'static str>);

impl TrustModel for Refuses {
    fn forecast(
        &self,
        _: &Value,
        writes: &[Write],
        from: OffsetDateTime,
        until: OffsetDateTime,
        _: std::time::Duration,
    ) -> Result<Forecasted, PrimError> {
        let bad = writes.iter().find(|w| self.0.contains(&w.place.0.as_str()));
        Ok(Forecasted {
            gap_free: bad.is_none(),
            counterexample: bad.map(|w| format!("{} would break", w.place.0)),
            result: serde_json::json!({ "writes": writes.len(), "seconds": (until - from).whole_seconds() }),
        })
    }
    fn matrix(&self, view: &Value, _: OffsetDateTime) -> Result<Value, PrimError> {
        Ok(view.clone())
    }
    fn sources(&self, _: &Value) -> Result<Vec<String>, PrimError> {
        Ok(Vec::new())
    }
}

/// One machine: a disk that holds the target and the state folder, and a clock.
#[derive(Clone)]
pub(super) struct Machine {
    pub disk: SimDisk,
    pub world: World,
    pub reporter: Arc<Collected>,
}

impl Machine {
    /// With the target as it is before a rotation.
    pub(super) fn new() -> Self {
        let disk = SimDisk::new();
        let world = World {
            clock: Arc::new(TokioClock::starting_at(time::macros::datetime!(2026-11-22 03:00 UTC))),
            net: Arc::new(SystemNet),
            disk: Arc::new(disk.clone()),
            cluster: None,
            secrets: Arc::new(MemorySecrets::default()),
            hosts: Arc::default(),
            kinds: Arc::default(),
            no_cluster: String::new(),
            manager: "rollover".into(),
            folder: "/".into(),
        };
        for (name, content) in
            [("old-ca", "old"), ("pd", "old"), ("kv", "old"), ("leaf", "old-leaf"), ("x", "1")]
        {
            toy::write(&world, name, Some(content)).unwrap();
        }
        for name in ["pd", "kv", "leaf"] {
            let content = toy::read(&world, name).unwrap();
            toy::write(&world, &format!("loaded/{name}"), Some(&format!("m0\n{content}"))).unwrap();
        }
        Self { disk, world, reporter: Arc::default() }
    }

    pub(super) fn store(&self) -> Store {
        Store::new(Arc::new(self.disk.clone()), Path::new("/state"))
    }

    pub(super) fn options(&self) -> Options {
        Options {
            registry: toy::registry(),
            reporter: self.reporter.clone(),
            approver: Arc::new(Says::default()),
            trust: Arc::new(Refuses::default()),
            ..Options::default()
        }
    }

    pub(super) fn tools(&self, stop: Option<StopAt>) -> Tools {
        let signer = Signer::from_seed("test", &[7; 32]).unwrap();
        let tools = Tools::new(self.world.clock.clone(), Arc::new(signer));
        match stop {
            Some(stop) => Tools { tripwire: Arc::new(stop), ..tools },
            None => tools,
        }
    }

    fn actor() -> Actor {
        Actor { program: "rollover test".into(), host: "here".into(), user: "tess".into(), pid: 1 }
    }

    pub(super) fn start(&self, plan: Plan, stop: Option<StopAt>, options: Options) -> Run {
        self.try_start(plan, stop, options).unwrap()
    }

    pub(super) fn try_start(
        &self,
        plan: Plan,
        stop: Option<StopAt>,
        options: Options,
    ) -> Result<Run, crate::error::Failure> {
        let sources = BTreeMap::from([("main.rhai".to_owned(), b"// toy".to_vec())]);
        let begin = Begin { plan, sources, reach: None, actor: Self::actor() };
        Run::start(begin, self.world.clone(), &self.store(), self.tools(stop), options)
    }

    pub(super) fn open(&self, why: Why, stop: Option<StopAt>, options: Options) -> Run {
        self.try_open(why, stop, options).unwrap()
    }

    pub(super) fn try_open(
        &self,
        why: Why,
        stop: Option<StopAt>,
        options: Options,
    ) -> Result<Run, crate::error::Failure> {
        let id = self.store().list().unwrap().pop().unwrap();
        Run::open(
            id.as_str(),
            &Self::actor(),
            why,
            self.world.clone(),
            &self.store(),
            self.tools(stop),
            options,
        )
    }

    pub(super) async fn run(&self, plan: Plan) -> Ending {
        self.start(plan, None, self.options()).forward().await
    }

    pub(super) async fn resume(&self) -> Ending {
        self.open(Why::Resume, None, self.options()).resume().await
    }

    pub(super) async fn rollback(&self) -> Ending {
        self.open(Why::Rollback, None, self.options()).back("asked for").await
    }

    /// Names of the events of the last run's record.
    pub(super) fn record(&self) -> Vec<String> {
        let id = self.store().list().unwrap().pop().unwrap();
        self.store().load(&id).unwrap().records.iter().map(|record| record.event.name().to_owned()).collect()
    }

    /// All text of the last run's record.
    pub(super) fn journal(&self) -> String {
        let id = self.store().list().unwrap().pop().unwrap();
        let bytes = self.disk.files().remove(&self.store().dir(&id).join("journal.jsonl")).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// The target: every place, and what each process has loaded, without restart markers. What is random is named
    /// after its label and number.
    pub(super) fn target(&self) -> BTreeMap<String, String> {
        let shown = |name: &str, content: &str| {
            let content = if name.starts_with("loaded/") {
                content.split_once('\n').map_or("", |(_, content)| content)
            } else {
                content
            };
            let random = |word: &str| word.len() == 16 && word.bytes().all(|b| b.is_ascii_hexdigit());
            let named = |word: &str| match word.split_at_checked(16) {
                Some((head, tail)) if random(head) => format!("R{tail}"),
                _ => word.to_owned(),
            };
            let words: Vec<String> = content.split('-').map(named).collect();
            words.join("-")
        };
        let mut target = BTreeMap::new();
        for (path, bytes) in self.disk.files() {
            if let Ok(name) = path.strip_prefix("/target") {
                let name = name.display().to_string();
                target.insert(name.clone(), shown(&name, &String::from_utf8_lossy(&bytes)));
            }
        }
        target
    }
}
