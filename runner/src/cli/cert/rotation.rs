//! `rollover cert successor`, `leaf`, `install`: a rotation in a PKI folder, one step at a time, by hand. They call the
//! primitives that runs call, through a gate that remembers, so that what fails half way is put back.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use futures::future::BoxFuture;
use serde_json::{Value, json};
use stdlib::cert::Certificate;
use stdlib::cfssl::Request;
use stdlib::gate::{Effect, Gate, Past, Permit, Progress, RecordedEffect};
use stdlib::{PrimError, World};

use super::args::{Folder, Install, Leaf, Successor};
use super::files::{self, failed, key_beside, warn};
use super::make::tell_with;
use super::source::{self, Found, Source};
use super::{args::Passphrase, here};
use crate::cli::Context;
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::output;

/// Lets every change pass, and remembers it.
#[derive(Default)]
struct Remembering(Mutex<Vec<RecordedEffect>>);

impl Gate for Remembering {
    fn effect(&self, effect: Effect) -> BoxFuture<'_, Result<Permit, PrimError>> {
        let Effect { place, before, after, backup, .. } = effect;
        let mut passed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        passed.push(RecordedEffect { place, before, after, backup });
        Box::pin(std::future::ready(Ok(Permit::Apply)))
    }
    fn progress(&self, _: Progress) {}
    fn marker(&self) -> String {
        String::new()
    }
    fn history(&self) -> Vec<Past> {
        Vec::new()
    }
}

/// Calls a primitive. Where it fails, what it has changed is put back, the last first.
async fn call(world: &World, name: &str, args: &[Value]) -> Result<Value, Failure> {
    let unknown = || failed(PrimError::internal(format!("there is no primitive `{name}`")));
    let primitive = stdlib::registry().get(name).ok_or_else(unknown)?;
    let gate = Remembering::default();
    let error = match (primitive.run)(world, args, &gate).await {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let passed = gate.0.into_inner().unwrap_or_else(PoisonError::into_inner);
    for effect in passed.iter().rev() {
        if let Some(restore) = primitive.restore
            && let Err(error) = restore(world, effect, &Remembering::default()).await
        {
            warn(&format!("not put back as it was: {error}"));
        }
    }
    Err(failed(error))
}

/// What lies in the folder.
async fn fact(world: &World, folder: &Folder) -> Result<Value, Failure> {
    let options = json!({
        "passphrase_file": folder.passphrase_file,
        "cfssl_lax": folder.lax.cfssl_lax,
    });
    let fact = call(world, "cfssl::folder", &[json!(folder.folder), options]).await?;
    for note in fact.get("notes").and_then(Value::as_array).into_iter().flatten() {
        warn(note.as_str().unwrap_or_default());
    }
    Ok(fact)
}

fn at<'a>(value: &'a Value, field: &str) -> &'a Value {
    value.get(field).unwrap_or(&Value::Null)
}

fn lines(value: &Value, field: &str) -> Vec<String> {
    let all = at(value, field).as_array().into_iter().flatten();
    all.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The first certificate of what a primitive gave.
fn certificate(value: &Value) -> Result<Certificate, Failure> {
    let text = at(value, "cert").as_str().unwrap_or_default();
    let chain = stdlib::cert::parse_many(text.as_bytes(), "the certificate").map_err(failed)?;
    chain.into_iter().next().ok_or_else(|| failed(PrimError::internal("a chain without certificates")))
}

/// `rollover cert successor`.
pub(super) async fn successor(context: &Context, args: &Successor) -> Result<ExitCode, Failure> {
    let world = here();
    let folder = fact(&world, &args.folder).await?;
    let csr: Value = match &args.csr {
        None => Value::Null,
        Some(path) => {
            let what = path.display().to_string();
            let csr = stdlib::cfssl::parse_json(&files::read(path)?, &what).map_err(failed)?;
            // The primitive would name the folder's own.
            Request::read(&csr, &what, args.folder.lax.rules()).map_err(failed)?;
            csr
        }
    };
    let options = json!({ "cfssl_lax": args.folder.lax.cfssl_lax });
    let next = call(&world, "cfssl::successor", &[folder.clone(), csr, options]).await?;
    let both = call(&world, "bundle::of", &[json!([next, at(&folder, "ca")])]).await?;
    let done = call(&world, "cfssl::stage_files", &[folder, next.clone(), both]).await?;
    let adopted = at(&next, "adopted") == true;
    tell_with(
        context,
        Some(&certificate(&next)?),
        None,
        &lines(&done, "changed"),
        json!({ "adopted": adopted }),
    );
    if adopted {
        output::say("somebody had begun with this CA: it is adopted, and no second one was made");
    }
    Ok(ExitCode::Ok)
}

/// `rollover cert install`.
pub(super) async fn install(context: &Context, args: &Install) -> Result<ExitCode, Failure> {
    let world = here();
    let folder = fact(&world, &args.folder).await?;
    let next = match &args.ca {
        Some(path) => {
            let passphrase = Passphrase { passphrase_file: args.folder.passphrase_file.clone() };
            let key = passphrase.key(&args.ca_key.clone().unwrap_or_else(|| key_beside(path)))?;
            stdlib::ca::to_value(&world, &files::certificate(path)?, &key).map_err(failed)?
        }
        None => at(&folder, "successor").clone(),
    };
    if next.is_null() {
        return Err(Failure::new(ExitCode::ObjectMissing, "there is no successor in the folder")
            .on(args.folder.folder.display().to_string())
            .hint("make one with `rollover cert successor FOLDER`, or name a CA with `--ca FILE`"));
    }
    let done = call(&world, "cfssl::install", &[folder, next.clone()]).await?;
    let retired = at(&done, "retired");
    tell_with(
        context,
        Some(&certificate(&next)?),
        None,
        &lines(&done, "changed"),
        json!({ "retired": retired }),
    );
    Ok(ExitCode::Ok)
}

/// `rollover cert leaf`.
pub(super) async fn leaf(context: &Context, args: &Leaf) -> Result<ExitCode, Failure> {
    let world = here();
    let folder = fact(&world, &args.folder).await?;
    let request =
        one_of(&folder, "requests", &args.name, "request", "write NAME.json, as `cfssl gencert` takes it")?;
    let profile =
        one_of(&folder, "profiles", &args.profile, "profile", "name one of these with `--profile NAME`")?;
    let signer = match at(&folder, "successor") {
        Value::Null => at(&folder, "ca"),
        next => next,
    };
    let [cert_path, key_path] =
        [".pem", "-key.pem"].map(|ending| args.folder.folder.join(format!("{}{ending}", args.name)));
    let in_use = in_use(context, args, &world, &cert_path, &key_path).await?;
    let options = json!({ "cfssl_lax": args.folder.lax.cfssl_lax });
    let made = call(&world, "cfssl::leaf", &[signer.clone(), request, profile, in_use, options]).await?;
    let leaf = certificate(&made)?;
    let (adopted, why) = (at(&made, "adopted") == true, at(&made, "why").as_str().unwrap_or_default());
    let same = cert_path.exists() && files::certificates(&cert_path)?.first() == Some(&leaf);
    if (cert_path.exists() || key_path.exists()) && !same && !args.force {
        let why = if adopted { "the leaf in use is another" } else { why };
        return Err(Failure::new(ExitCode::Parameter, "is there already, and is not written over")
            .on(cert_path.display().to_string())
            .hint(format!("it is not kept ({why}): move it away, or pass `--force`")));
    }
    let done = call(&world, "cfssl::write_leaf", &[folder, json!(args.name), made.clone()]).await?;
    let added = lines(&made, "added");
    let more = json!({ "adopted": adopted, "why": why, "added": added });
    tell_with(context, Some(&leaf), None, &lines(&done, "changed"), more);
    for warning in lines(&made, "warnings") {
        warn(&warning);
    }
    if adopted {
        output::say("the leaf in use is good, and is kept");
    } else {
        output::say(&format!("a new leaf: of the one in use, {why}"));
    }
    if !added.is_empty() {
        output::say(&format!("with the old one's names besides those of the request: {}", added.join(", ")));
    }
    Ok(ExitCode::Ok)
}

/// A request or a profile of the folder.
fn one_of(folder: &Value, field: &str, name: &str, what: &str, hint: &str) -> Result<Value, Failure> {
    let all = at(folder, field);
    if let Some(found) = all.get(name) {
        return Ok(found.clone());
    }
    let names = all.as_object().into_iter().flat_map(|map| map.keys()).map(|name| format!("`{name}`"));
    Err(Failure {
        expected: Some(names.collect::<Vec<_>>().join(", ")),
        found: Some(format!("`{}`", name.escape_debug())),
        ..Failure::new(ExitCode::ObjectMissing, format!("there is no such {what}"))
            .on(at(folder, "path").as_str().unwrap_or_default())
            .hint(hint)
    })
}

/// The leaf in use and its key, as the fact of a Secret has them; nothing where there is none.
async fn in_use(
    context: &Context,
    args: &Leaf,
    world: &World,
    cert_path: &Path,
    key_path: &Path,
) -> Result<Value, Failure> {
    let passphrase = Passphrase { passphrase_file: args.folder.passphrase_file.clone() };
    let (chain, key) = match &args.in_use {
        None if !cert_path.exists() => return Ok(json!({})),
        None => {
            let key = if key_path.exists() { Some(passphrase.key(key_path)?) } else { None };
            (files::certificates(cert_path)?, key)
        }
        Some(text) => {
            let Source::Secret(namespace, name) = Source::of(text)? else {
                return Err(Failure::new(ExitCode::Usage, "is no Secret")
                    .on(text.clone())
                    .hint("write `secret/NAMESPACE/NAME`"));
            };
            let named = passphrase.named()?;
            let (_, items) =
                source::secret(context, &args.cluster, &namespace, &name, named.as_ref()).await?;
            let (mut chain, mut key) = (Vec::new(), None);
            for item in items {
                match (item.name.as_str(), item.key) {
                    ("tls.crt", _) => chain = item.certificates,
                    ("tls.key", Some(Found::Open(open))) => key = Some(open),
                    _ => {}
                }
            }
            (chain, key)
        }
    };
    if chain.is_empty() {
        return Ok(json!({}));
    }
    let text = stdlib::bundle::encode(&chain).map_err(failed)?;
    let handle = key
        .map(|key| key.to_secret().and_then(|secret| world.secrets.put(&secret)))
        .transpose()
        .map_err(failed)?;
    Ok(json!({ "tls.crt": text, "tls.key": handle }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use stdlib::files::{Fault, SimDisk};
    use stdlib::world::Disk as _;

    use super::*;

    const CSR: &str = r#"{"CN":"TiDB","names":[{"C":"US"}]}"#;
    const CONFIG: &str =
        r#"{"signing":{"profiles":{"internal":{"expiry":"8760h","usages":["server auth"]}}}}"#;

    fn folder() -> (SimDisk, World) {
        let disk = SimDisk::new();
        let request = stdlib::cfssl::Request::from_json(CSR.as_bytes(), "ca-csr.json").unwrap();
        let (ca, key) = stdlib::ca::create(&request, super::super::now()).unwrap();
        disk.make_dir(Path::new("/pki"), 0o700).unwrap();
        let key = key.to_pem().unwrap();
        for (name, text, mode) in [
            ("ca.pem", ca.pem().as_str(), 0o644),
            ("ca-key.pem", key.as_str(), 0o600),
            ("ca-csr.json", CSR, 0o644),
            ("ca-config.json", CONFIG, 0o644),
        ] {
            disk.write_atomic(&Path::new("/pki").join(name), text.as_bytes(), mode).unwrap();
        }
        let world = World { disk: Arc::new(disk.clone()), ..World::system(None, "/".into()) };
        (disk, world)
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    /// Whichever write fails, of those of the beginning and of those of the end: all is as it was.
    #[test]
    fn what_fails_half_way_is_put_back() {
        block_on(async {
            let (disk, world) = folder();
            let fact = call(&world, "cfssl::folder", &[json!("/pki")]).await.unwrap();
            let next = call(&world, "cfssl::successor", std::slice::from_ref(&fact)).await.unwrap();
            let both = call(&world, "bundle::of", &[json!([next, fact["ca"]])]).await.unwrap();
            for (name, args) in [
                ("cfssl::stage_files", vec![fact.clone(), next.clone(), both]),
                ("cfssl::install", vec![fact, next]),
            ] {
                let mut failures = 0;
                loop {
                    let before = disk.files();
                    disk.inject(Fault::Write(failures + 1));
                    let outcome = call(&world, name, &args).await;
                    disk.heal();
                    if outcome.is_ok() {
                        assert_ne!(disk.files(), before);
                        break;
                    }
                    assert_eq!(disk.files(), before, "{name}, write {}", failures + 1);
                    failures += 1;
                }
                assert!(failures >= 4, "{name} makes several writes: {failures}");
            }
        });
    }

    #[test]
    fn a_leaf_needs_a_request_that_is_there() {
        let folder = json!({ "path": "/pki", "requests": { "pd-server": {} } });
        let refusal = one_of(&folder, "requests", "pd", "request", "…").unwrap_err();
        assert_eq!(
            (refusal.exit, refusal.expected.as_deref()),
            (ExitCode::ObjectMissing, Some("`pd-server`"))
        );
    }
}
