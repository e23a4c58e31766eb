//! `rollover abort`.

use journal::Why;

use super::args::{Dialling, Reach};
use super::session::{self, Agreed};
use super::{Context, resume};
use crate::error::Failure;
use crate::exit_code::ExitCode;

pub(crate) async fn abort(
    context: &Context,
    run: &str,
    reach: &Reach,
    leave_mixed: bool,
    yes: bool,
) -> Result<ExitCode, Failure> {
    let found = resume::Found::of(context, run)?;
    if let Some(failure) = found.over() {
        return Err(failure);
    }
    if !yes {
        let what = found.title();
        let what = if leave_mixed {
            format!("Give up {what} where it stands, and take its mark off the target?")
        } else {
            format!("Give up {what} where it stands? The target stays marked until `--leave-mixed` is given.")
        };
        session::confirm(&what).await?;
    }
    let opened =
        resume::open(context, &found, (reach, Dialling::default()), Why::Abort, Agreed::default()).await?;
    let ending = opened.run.abort(leave_mixed).await;
    Ok(opened.end(context, ending).await)
}
