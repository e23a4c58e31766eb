//! The few commands that the sandbox's containers have: they look at what is mounted, and they behave as badly as commands
//! do. No process of this machine is started.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::world::kubelet::mount::Mount;

const OUT: u8 = 1;
const ERR: u8 = 2;

/// What a command reads and prints.
pub(super) struct Streams {
    pub input: mpsc::UnboundedReceiver<Vec<u8>>,
    pub output: mpsc::Sender<(u8, Vec<u8>)>,
}

impl Streams {
    async fn out(&self, bytes: impl Into<Vec<u8>>) {
        let _ = self.output.send((OUT, bytes.into())).await;
    }

    /// Complains, and ends with this code.
    async fn fail(&self, code: u8, why: String) -> u8 {
        let _ = self.output.send((ERR, format!("{why}\n").into_bytes())).await;
        code
    }
}

/// Runs a command to its end: its exit code, or why there is no such command.
pub(super) async fn run(argv: &[String], mounts: &[Mount], mut streams: Streams) -> Result<u8, String> {
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    Ok(match words.as_slice() {
        ["true"] => 0,
        ["false"] => 1,
        ["echo", words @ ..] => {
            streams.out(format!("{}\n", words.join(" "))).await;
            0
        }
        ["cat"] => {
            while let Some(bytes) = streams.input.recv().await {
                streams.out(bytes).await;
            }
            0
        }
        ["cat", paths @ ..] => cat(paths, mounts, &streams).await,
        ["grep", "-c", text, path] => count(text, path, mounts, &streams).await,
        ["head", "-n", "1"] => first_line(&mut streams).await,
        ["sleep", seconds] => match seconds.parse() {
            Ok(seconds) => {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                0
            }
            Err(_) => streams.fail(1, format!("sleep: invalid time interval '{seconds}'")).await,
        },
        ["yes"] => {
            let lines = b"y\n".repeat(2048);
            while streams.output.send((OUT, lines.clone())).await.is_ok() {
                // Never idle, it would keep a virtual clock from ever moving.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            1
        }
        // As much as is asked for, and then the end.
        ["seq", most] => {
            for number in 1..=most.parse::<u32>().unwrap_or_default() {
                streams.out(format!("{number}\n")).await;
            }
            0
        }
        _ => {
            let program = words.first().unwrap_or(&"");
            return Err(format!("exec: \"{program}\": executable file not found in $PATH: unknown"));
        }
    })
}

fn read(path: &str, mounts: &[Mount]) -> Option<Vec<u8>> {
    let (folder, name) = path.rsplit_once('/')?;
    let mount = mounts.iter().find(|mount| mount.path.trim_end_matches('/') == folder)?;
    mount.volume.files().get(name).cloned()
}

async fn cat(paths: &[&str], mounts: &[Mount], streams: &Streams) -> u8 {
    let mut code = 0;
    for path in paths {
        match read(path, mounts) {
            Some(bytes) => streams.out(bytes).await,
            None => code = streams.fail(1, format!("cat: {path}: No such file or directory")).await,
        }
    }
    code
}

async fn count(text: &str, path: &str, mounts: &[Mount], streams: &Streams) -> u8 {
    let Some(bytes) = read(path, mounts) else {
        return streams.fail(2, format!("grep: {path}: No such file or directory")).await;
    };
    let found = String::from_utf8_lossy(&bytes).lines().filter(|line| line.contains(text)).count();
    streams.out(format!("{found}\n")).await;
    u8::from(found == 0)
}

async fn first_line(streams: &mut Streams) -> u8 {
    let mut line = Vec::new();
    while let Some(bytes) = streams.input.recv().await {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(bytes.get(..end.map_or(bytes.len(), |end| end + 1)).unwrap_or_default());
        if end.is_some() {
            break;
        }
    }
    streams.out(line).await;
    0
}
