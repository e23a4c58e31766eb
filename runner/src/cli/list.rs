//! `rollover list`.

use serde_json::{Value, json};

use super::{Context, workflows};
use crate::exit_code::ExitCode;
use crate::output::{self, table};

pub(crate) fn list(context: &Context) -> ExitCode {
    let catalog = workflows::catalog(context);
    let mut rows = table::plain(&["workflow", "what it does", "from"]);
    let mut data = Vec::new();
    for entry in catalog.list(&stdlib::files::SystemDisk) {
        let (title, from) = match workflows::load(context, &entry.name) {
            Ok(workflow) => (workflow.manifest.title.clone(), entry.origin.to_string()),
            Err(failure) => (format!("cannot be read: {}", failure.message), entry.origin.to_string()),
        };
        data.push(json!({"workflow": entry.name, "title": title, "from": from}));
        rows.add_row([entry.name.clone(), title, from]);
    }
    if context.json() {
        output::data(&Value::from(data).to_string());
    } else {
        output::data(&table::text(&rows));
        output::say("\n`rollover describe WORKFLOW` tells more of one.");
    }
    ExitCode::Ok
}
