//! `rollover abort`.

use journal::Why;

use super::session::{self, Agreed};
use super::{Context, resume};
use crate::error::Failure;
use crate::exit_code::ExitCode;

pub(crate) async fn abort(
    context: &Context,
    run: &str,
    leave_mixed: bool,
    yes: bool,
) -> Result<ExitCode, Failure> {
    if !yes {
        let what = if leave_mixed {
            format!("Give up run {run} where it stands, and take its mark off the target?")
        } else {
            format!(
                "Give up run {run} where it stands? The target stays marked until `--leave-mixed` is given."
            )
        };
        session::confirm(&what).await?;
    }
    let run = resume::open(context, run, Why::Abort, Agreed::default()).await?;
    Ok(run.abort(leave_mixed).await.exit)
}
