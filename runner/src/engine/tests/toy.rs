//! A tiny world: places are files below `/target`, processes load them when they are restarted.
//!
//! Content of a place is text. `loaded/X` holds the restart marker and what `X` was when the process started.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use stdlib::error::Code;
use stdlib::gate::{Effect, EffectClass, Gate, Permit, Place, Progress, RecordedEffect};
use stdlib::registry::{Kind, Param, Primitive, Registry, Type};
use stdlib::trust::Write;
use stdlib::world::World;
use stdlib::{PrimError, Secret};

pub(super) fn path(name: &str) -> PathBuf {
    Path::new("/target").join(name)
}

pub(super) fn place(name: &str) -> Place {
    Place(format!("file:/target/{name}"))
}

pub(super) fn read(world: &World, name: &str) -> Option<String> {
    world.disk.read(&path(name)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

pub(super) fn write(world: &World, name: &str, content: Option<&str>) -> Result<(), PrimError> {
    let file = path(name);
    let done = match content {
        Some(content) => {
            let folder = file.parent().unwrap_or(Path::new("/"));
            world
                .disk
                .make_dir(folder, 0o755)
                .and_then(|()| world.disk.write_atomic(&file, content.as_bytes(), 0o644))
        }
        None => world.disk.remove(&file),
    };
    done.map_err(|e| PrimError::new(Code::Unavailable, e.to_string()).on(name))
}

pub(super) fn digest(content: Option<&str>) -> String {
    content.map_or("absent".into(), |text| format!("sha256:{}", hex::encode(Sha256::digest(text))))
}

fn text(args: &[Value], n: usize) -> Result<String, PrimError> {
    let value = args.get(n).ok_or_else(|| PrimError::argument(format!("argument {n} is missing")))?;
    Ok(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

/// A copy of a place, in the form by which the scan for leaks knows copies.
fn seal(text: &str) -> Secret {
    Secret::new(json!({ "text": text }).to_string(), "hmac:0")
}

fn unseal(copy: &Secret) -> Option<String> {
    let copy: Value = serde_json::from_slice(copy.expose()).ok()?;
    copy["text"].as_str().map(str::to_owned)
}

async fn put(world: &World, gate: &dyn Gate, name: &str, content: Option<&str>) -> Result<bool, PrimError> {
    let now = read(world, name);
    if now.as_deref() == content {
        return Ok(false);
    }
    let effect = Effect {
        place: place(name),
        before: digest(now.as_deref()),
        after: digest(content),
        class: EffectClass::Restorable,
        backup: now.as_deref().map(seal),
        summary: json!({ "before": { "text": now }, "after": { "text": content } }),
    };
    if gate.effect(effect).await? == Permit::AlreadyDone {
        return Ok(false);
    }
    write(world, name, content)?;
    Ok(true)
}

/// `t::set(name, content)`.
fn set<'a>(w: &'a World, args: &'a [Value], gate: &'a dyn Gate) -> BoxFuture<'a, Result<Value, PrimError>> {
    Box::pin(async move {
        let changed = put(w, gate, &text(args, 0)?, Some(&text(args, 1)?)).await?;
        Ok(json!({ "changed": changed, "name": text(args, 0)? }))
    })
}

/// `t::set_all(names, content)`: several effects in one step; a name `!` in the list fails there.
fn set_all<'a>(
    w: &'a World,
    args: &'a [Value],
    gate: &'a dyn Gate,
) -> BoxFuture<'a, Result<Value, PrimError>> {
    Box::pin(async move {
        for name in args.first().and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if name == "!" {
                return Err(PrimError::new(Code::Unavailable, "half of it is done"));
            }
            put(w, gate, name, Some(&text(args, 1)?)).await?;
        }
        Ok(Value::Null)
    })
}

fn restore<'a>(
    w: &'a World,
    e: &'a RecordedEffect,
    gate: &'a dyn Gate,
) -> BoxFuture<'a, Result<(), PrimError>> {
    Box::pin(async move {
        let name = e.place.0.trim_start_matches("file:/target/").to_owned();
        if read(w, "jammed").is_some_and(|jammed| jammed == name) {
            return Err(PrimError::new(Code::Forbidden, "read-only").on(name));
        }
        let backup = e.backup.as_ref().and_then(unseal);
        let now = read(w, &name);
        let now_digest = digest(now.as_deref());
        if now_digest == e.before {
            return Ok(());
        }
        let effect = Effect {
            place: e.place.clone(),
            before: now_digest,
            after: e.before.clone(),
            class: EffectClass::Restorable,
            backup: now.as_deref().map(seal),
            summary: json!({ "before": { "text": now }, "after": { "text": backup } }),
        };
        if gate.effect(effect).await? == Permit::Apply {
            write(w, &name, backup.as_deref())?;
        }
        Ok(())
    })
}

/// `t::mint(label)`: random; each making is counted in `minted`.
fn mint<'a>(w: &'a World, args: &'a [Value], _: &'a dyn Gate) -> BoxFuture<'a, Result<Value, PrimError>> {
    Box::pin(async move {
        let made = read(w, "minted").unwrap_or_default().lines().count() + 1;
        let label = text(args, 0)?;
        write(w, "minted", Some(&format!("{}{label}\n", read(w, "minted").unwrap_or_default())))?;
        let random: u64 = rand::random();
        let key =
            w.secrets.put(&Secret::new(format!("key-of-{label}-{random:016x}"), format!("spki:{label}")))?;
        Ok(json!({ "cert": format!("{label}-{made}-{random:016x}"), "key": key }))
    })
}

/// `t::leaky()`: makes a key and tells it.
fn leaky<'a>(w: &'a World, _: &'a [Value], _: &'a dyn Gate) -> BoxFuture<'a, Result<Value, PrimError>> {
    Box::pin(async move {
        let key = w.secrets.put(&Secret::new("the-key-itself-9f86d081", "hmac:1"))?;
        Ok(json!({ "key": key, "told": "it is the-key-itself-9f86d081" }))
    })
}

/// `t::stubborn(name, content)`: does not compare, and counts its writes in `writes`.
fn stubborn<'a>(
    w: &'a World,
    args: &'a [Value],
    gate: &'a dyn Gate,
) -> BoxFuture<'a, Result<Value, PrimError>> {
    Box::pin(async move {
        let (name, content) = (text(args, 0)?, text(args, 1)?);
        let now = read(w, &name);
        let effect = Effect {
            place: place(&name),
            before: digest(now.as_deref()),
            after: digest(Some(&content)),
            class: EffectClass::Restorable,
            backup: now.as_deref().map(seal),
            summary: Value::Null,
        };
        if gate.effect(effect).await? == Permit::Apply {
            write(w, &name, Some(&content))?;
            write(w, "writes", Some(&format!("{}x", read(w, "writes").unwrap_or_default())))?;
        }
        Ok(Value::Null)
    })
}

/// `t::restart(name)`: the process loads what lies at `name`.
fn restart<'a>(
    w: &'a World,
    args: &'a [Value],
    gate: &'a dyn Gate,
) -> BoxFuture<'a, Result<Value, PrimError>> {
    Box::pin(async move {
        let name = text(args, 0)?;
        let process = format!("loaded/{name}");
        let now = read(w, &process).unwrap_or_default();
        let before = now.lines().next().unwrap_or_default().to_owned();
        let marker = gate.marker();
        if before != marker {
            let effect = Effect {
                place: Place(format!("file:/target/{process}#marker")),
                before: digest(Some(&before)),
                after: digest(Some(&marker)),
                class: EffectClass::Compensable,
                backup: None,
                summary: json!({ "marker": marker }),
            };
            if gate.effect(effect).await? == Permit::Apply {
                w.clock.sleep(Duration::from_secs(3)).await;
                write(w, &process, Some(&format!("{marker}\n{}", read(w, &name).unwrap_or_default())))?;
            }
        }
        Ok(json!({ "marker": marker }))
    })
}

/// `t::serves(name)`: the process has loaded what lies at `name` now.
fn serves<'a>(w: &'a World, args: &'a [Value], _: &'a dyn Gate) -> BoxFuture<'a, Result<Value, PrimError>> {
    Box::pin(async move {
        let name = text(args, 0)?;
        let loaded = read(w, &format!("loaded/{name}")).unwrap_or_default();
        let loaded = loaded.split_once('\n').map(|(_, content)| content.to_owned());
        let lies = read(w, &name);
        if loaded == lies {
            return Ok(Value::Null);
        }
        let shown = |text: Option<String>| text.unwrap_or_else(|| "nothing".into());
        Err(PrimError::new(Code::Unproved, "it has not loaded it")
            .on(name)
            .expected(shown(lies), shown(loaded)))
    })
}

/// `t::flaky(name, times)`: fails so often, then does what `t::set(name, "ok")` does.
fn flaky<'a>(w: &'a World, args: &'a [Value], gate: &'a dyn Gate) -> BoxFuture<'a, Result<Value, PrimError>> {
    Box::pin(async move {
        let name = text(args, 0)?;
        let tries = read(w, "tries").unwrap_or_default();
        if tries.len() < text(args, 1)?.parse().unwrap_or(0) {
            write(w, "tries", Some(&format!("{tries}x")))?;
            return Err(PrimError::new(Code::Unavailable, "the server is away").on(name));
        }
        put(w, gate, &name, Some("ok")).await.map(Value::from)
    })
}

/// `t::slow(name, seconds)`: sets, then waits.
fn slow<'a>(w: &'a World, args: &'a [Value], gate: &'a dyn Gate) -> BoxFuture<'a, Result<Value, PrimError>> {
    Box::pin(async move {
        put(w, gate, &text(args, 0)?, Some("slow")).await?;
        let seconds: u64 = text(args, 1)?.parse().unwrap_or(0);
        for _ in 0..seconds {
            gate.progress(Progress { text: "it sleeps".into(), done: None });
            if gate.is_late() {
                gate.explain("Nobody wakes it");
            }
            w.clock.sleep(Duration::from_secs(1)).await;
        }
        Ok(Value::Null)
    })
}

/// `t::careless(name, content)`: does not care what the gate says.
fn careless<'a>(
    w: &'a World,
    args: &'a [Value],
    gate: &'a dyn Gate,
) -> BoxFuture<'a, Result<Value, PrimError>> {
    Box::pin(async move {
        let _ = put(w, gate, &text(args, 0)?, Some(&text(args, 1)?)).await;
        Ok(Value::Null)
    })
}

fn panics<'a>(_: &'a World, _: &'a [Value], _: &'a dyn Gate) -> BoxFuture<'a, Result<Value, PrimError>> {
    Box::pin(async move { panic!("a bug in a primitive") })
}

/// `t::read(name)`.
fn get<'a>(w: &'a World, args: &'a [Value], _: &'a dyn Gate) -> BoxFuture<'a, Result<Value, PrimError>> {
    Box::pin(async move { Ok(read(w, &text(args, 0)?).map_or(Value::Null, Value::from)) })
}

/// `t::words(name)`: the words that lie there.
fn words<'a>(w: &'a World, args: &'a [Value], _: &'a dyn Gate) -> BoxFuture<'a, Result<Value, PrimError>> {
    Box::pin(async move { Ok(read(w, &text(args, 0)?).unwrap_or_default().split_whitespace().collect()) })
}

/// `t::is(name, content)`.
fn is<'a>(w: &'a World, args: &'a [Value], _: &'a dyn Gate) -> BoxFuture<'a, Result<Value, PrimError>> {
    Box::pin(async move { Ok((read(w, &text(args, 0)?) == Some(text(args, 1)?)).into()) })
}

/// `t::join(a, b)`.
fn join<'a>(_: &'a World, args: &'a [Value], _: &'a dyn Gate) -> BoxFuture<'a, Result<Value, PrimError>> {
    Box::pin(async move { Ok(format!("{}+{}", text(args, 0)?, text(args, 1)?).into()) })
}

/// `t::view()`: the history as the gate tells it.
fn view<'a>(_: &'a World, _: &'a [Value], gate: &'a dyn Gate) -> BoxFuture<'a, Result<Value, PrimError>> {
    Box::pin(async move { Ok(json!({ "past": gate.history().len(), "parties": ["pd", "kv", "runner"] })) })
}

fn forecast(_: &World, args: &[Value]) -> Result<Vec<Write>, PrimError> {
    Ok(vec![Write {
        place: Place(format!("{}={}", text(args, 0)?, text(args, 1)?)),
        chain: None,
        anchors: None,
    }])
}

const ANY: Param = Param { name: "x", ty: Type::Any, optional: false, doc: "" };

fn primitive(name: &'static str, kind: Kind, run: stdlib::registry::Run) -> Primitive {
    let change = kind == Kind::Change;
    Primitive {
        name,
        kind,
        params: &[ANY, ANY],
        returns: "",
        doc: "",
        example: "",
        run,
        restore: if change { Some(restore) } else { None },
        forecast: if name == "t::set" { Some(forecast) } else { None },
        touches: |_| Vec::new(),
    }
}

/// The toy primitives.
pub(super) fn registry() -> &'static Registry {
    static TOYS: std::sync::OnceLock<Registry> = std::sync::OnceLock::new();
    TOYS.get_or_init(|| {
        Registry::new([
            primitive("t::set", Kind::Change, set),
            primitive("t::set_all", Kind::Change, set_all),
            primitive("t::flaky", Kind::Change, flaky),
            primitive("t::slow", Kind::Change, slow),
            primitive("t::careless", Kind::Change, careless),
            primitive("t::panics", Kind::Change, panics),
            primitive("t::mint", Kind::Make, mint),
            primitive("t::stubborn", Kind::Change, stubborn),
            primitive("t::leaky", Kind::Make, leaky),
            primitive("t::restart", Kind::Settle, restart),
            primitive("t::serves", Kind::Prove, serves),
            primitive("t::read", Kind::Read, get),
            primitive("t::words", Kind::Read, words),
            primitive("t::is", Kind::Read, is),
            primitive("t::join", Kind::Pure, join),
            primitive("t::view", Kind::Read, view),
        ])
    })
}
