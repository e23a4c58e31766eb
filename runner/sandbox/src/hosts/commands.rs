//! The programs of a host: a few of those that every machine has, and `systemctl`.

use std::time::Duration;

use super::folder::Node;
use super::kept::{self, Keeper};
use super::machine::Machine;

/// What a program came to.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Done {
    pub(super) fn said(text: impl Into<Vec<u8>>) -> Self {
        Self { stdout: text.into(), ..Self::default() }
    }
    fn ended(code: i32) -> Self {
        Self { code, ..Self::default() }
    }
    pub(super) fn failed(code: i32, stderr: impl Into<String>) -> Self {
        Self { code, stderr: stderr.into(), ..Self::default() }
    }
}

/// How much `head` gives of a file without an end.
const ENDLESS: usize = 16 << 20;

/// Runs one. There is no shell: what stdlib asks of containers in the words of one is done in their stead. What no program of this name can do here is an error of its own, never success.
pub(super) async fn run(machine: &Machine, argv: &[String], stdin: &[u8]) -> Done {
    if let Some((asked, service)) = stdlib::host::asked(argv) {
        return kept::ask(machine, asked, service).await;
    }
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["true"] => Done::default(),
        ["false"] => Done::ended(1),
        ["echo", rest @ ..] => Done::said(format!("{}\n", rest.join(" "))),
        ["printf", format, rest @ ..] if format.matches('%').count() == 1 && format.contains("%s") => {
            Done::said(rest.iter().map(|word| format.replace("%s", word)).collect::<Vec<_>>().concat())
        }
        ["cat"] => Done::said(stdin),
        ["cat", paths @ ..] => cat(machine, paths),
        ["head", "-c", count, path] => head(machine, count, path),
        ["sleep", seconds] => match seconds.parse() {
            Ok(seconds) => {
                machine.clock().sleep(Duration::from_secs_f64(seconds)).await;
                Done::default()
            }
            Err(_) => Done::failed(1, format!("sleep: invalid time interval '{seconds}'")),
        },
        ["test", flag, path] => {
            let node = machine.root().node(path);
            let holds = match *flag {
                "-d" => machine.root().is_folder(path),
                "-f" => matches!(node, Ok(Node::File(_))),
                "-e" => matches!(node, Ok(Node::File(_) | Node::Other)),
                _ => return Done::failed(2, format!("test: {flag}: unary operator expected")),
            };
            Done::ended(i32::from(!holds))
        }
        ["ls", path] => match machine.root().list(path) {
            Ok(Some(names)) => Done::said(names.join("\n") + "\n"),
            Ok(None) => Done::failed(2, format!("ls: cannot access '{path}': No such file or directory")),
            Err(error) => Done::failed(2, format!("ls: cannot open '{path}': {error}")),
        },
        ["cp", "--", from, to] => match machine.copy(from, to) {
            Ok(()) => Done::default(),
            Err(error) => Done::failed(1, format!("cp: cannot copy '{from}' to '{to}': {error}")),
        },
        ["touch", path] => machine.touch(path).map_or_else(
            |error| Done::failed(1, format!("touch: cannot touch '{path}': {error}")),
            |()| Done::default(),
        ),
        ["id", "-u"] => Done::said("0\n"),
        ["date", "+%s%N"] => Done::said(format!("{}\n", machine.now().unix_timestamp_nanos())),
        ["date", "+%s"] => Done::said(format!("{}\n", machine.now().unix_timestamp())),
        ["systemctl", verb, rest @ ..] => systemctl(machine, verb, rest).await,
        [] => Done::failed(127, "no command"),
        [program, ..] => Done::failed(
            127,
            format!("{program}: the sandbox's hosts have no such program, or not with these arguments"),
        ),
    }
}

fn cat(machine: &Machine, paths: &[&str]) -> Done {
    let mut done = Done::default();
    for path in paths {
        match machine.root().bytes(path) {
            Ok(bytes) => done.stdout.extend(bytes),
            Err(error) => return Done::failed(1, format!("cat: {path}: {error}")),
        }
    }
    done
}

fn head(machine: &Machine, count: &str, path: &str) -> Done {
    let Ok(count) = count.parse::<usize>() else {
        return Done::failed(1, format!("head: invalid number of bytes: '{count}'"));
    };
    if path == "/dev/zero" {
        return Done::said(vec![0; count.min(ENDLESS)]);
    }
    let mut done = cat(machine, &[path]);
    done.stdout.truncate(count);
    done
}

async fn systemctl(machine: &Machine, verb: &str, rest: &[&str]) -> Done {
    let Some(name) = rest.iter().rfind(|word| !word.starts_with('-')) else {
        return Done::failed(1, "Too few arguments.");
    };
    let name = name.trim_end_matches(".service");
    let Some((Keeper::Systemd, unit)) = machine.kept(name) else {
        return match verb {
            "show" => Done::said(
                "LoadState=not-found\nActiveState=inactive\nSubState=dead\nMainPID=0\nInvocationID=\n",
            ),
            _ => Done::failed(5, format!("Failed to {verb} {name}.service: Unit {name}.service not found.")),
        };
    };
    let done = match verb {
        "show" => return Done::said(unit.show()),
        "is-active" => {
            let active = unit.is_active();
            return Done {
                code: if active { 0 } else { 3 },
                ..Done::said(if active { "active\n" } else { "inactive\n" })
            };
        }
        "restart" => unit.restart().await,
        "start" => unit.start().await,
        "stop" => {
            unit.stop().await;
            Ok(())
        }
        _ => return Done::failed(1, format!("Unknown command verb {verb}.")),
    };
    machine.rings();
    match done {
        Ok(()) => Done::default(),
        Err(why) => Done::failed(1, format!("Job for {name}.service failed.\n{name}: {why}")),
    }
}
