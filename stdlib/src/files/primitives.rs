//! The namespace `files`.

use std::path::PathBuf;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::change::{Content, io_error, put, restore};
use crate::error::PrimError;
use crate::gate::Gate;
use crate::registry::{Kind, Param, Primitive, Touch, Type};
use crate::secret::{handle_id, not_a_key};
use crate::world::World;

/// The longest text that `files::read` returns.
const MAX_TEXT: usize = 1 << 20;

const PATH: Param = Param {
    name: "path",
    ty: Type::Text,
    optional: false,
    doc: "The file; a relative path starts from the folder in which rollover was started.",
};

/// The primitives of this namespace.
pub const PRIMITIVES: &[Primitive] = &[
    Primitive {
        name: "files::read",
        kind: Kind::Read,
        params: &[PATH],
        returns: "The text of the file.",
        doc: "Reads a text file of this machine, of at most 1 MiB.\n\n\
              Errors: `not-found`; `forbidden`; `invalid` when it is no UTF-8 text, is larger, or holds a private key: \
              what a script reads becomes part of the record, so keys are read as secrets only.",
        example: r#"let hosts = files::read("hosts.yaml");"#,
        run: |world, args, _| Box::pin(async move { read(world, args) }),
        restore: None,
        forecast: None,
        touches: |args| touches(args, false),
    },
    Primitive {
        name: "files::list",
        kind: Kind::Read,
        params: &[Param {
            doc: "The folder; a relative path starts from the folder in which rollover was started.",
            ..PATH
        }],
        returns: "A list of names, sorted; empty where there is no such folder.",
        doc: "Lists what lies in a folder of this machine.\n\nErrors: `forbidden`; `invalid` where it is no folder.",
        example: r#"if "ca-key.pem" in files::list("etcd-ca") { throw #{ message: "a CA lies there" }; }"#,
        run: |world, args, _| Box::pin(async move { list(world, args) }),
        restore: None,
        forecast: None,
        touches: |args| touches(args, false),
    },
    Primitive {
        name: "files::write",
        kind: Kind::Change,
        params: &[
            PATH,
            Param {
                name: "content",
                ty: Type::Any,
                optional: false,
                doc: "What it shall hold: a text, or the handle of a secret.",
            },
            Param {
                name: "mode",
                ty: Type::Text,
                optional: true,
                doc: "Its permissions in octal, e.g. `0640`. Without it: 0600 for secrets and keys, else 0644, and a \
                      file that has the content already keeps the mode that it has.",
            },
        ],
        returns: "A map: `path`, and `changed`, whether it had to be written.",
        doc: "Makes a file of this machine hold a text or a secret, as one act: a reader sees the old content or the \
              new one. Folders that are missing are made, for their owner alone. Does nothing where the file holds it \
              already.\n\n\
              Effect: restorable. Going back restores content and mode, where the file still is as the run left it.\n\n\
              Errors: `forbidden`; `conflict` when somebody else changes the file meanwhile.",
        example: r#"change.change("bundle", files::write("/etc/pki/ca.pem", both));"#,
        run: |world, args, gate| Box::pin(write(world, args, gate)),
        restore: Some(|world, effect, gate| Box::pin(restore(world, effect, gate))),
        forecast: None,
        touches: |args| touches(args, true),
    },
];

fn touches(args: &[Value], write: bool) -> Vec<Touch> {
    let path = args.first().and_then(Value::as_str).unwrap_or_default().to_owned();
    vec![Touch::File { path, write }]
}

fn path_of(world: &World, args: &[Value]) -> Result<PathBuf, PrimError> {
    match args.first().and_then(Value::as_str) {
        Some(path) if !path.is_empty() => Ok(world.folder.join(path)),
        _ => Err(PrimError::argument("`path` is not the path of a file")),
    }
}

fn read(world: &World, args: &[Value]) -> Result<Value, PrimError> {
    let path = path_of(world, args)?;
    let invalid = |message: &str| PrimError::invalid(message).on(path.display().to_string());
    let bytes = Zeroizing::new(world.disk.read(&path).map_err(|error| io_error(&error, &path))?);
    if bytes.len() > MAX_TEXT {
        return Err(invalid("is too large to be read by a script")
            .expected("at most 1 MiB", format!("{} bytes", bytes.len())));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| invalid("is not UTF-8 text"))?;
    if text.contains("PRIVATE KEY-----") {
        return Err(invalid("holds a private key, which must not become part of the record")
            .hint("read it with a primitive that gives a handle, e.g. `cfssl::folder`"));
    }
    Ok(text.into())
}

fn list(world: &World, args: &[Value]) -> Result<Value, PrimError> {
    let path = path_of(world, args)?;
    match world.disk.list(&path) {
        Ok(names) => Ok(names.into()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(json!([])),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            Err(PrimError::invalid("is no folder").on(path.display().to_string()))
        }
        Err(error) => Err(io_error(&error, &path)),
    }
}

async fn write(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let path = path_of(world, args)?;
    let mode = match args.get(2).filter(|mode| !mode.is_null()) {
        None => None,
        Some(mode) => Some(mode_of(mode)?),
    };
    let content = match args.get(1) {
        Some(Value::String(text)) => {
            not_a_key(text, "content")?;
            Content::new(Zeroizing::new(text.clone().into_bytes()), false, mode)
        }
        Some(handle) if handle_id(handle).is_some() => {
            let secret = world.secrets.get(handle)?;
            Content::new(Zeroizing::new(secret.expose().to_vec()), true, mode)
        }
        _ => return Err(PrimError::argument("`content` is neither a text nor the handle of a secret")),
    };
    let changed = put(world, gate, &path, Some(&content)).await?;
    Ok(json!({ "path": path.display().to_string(), "changed": changed }))
}

fn mode_of(value: &Value) -> Result<u32, PrimError> {
    let text = value.as_str().unwrap_or_default();
    let wrong = || {
        PrimError::argument("`mode` is not a file's permissions")
            .expected("octal digits, e.g. `0640`", value.to_string())
    };
    let mode = u32::from_str_radix(text, 8).map_err(|_| wrong())?;
    if (3..=4).contains(&text.len()) && mode <= 0o777 { Ok(mode) } else { Err(wrong()) }
}

#[cfg(test)]
#[path = "primitives_tests.rs"]
mod tests;
