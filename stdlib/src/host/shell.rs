//! A shell on a host that stays: one login for many commands. A login shell and a process of ours for each command would
//! cost far more than what most commands do.
//!
//! It takes a command and its input by their lengths, so that nothing in them has to be looked at, and ends what a command
//! writes with a word that is another each time.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use zeroize::Zeroizing;

use super::local::COMPLAINT;
use super::port::Output;

/// How long a shell whose output has ended may take to be gone.
const GONE: Duration = Duration::from_secs(5);

/// `word`: says the word, then runs what it is sent: a line with a word, the length of a command and that of its input;
/// the command, as words for a shell; the input, ended by a line with the word where there is any. What a command leaves
/// of its input is skipped.
const LOOP: &str = r#"
printf '\n%s 0\n' "$1"
while IFS=' ' read -r word text input; do
  command=$(head -c "$text"; echo .)
  command=${command%.}
  if [ "$input" = 0 ]; then
    (eval "exec $command") </dev/null
    code=$?
  else
    head -c "$input" 2>/dev/null | (eval "exec $command")
    code=$?
    while IFS= read -r line; do if [ "$line" = "$word" ]; then break; fi; done
  fi
  printf '\n%s 0\n' "$word" >&2
  printf '\n%s %s\n' "$word" "$code"
done
"#;

/// The argument vector that starts such a shell, with the word that it says first.
pub(super) fn argv(word: &str) -> [String; 5] {
    ["sh", "-c", LOOP, "rollover", word].map(str::to_owned)
}

/// A word that no output has.
pub(super) fn word() -> String {
    hex::encode(rand::random::<[u8; 16]>())
}

/// The shell is gone, or never came up.
pub(super) struct Lost {
    /// The exit code of what led to it; nothing where it did not end.
    pub(super) code: Option<i32>,
    /// What it complained of.
    pub(super) said: String,
}

/// A shell that waits for commands. Dropped, it ends: on the host as well, when it next looks for a command.
pub(super) struct Shell {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    errors: ChildStderr,
}

impl Shell {
    /// Waits until the shell that a command leads to has said its word.
    pub(super) async fn start(mut command: Command, word: &str) -> Result<Self, Lost> {
        let failed = |said: String| Lost { code: None, said };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
        let (Some(input), Some(output), Some(errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(failed("it has no pipes".into()));
        };
        let mut shell = Self { child, input, output, errors };
        // What a login prints comes before.
        let ready = Until::read(&mut shell.output, word, 0).await;
        if ready.code.is_some() {
            return Ok(shell);
        }
        let mut said = Vec::new();
        let _ = tokio::time::timeout(GONE, (&mut shell.errors).take(COMPLAINT as u64).read_to_end(&mut said))
            .await;
        Err(shell.lost(&said).await)
    }

    /// Whether it still is there, as far as is known.
    pub(super) fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Runs one command. After an error, or when the caller goes away meanwhile, the shell is of no use any more.
    pub(super) async fn run(&mut self, text: &str, stdin: &[u8], most: usize) -> Result<Output, Lost> {
        let word = word();
        let (input, output, errors) = (&mut self.input, &mut self.output, &mut self.errors);
        let feed = async {
            let head = format!("{word} {} {}\n{text}", text.len(), stdin.len());
            input.write_all(head.as_bytes()).await?;
            if !stdin.is_empty() {
                input.write_all(stdin).await?;
                input.write_all(format!("\n{word}\n").as_bytes()).await?;
            }
            input.flush().await
        };
        let (_, out, err) =
            tokio::join!(feed, Until::read(output, &word, most), Until::read(errors, &word, COMPLAINT));
        match out.code {
            Some(code) if err.code.is_some() => Ok(Output {
                code,
                stdout: out.kept,
                stderr: String::from_utf8_lossy(&err.kept).into_owned(),
                cut: out.cut,
            }),
            _ => Err(self.lost(&err.kept).await),
        }
    }

    async fn lost(&mut self, said: &[u8]) -> Lost {
        let status = tokio::time::timeout(GONE, self.child.wait()).await;
        let code = status.ok().and_then(Result::ok).and_then(|status| status.code());
        Lost { code, said: String::from_utf8_lossy(said).into_owned() }
    }
}

/// What was read up to a line with a word.
struct Until {
    /// What came before it, at most so much as was wanted.
    kept: Zeroizing<Vec<u8>>,
    cut: bool,
    /// The number beside the word; nothing where the stream ended before.
    code: Option<i32>,
}

impl Until {
    async fn read(from: &mut (impl AsyncRead + Unpin), word: &str, most: usize) -> Self {
        let mark = format!("\n{word} ").into_bytes();
        let mut found = Self { kept: Zeroizing::default(), cut: false, code: None };
        // What may be the begin of the mark.
        let mut held = Zeroizing::new(Vec::new());
        let mut buffer = Zeroizing::new(vec![0; 32 << 10]);
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            held.extend_from_slice(buffer.get(..count).unwrap_or_default());
            let at = held.windows(mark.len()).position(|part| part == mark);
            let Some(at) = at else {
                let sure = held.len().saturating_sub(mark.len() - 1);
                found.keep(held.drain(..sure).as_slice(), most);
                continue;
            };
            let number = held.get(at + mark.len()..).unwrap_or_default();
            let Some(end) = number.iter().position(|byte| *byte == b'\n') else { continue };
            let number = String::from_utf8_lossy(number.get(..end).unwrap_or_default()).parse().ok();
            found.code = Some(number.unwrap_or(-1));
            held.truncate(at);
            break;
        }
        found.keep(&held, most);
        found
    }

    fn keep(&mut self, bytes: &[u8], most: usize) {
        let room = most.saturating_sub(self.kept.len());
        self.cut |= bytes.len() > room;
        self.kept.extend_from_slice(bytes.get(..bytes.len().min(room)).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, clippy::unwrap_used)]

    use std::pin::Pin;
    use std::task::{Context, Poll};

    use proptest::prelude::*;
    use tokio::io::ReadBuf;

    use super::*;

    async fn shell() -> Shell {
        let word = word();
        let [program, args @ ..] = argv(&word);
        let mut command = Command::new(program);
        command.args(args);
        Shell::start(command, &word).await.ok().unwrap()
    }

    #[tokio::test]
    async fn one_shell_runs_many_commands_whatever_each_does_to_it() {
        let mut shell = shell().await;
        let large = vec![b'x'; 1 << 20];
        for round in 0..3 {
            for (text, stdin, code, stdout, stderr) in [
                ("'cat'", b"a\0b\n\xff".as_slice(), 0, b"a\0b\n\xff".as_slice(), ""),
                ("'cat'", b"", 0, b"", ""),
                // What is left of the input is not the next command.
                ("'true'", large.as_slice(), 0, b"", ""),
                ("'head' '-c' '3'", b"one\ntwo 1 1\nthree\n", 0, b"one", ""),
                ("'sh' '-c' 'cd /; umask 0; trap \"\" TERM; exit 7'", b"", 7, b"", ""),
                ("'printf' 'no end of line'", b"", 0, b"no end of line", ""),
                ("'sh' '-c' 'echo loud >&2; kill -9 $$'", b"", 137, b"", "loud\n"),
            ] {
                let output = shell.run(text, stdin, 1000).await.ok().unwrap();
                assert_eq!((output.code, output.stdout.as_slice()), (code, stdout), "{round}: {text}");
                assert!(output.stderr.starts_with(stderr), "{round}: {text}: {}", output.stderr);
            }
        }
        let output = shell.run("'head' '-c' '300000' '/dev/zero'", b"", 10).await.ok().unwrap();
        assert_eq!((output.stdout.as_slice(), output.cut), ([0; 10].as_slice(), true));
        assert!(shell.lives());
    }

    #[tokio::test]
    async fn a_shell_that_ends_amid_a_command_is_lost_and_one_that_never_speaks_too() {
        let mut shell = shell().await;
        let lost = shell.run("'sh' '-c' 'echo why >&2; kill -9 $PPID'", b"", 10).await.err().unwrap();
        assert_eq!(lost.said, "why\n");
        assert!(!shell.lives());
        let mut command = Command::new("sh");
        command.args(["-c", "echo this account is not available; echo no >&2; exit 3"]);
        let lost = Shell::start(command, "word").await.err().unwrap();
        assert_eq!((lost.code, lost.said.as_str()), (Some(3), "no\n"));
    }

    /// Gives its bytes in pieces.
    struct Pieces(Vec<u8>, usize);

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            let count = self.1.min(self.0.len()).min(into.remaining());
            into.put_slice(&self.0.drain(..count).collect::<Vec<u8>>());
            Poll::Ready(Ok(()))
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_comes_before_the_word_is_kept_as_it_is_in_whatever_pieces_it_comes(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'w'), Just(b' '), any::<u8>()], 0..60),
            piece in 1_usize..9,
            most in 0_usize..70,
        ) {
            let mut all = bytes.clone();
            all.extend_from_slice(b"\nwww 42\n");
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let whole = !bytes.windows(5).any(|part| part == b"\nwww ");
            prop_assume!(whole && !bytes.ends_with(b"\nwww"));
            let found = runtime.block_on(Until::read(&mut Pieces(all, piece), "www", most));
            prop_assert_eq!(found.code, Some(42));
            prop_assert_eq!(found.kept.as_slice(), &bytes[..bytes.len().min(most)]);
            prop_assert_eq!(found.cut, bytes.len() > most);
            let cut_off = runtime.block_on(Until::read(&mut Pieces(bytes.clone(), piece), "www", 100));
            prop_assert_eq!((cut_off.code, cut_off.kept.as_slice()), (None, bytes.as_slice()));
        }
    }
}
