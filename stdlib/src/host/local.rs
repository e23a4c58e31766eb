//! This machine, without SSH.

use std::process::Stdio;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use zeroize::Zeroizing;

use super::port::Output;
use super::posix::{Job, Transport};
use crate::error::{Code, PrimError};

/// How much of a complaint is kept.
pub(super) const COMPLAINT: usize = 16 << 10;

/// Runs commands on this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Local;

impl Transport for Local {
    fn exec<'a>(&'a self, job: Job<'a>) -> BoxFuture<'a, Result<Output, PrimError>> {
        Box::pin(async move {
            let (program, args) =
                job.argv.split_first().ok_or_else(|| PrimError::argument("an empty command"))?;
            let mut command = tokio::process::Command::new(program);
            command.args(args);
            spawn(command, job.stdin, job.within, job.most).await
        })
    }
}

/// Runs a child of this process until it ends, `within` has passed, or the caller goes away.
pub(super) async fn spawn(
    mut command: tokio::process::Command,
    stdin: &[u8],
    within: Duration,
    most: usize,
) -> Result<Output, PrimError> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command
        .spawn()
        .map_err(|error| PrimError::new(Code::Unavailable, format!("cannot run `{program}`: {error}")))?;
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let work = async {
        let feed = async {
            if let Some(mut input) = input {
                // A program that does not read to the end is no failure of ours.
                let _ = input.write_all(stdin).await;
                let _ = input.shutdown().await;
            }
        };
        let ((), out, err) = tokio::join!(feed, drain(output, most), drain(errors, COMPLAINT));
        (child.wait().await, out, err)
    };
    let (status, (stdout, cut), (stderr, _)) = tokio::time::timeout(within, work).await.map_err(|_| {
        PrimError::new(Code::Timeout, format!("`{program}` did not end within {}s", within.as_secs()))
    })?;
    let status = status
        .map_err(|error| PrimError::new(Code::Unavailable, format!("`{program}` was lost: {error}")))?;
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    let code = status.code().or(signal.map(|signal| 128 + signal)).unwrap_or(-1);
    Ok(Output { code, stdout, stderr: String::from_utf8_lossy(&stderr).into_owned(), cut })
}

/// Reads to the end, and keeps at most so many bytes: a writer must not block because nobody wants more.
async fn drain(from: Option<impl AsyncRead + Unpin>, most: usize) -> (Zeroizing<Vec<u8>>, bool) {
    let mut kept = Zeroizing::new(Vec::new());
    let Some(mut from) = from else { return (kept, false) };
    let mut buffer = Zeroizing::new(vec![0; 32 << 10]);
    let mut cut = false;
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let room = most.saturating_sub(kept.len());
        cut |= count > room;
        kept.extend_from_slice(buffer.get(..count.min(room)).unwrap_or_default());
    }
    (kept, cut)
}
