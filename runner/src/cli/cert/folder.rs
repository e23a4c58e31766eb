//! `rollover cert folder`.

use serde_json::json;
use stdlib::cert::describe;
use stdlib::cfssl::folder::{Found, Reading, read_with};
use stdlib::files::SystemDisk;

use super::args::{Folder, Passphrase};
use super::files::failed;
use super::inspect::note;
use super::lines::Facts;
use super::now;
use super::show::{left, minute, whose};
use crate::cli::Context;
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::output;

pub(super) fn folder(context: &Context, args: &Folder) -> Result<ExitCode, Failure> {
    let passphrase = Passphrase { passphrase_file: args.passphrase_file.clone() };
    let reading = Reading { rules: args.lax.rules(), passphrase: passphrase.named()?, expired: false };
    let folder = read_with(&SystemDisk, &args.folder, now(), &reading).map_err(failed)?;
    let profiles: Vec<&String> = folder.config.profiles.keys().collect();
    let requests: Vec<&String> = folder.requests.keys().collect();
    if context.json() {
        let value = json!({
            "folder": args.folder.display().to_string(),
            "ca": describe(&folder.ca.certificate),
            "successor": folder.successor.as_ref().map(|one| describe(&one.certificate)),
            "found": folder.found.word(),
            "profiles": profiles,
            "requests": requests,
            "notes": folder.notes,
        });
        output::data(&value.to_string());
        return Ok(ExitCode::Ok);
    }
    let mut facts = Facts::under(&args.folder.display().to_string());
    let told = |one: &stdlib::cert::Certificate| {
        let print = one.fingerprint();
        format!(
            "{}, until {}, {} ({}…)",
            whose(one),
            minute(one.not_after()),
            left(one, now()),
            print.get(..15).unwrap_or_default()
        )
    };
    facts.fact("CA", &told(&folder.ca.certificate));
    let key = if folder.ca.key.is_some() { "is there, and is the CA's" } else { "is not there" };
    facts.fact("its key", key);
    if let Some(next) = &folder.successor {
        facts.fact("successor", &told(&next.certificate));
    }
    facts.fact("state", state(folder.found));
    let names = |all: &[&String]| all.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    facts.fact("profiles", &names(&profiles));
    facts.fact("requests", &names(&requests));
    output::data(&facts.text());
    for text in &folder.notes {
        output::data(&note(text));
    }
    Ok(ExitCode::Ok)
}

/// How far a person has come with the page's first section.
fn state(found: Found) -> &'static str {
    match found {
        Found::Untouched => "no rotation was begun by hand",
        Found::CaMoved => "begun by hand: the CA was moved to ca.old.pem, and there is no new one yet",
        Found::CaMade => "begun by hand: there is a new CA; a run adopts it and makes no second one",
        Found::Bundled => "begun by hand: ca.pem holds the old and the new CA; a run goes on from there",
    }
}
