//! `rollover cert pem`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use stdlib::cert::pem::{Block, Scan};
use stdlib::pem::{again, blocks, describe, is_key, join, label};

use super::args::{Out, Pem, TextOut};
use super::files::{File, failed, read, warn};
use super::inspect::note;
use super::lines::table;
use crate::cli::Context;
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::output::{self, table as tables};

pub(super) fn pem(context: &Context, command: Pem) -> Result<ExitCode, Failure> {
    match command {
        Pem::List { file } => list(context, &file),
        Pem::Split { file, out } => split(context, &file, &out),
        Pem::Normalise { file, out } => write(context, &[file], &out),
        Pem::Join { files, out } => write(context, &files, &out),
    }
}

fn scan(path: &Path) -> Result<Scan, Failure> {
    blocks(&read(path)?, &path.display().to_string()).map_err(failed)
}

fn list(context: &Context, path: &Path) -> Result<ExitCode, Failure> {
    let found = scan(path)?;
    if context.json() {
        let all: Vec<Value> = found.blocks.iter().map(describe).collect();
        output::data(&json!({ "blocks": all, "notes": found.notes }).to_string());
        return Ok(ExitCode::Ok);
    }
    let mut rows = table(&["#", "line", "block", "bytes", ""]);
    for (index, block) in found.blocks.iter().enumerate() {
        let sealed = block.encrypted_headers || block.label == "ENCRYPTED PRIVATE KEY";
        rows.add_row([
            (index + 1).to_string(),
            block.line.to_string(),
            label(block).to_owned(),
            block.der.len().to_string(),
            if sealed { "encrypted".to_owned() } else { String::new() },
        ]);
    }
    tables::right(&mut rows, 1);
    tables::right(&mut rows, 3);
    output::data(&tables::text(&rows));
    for text in &found.notes {
        output::data(&note(text));
    }
    Ok(ExitCode::Ok)
}

/// The ending of a block's file: numbered where there are several of one kind.
fn ending(block: &Block, number: usize, of: usize) -> String {
    let number = if of > 1 { format!("-{number}") } else { String::new() };
    match label(block) {
        _ if is_key(block) => format!("{number}-key.pem"),
        "CERTIFICATE REQUEST" => format!("{number}.csr"),
        _ => format!("{number}.pem"),
    }
}

fn kind(block: &Block) -> u8 {
    match label(block) {
        _ if is_key(block) => 0,
        "CERTIFICATE REQUEST" => 1,
        _ => 2,
    }
}

fn split(context: &Context, path: &Path, out: &Out) -> Result<ExitCode, Failure> {
    let found = scan(path)?;
    let what = path.display().to_string();
    // Parameters of a curve stand before the key that repeats them.
    let all: Vec<&Block> = found.blocks.iter().filter(|block| block.label != "EC PARAMETERS").collect();
    let mut files = Vec::new();
    for (index, block) in all.iter().enumerate() {
        let of = all.iter().filter(|other| kind(other) == kind(block)).count();
        let number = all.iter().take(index + 1).filter(|other| kind(other) == kind(block)).count();
        let text = again(block, &what).map_err(failed)?;
        let path: PathBuf = out.path(path, &ending(block, number, of));
        let file = if is_key(block) { File::private(path, &text) } else { File::public(path, &text) };
        files.push((!is_key(block), file));
    }
    files.sort_by_key(|(public, _)| *public);
    let files: Vec<File> = files.into_iter().map(|(_, file)| file).collect();
    let written = out.write(&files)?;
    if context.json() {
        output::data(&json!({ "written": written }).to_string());
    } else {
        output::data(&written.join("\n"));
    }
    Ok(ExitCode::Ok)
}

/// Writes the blocks of files anew, in order.
fn write(context: &Context, paths: &[PathBuf], out: &TextOut) -> Result<ExitCode, Failure> {
    let mut all = Vec::new();
    for path in paths {
        let found = scan(path)?;
        for text in &found.notes {
            warn(&format!("{}: {text}", path.display()));
        }
        all.extend(found.blocks);
    }
    let what = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    let text = join(&all, &what).map_err(failed)?;
    let keys = all.iter().any(is_key);
    if context.json() && out.out.is_none() && !keys {
        output::data(&json!({ "pem": text.as_str() }).to_string());
        return Ok(ExitCode::Ok);
    }
    let written = if keys { out.write_private(&text)? } else { out.write(&text)? };
    if let Some(path) = written {
        let line = if context.json() { json!({ "written": [path] }).to_string() } else { path };
        output::data(&line);
    }
    Ok(ExitCode::Ok)
}
