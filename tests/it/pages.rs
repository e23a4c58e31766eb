//! What the pages say is true: every command in them is typed, every script is checked, or the block says why not.
//!
//! The word after the language of a block marks it: `no-run: REASON`, `append: FILE` and `under: KEY` (the reader edits
//! the workflow that the page made). A workflow of TiDB's or etcd's is planned and not run: other tests run it. All pages share one
//! sandbox; `RUN` is a run that the reader has.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};
use regex::Regex;
use runner::catalog::Catalog;
use runner::diagnostic::{Diagnostic, Paint, render_all};
use stdlib::files::SimDisk;
use stdlib::world::Disk;

use crate::house::{files, root};
use crate::program::{Program, says, told};

/// One fenced block.
struct Block {
    place: String,
    language: String,
    mark: Mark,
    text: String,
}

enum Mark {
    None,
    NoRun,
    /// At the end of this file of the page's workflow.
    Append(String),
    /// Below this key of the page's workflow.yaml.
    Under(String),
}

impl Mark {
    fn of(text: &str, place: &str) -> Self {
        match text.split_once(": ").map(|(word, rest)| (word, rest.trim())) {
            None if text.is_empty() => Self::None,
            Some(("no-run", reason)) if reason.len() > 8 => Self::NoRun,
            Some(("append", file)) => Self::Append(file.to_owned()),
            Some(("under", key)) => Self::Under(key.to_owned()),
            _ => panic!("{place}: nobody knows what `{text}` asks for; `no-run: REASON` skips a block"),
        }
    }
}

fn blocks(page: &str, text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (event, range) in Parser::new(text).into_offset_iter() {
        match event {
            Event::Start(Tag::CodeBlock(kind)) => {
                let line = text[..range.start].lines().count() + 1;
                let place = format!("{page}:{line}");
                let info = match &kind {
                    CodeBlockKind::Fenced(info) => info.trim(),
                    CodeBlockKind::Indented => "",
                };
                let (language, mark) = info.split_once(' ').unwrap_or((info, ""));
                let mark = Mark::of(mark.trim(), &place);
                open = Some(Block { place, language: language.to_owned(), mark, text: String::new() });
            }
            Event::Text(part) => {
                if let Some(block) = &mut open {
                    block.text.push_str(&part);
                }
            }
            Event::End(TagEnd::CodeBlock) => found.extend(open.take()),
            _ => {}
        }
    }
    found
}

/// The commands of a block: in `console` what follows `$`, in `sh` every line, without comments.
fn commands(block: &Block) -> Vec<String> {
    let lines = block.text.lines().map(|line| line.split(" #").next().unwrap_or_default().trim());
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    match block.language.as_str() {
        "console" => lines.filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect(),
        _ => lines.map(str::to_owned).collect(),
    }
}

/// Starts a sandbox. Returns its folder.
fn started(keeper: &Program, more: &[&str]) -> PathBuf {
    let output = keeper.types(&[&["sandbox", "start", "--output", "json"], more].concat());
    let text = says(&output, 0, &[]);
    let started: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    started["dir"].as_str().unwrap().into()
}

/// A sandbox that all readers share.
struct Sandbox {
    keeper: Program,
    dir: PathBuf,
    /// Another one, with what an etcd workflow works on, once a page asks for it.
    hosts: OnceLock<PathBuf>,
}

impl Sandbox {
    fn start() -> Self {
        let keeper = Program::new();
        let dir = started(&keeper, &[]);
        Self { dir, keeper, hosts: OnceLock::new() }
    }

    /// The folder of the one for a workflow.
    fn for_workflow(&self, name: &str) -> &Path {
        if name.starts_with("etcd/") {
            return self.hosts.get_or_init(|| started(&self.keeper, &["--workflow", name]));
        }
        &self.dir
    }

    fn path(&self, below: &str) -> String {
        self.dir.join(below).display().to_string()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.keeper.types(&["sandbox", "stop"]);
    }
}

/// Somebody who does what a page says, in a home of their own.
struct Reader<'a> {
    sandbox: &'a Sandbox,
    program: Program,
    /// The folder of the workflow that the page made.
    workflow: Option<PathBuf>,
    ended: Option<String>,
}

impl<'a> Reader<'a> {
    fn new(sandbox: &'a Sandbox) -> Self {
        let program = Program::new().with_env("KUBECONFIG", &sandbox.path("kubeconfig"));
        // They stand in a PKI folder.
        for entry in std::fs::read_dir(sandbox.path("pki")).unwrap().map(Result::unwrap) {
            std::fs::copy(entry.path(), program.path().join(entry.file_name())).unwrap();
        }
        Self { sandbox, program, workflow: None, ended: None }
    }

    /// A run that was begun and not approved: something to go on with.
    fn unfinished(&self) -> String {
        self.note(&[], 22)
    }

    /// A run that has ended, made once.
    fn ended(&mut self) -> String {
        if self.ended.is_none() {
            self.ended = Some(self.note(&["--yes"], 0));
        }
        self.ended.clone().unwrap()
    }

    /// A run that needs no cluster.
    fn note(&self, more: &[&str], code: i32) -> String {
        let manifest = "title: Note\ntouches:\n  - files: { path: note, write: true }\n";
        let script = "phase(\"note\", \"A note.\").change(\"note\", files::write(\"note\", \"text\"));\n";
        self.program.writes("earlier/note/workflow.yaml", manifest);
        self.program.writes("earlier/note/main.rhai", script);
        let before = self.program.runs();
        says(&self.program.types(&[&["run", "earlier/note"], more].concat()), code, &[]);
        self.program.runs().into_iter().find(|run| !before.contains(run)).unwrap()
    }

    fn head(&mut self) -> String {
        let run = self.ended();
        let output = self.program.types(&["audit", "verify", &run, "--output", "json"]);
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        value["head"].as_str().unwrap().to_owned()
    }

    /// A command as the page has it, with what the reader would put in.
    fn filled_in(&mut self, command: &str, place: &str) -> Vec<String> {
        let args =
            ["rollover ", "cargo run --release -- "].iter().find_map(|program| command.strip_prefix(program));
        let args = args.unwrap_or_else(|| panic!("{place}: `{command}` is not ours to run; mark the block"));
        assert!(!args.contains(['\'', '"', '|', '&', '>']), "{place}: `{command}` needs a shell");
        let words: Vec<&str> = args.split_whitespace().collect();
        let verb = words[0];
        let mut filled = Vec::new();
        for word in &words {
            match *word {
                "RUN" if matches!(verb, "resume" | "rollback" | "abort") => filled.push(self.unfinished()),
                "RUN" => filled.push(self.ended()),
                "KEY" => filled.push(self.program.state().join("keys/signing.vkey").display().to_string()),
                "SIZE:HASH" => filled.push(self.head()),
                "--sandbox" => {
                    let dir = self.sandbox.for_workflow(words[1]);
                    filled.extend(["--sandbox-dir".into(), dir.display().to_string()])
                }
                word if word.starts_with("/srv/pki") => {
                    filled.push(word.replacen("/srv/pki", &self.sandbox.path("pki"), 1));
                }
                word if word.starts_with("pki=") => filled.push(format!("pki={}", self.sandbox.path("pki"))),
                word => filled.push(word.to_owned()),
            }
        }
        match verb {
            "run" if ["tidb/", "etcd/"].iter().any(|kind| words[1].starts_with(kind)) => {
                filled.push("--plan-only".into())
            }
            "run" | "resume" | "rollback" | "abort" => filled.push("--yes".into()),
            _ => {}
        }
        filled
    }

    fn types(&mut self, command: &str, place: &str) -> String {
        let args = self.filled_in(command, place);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (code, text) = told(&self.program.types(&args));
        assert_eq!(code, 0, "{place}: `{command}`: {text}");
        if let ["new", name, ..] = args[..] {
            self.workflow = Some(self.program.path().join("workflows").join(name));
        }
        text
    }

    fn edits(&self, block: &Block) {
        let folder = self.workflow.as_ref().unwrap_or_else(|| panic!("{}: no workflow to edit", block.place));
        let edit = |file: &str, change: &dyn Fn(String) -> String| {
            let path = folder.join(file);
            let text = std::fs::read_to_string(&path).unwrap();
            let changed = change(text.clone());
            assert_ne!(changed, text, "{}: nothing to edit in {file}", block.place);
            std::fs::write(path, changed).unwrap();
        };
        match &block.mark {
            Mark::Append(file) => edit(file, &|text| text + block.text.as_str()),
            Mark::Under(key) => {
                let key = format!("\n{key}:\n");
                edit("workflow.yaml", &|text| text.replacen(&key, &format!("{key}{}", block.text), 1));
            }
            Mark::None | Mark::NoRun => panic!("{}: is this part of a file? say which", block.place),
        }
    }

    /// Does what a page says. Returns everything that was shown.
    fn follows(&mut self, page: &str) -> String {
        let mut shown = String::new();
        for block in blocks(page, &std::fs::read_to_string(root().join(page)).unwrap()) {
            match (block.language.as_str(), &block.mark) {
                ("sh" | "console" | "rhai" | "yaml", Mark::NoRun) | ("text", _) => {}
                ("", _) if !block.text.contains("rollover ") => {}
                ("sh" | "console", Mark::None) => {
                    for command in commands(&block) {
                        shown.push_str(&self.types(&command, &block.place));
                    }
                }
                ("rhai", Mark::None) => {
                    let findings = checked(&block.text);
                    let errors = findings.iter().any(Diagnostic::is_error);
                    assert!(!errors, "{}\n{}", block.place, render_all(&findings, Paint::Plain));
                }
                ("rhai" | "yaml", _) => self.edits(&block),
                (language, _) => panic!("{}: nobody tries blocks of `{language}`", block.place),
            }
        }
        shown
    }
}

/// What `check` finds in a script of a page, whose manifest has the parameters that it asks for.
fn checked(script: &str) -> Vec<Diagnostic> {
    let disk = SimDisk::default();
    let folder = Path::new("/site/page");
    disk.make_dir(folder, 0o755).unwrap();
    let params = Regex::new(r#"param\("(\w+)"\)"#).unwrap();
    let mut names: Vec<&str> =
        params.captures_iter(script).map(|found| found.get(1).unwrap().as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let params: String = names.iter().flat_map(|name| ["  ", name, ": {}\n"]).collect();
    let manifest =
        if params.is_empty() { "title: Page\n".into() } else { format!("title: Page\nparams:\n{params}") };
    disk.write_atomic(&folder.join("workflow.yaml"), manifest.as_bytes(), 0o644).unwrap();
    disk.write_atomic(&folder.join("main.rhai"), script.as_bytes(), 0o644).unwrap();
    match Catalog::default().load(&disk, "/site/page").unwrap() {
        Ok(workflow) => runner::script::check(&workflow.sources, &workflow.manifest, stdlib::registry()),
        Err(findings) => findings,
    }
}

/// Pages that people write; the reference is generated, and compared elsewhere.
fn pages() -> Vec<String> {
    let all = files(".md").into_iter().map(|path| path.strip_prefix(root()).unwrap().display().to_string());
    all.filter(|page| !page.starts_with("docs/reference/")).collect()
}

#[test]
fn every_example_of_the_pages_is_tried() {
    let pages = pages();
    for page in ["README.md", "docs/tutorial.md", "docs/guides/write-a-workflow.md", "docs/guides/audit.md"] {
        assert!(pages.iter().any(|known| known == page), "{page} is not among {pages:?}");
    }
    let sandbox = Sandbox::start();
    for page in pages {
        let shown = Reader::new(&sandbox).follows(&page);
        if page == "docs/guides/write-a-workflow.md" {
            for word in ["note-the-owner", "basic-on-call", "absent -> Ada", "Done."] {
                assert!(shown.contains(word), "`{word}` is missing: {shown}");
            }
        }
    }
}

#[test]
fn a_block_that_nobody_knows_is_found() {
    let text = "# P\n\n```sh no-run: needs a cluster of yours\nkubectl get pods\n```\n\n```rhai append: main.rhai\nx\n```\n";
    let found = blocks("p.md", text);
    let places: Vec<_> = found.iter().map(|block| (block.place.as_str(), block.language.as_str())).collect();
    assert_eq!(places, [("p.md:3", "sh"), ("p.md:7", "rhai")]);
    assert!(
        matches!(found[0].mark, Mark::NoRun) && matches!(&found[1].mark, Mark::Append(f) if f == "main.rhai")
    );
    assert!(std::panic::catch_unwind(|| blocks("p.md", "```sh skip\nx\n```\n")).is_err());
    assert!(std::panic::catch_unwind(|| blocks("p.md", "```sh no-run: \nx\n```\n")).is_err());
    let errors = checked("let p = phase(\"a\", \"b\");\np.prove(\"x\", tidb::helthy(#{}));\n");
    assert!(render_all(&errors, Paint::Plain).contains("tidb::healthy"), "{errors:?}");
}

/// The example of a primitive with what it takes for granted: phases, and values of any kind.
fn completed(example: &str) -> (String, Vec<Diagnostic>) {
    let unknown = Regex::new(r"there is no variable `(\w+)`").unwrap();
    let mut script = format!("{example}\n");
    // The names that most examples use, to be done in one go.
    for name in ["p", "s", "c", "pki", "ca", "both", "leaf", "leaves", "tidb", "cluster"] {
        let word = Regex::new(&format!(r"\b{name}\b")).unwrap();
        if word.is_match(example) && !example.contains(&format!("let {name} ")) {
            script = declared(name, example) + script.as_str();
        }
    }
    for _ in 0..20 {
        let findings = checked(&script);
        let text = render_all(&findings, Paint::Plain);
        let Some(name) = unknown.captures(&text).map(|found| found[1].to_owned()) else {
            return (script, findings);
        };
        script = declared(&name, example) + script.as_str();
    }
    panic!("no end of unknown names: {script}");
}

fn declared(name: &str, example: &str) -> String {
    let roles = ["stage", "change", "settle", "prove", "back"];
    let phase = roles.iter().any(|role| example.contains(&format!("{name}.{role}(")));
    let value = if phase { format!("phase(\"{name}\", \"why\")") } else { "#{}".to_owned() };
    format!("let {name} = {value};\n")
}

#[test]
fn every_example_of_the_primitives_is_well() {
    for primitive in stdlib::registry().iter() {
        assert!(
            primitive.example.contains(primitive.name),
            "{}: an example of something else",
            primitive.name
        );
        let (script, findings) = completed(primitive.example);
        let text = render_all(&findings, Paint::Plain);
        assert!(!findings.iter().any(Diagnostic::is_error), "{}\n{script}\n{text}", primitive.name);
    }
    let (_, wrong) = completed("p.change(\"x\", k8s::patch_secret(s));");
    assert!(wrong.iter().any(Diagnostic::is_error), "a wrong count of arguments is found");
}
