//! `rollover new`.

use std::path::Path;

use serde_json::json;
use stdlib::files::SystemDisk;

use super::Context;
use crate::catalog::{ScaffoldError, scaffold, scaffold_name};
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::output;

pub(crate) fn new(context: &Context, name: &str, dir: &Path) -> Result<ExitCode, Failure> {
    let (parent, short) = match name.rsplit_once('/') {
        Some((group, _)) if !scaffold_name(group) => {
            let failure = Failure::new(ExitCode::Usage, ScaffoldError::Name(group.to_owned()).to_string());
            return Err(failure.hint("name a workflow as GROUP/NAME, and a folder for it with `--dir DIR`"));
        }
        Some((group, short)) => (dir.join(group), short),
        None => (dir.to_owned(), name),
    };
    let written = scaffold(&SystemDisk, short, &parent).map_err(|error| {
        let exit = match &error {
            ScaffoldError::Unwritable { .. } => ExitCode::StateUnwritable,
            ScaffoldError::Name(_) | ScaffoldError::Exists(_) => ExitCode::Usage,
        };
        Failure::new(exit, error.to_string())
            .hint("name a workflow as GROUP/NAME, and a folder for it with `--dir DIR`")
    })?;
    if context.json() {
        let files: Vec<_> = written.files.iter().map(|path| path.display().to_string()).collect();
        output::data(
            &json!({"workflow": name, "folder": written.folder.display().to_string(), "files": files})
                .to_string(),
        );
        return Ok(ExitCode::Ok);
    }
    for path in &written.files {
        output::data(&format!("wrote {}", path.display()));
    }
    let folder = written.folder.display();
    output::say(&format!("\nNow:\n  rollover check {folder}\n  rollover run {folder} --sandbox"));
    Ok(ExitCode::Ok)
}
