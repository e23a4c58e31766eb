//! What the primitives of this namespace do with their arguments.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::opinion::{Opinion, Question, differences, names_of, who};
use super::primitives::{moment, options};
use super::{Certificate, Key, KeyKind, SigningRequest, describe, describe_request, pem};
use crate::bundle;
use crate::cfssl::{Request, Rules};
use crate::error::PrimError;
use crate::files::change::io_error;
use crate::files::read_at_most;
use crate::secret::{Secret, handle_id};
use crate::trust::{Usage, Verifier};
use crate::world::World;

fn arg(args: &[Value], index: usize) -> &Value {
    args.get(index).unwrap_or(&Value::Null)
}

fn wrong(message: &str, expected: &str, hint: &str) -> PrimError {
    PrimError::argument(message).expected(expected, "something else").hint(hint)
}

/// `cert::inspect(pem)`.
pub(super) fn inspect(args: &[Value]) -> Result<Value, PrimError> {
    let text = arg(args, 0)
        .as_str()
        .ok_or_else(|| wrong("`pem` is no text", "PEM text", "pass the content of the file"))?
        .as_bytes();
    let found = pem::scan(text, "the text")?;
    let is_request = |block: &pem::Block| block.label.ends_with("CERTIFICATE REQUEST");
    let only_requests = !found.blocks.is_empty() && found.blocks.iter().all(is_request);
    let requests = found
        .blocks
        .iter()
        .filter(|block| is_request(block))
        .map(|block| {
            SigningRequest::from_der(&block.der).map(|request| describe_request(&request)).map_err(|error| {
                PrimError {
                    message: format!("line {}: {}", block.line, error.message),
                    ..error.on("the text")
                }
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    if only_requests {
        return Ok(json!({ "certificates": [], "requests": requests, "notes": found.notes }));
    }
    let parsed = super::parse(text, "the text")?;
    let all: Vec<Value> = parsed.certificates.iter().map(describe).collect();
    let notes: Vec<&String> =
        parsed.notes.iter().filter(|note| !note.contains("CERTIFICATE REQUEST")).collect();
    Ok(json!({ "certificates": all, "requests": requests, "notes": notes }))
}

/// `cert::matches(cert, key)`.
pub(super) fn matches(args: &[Value]) -> Result<Value, PrimError> {
    let chain = bundle::certificates(arg(args, 0), "cert")?;
    let leaf =
        chain.first().ok_or_else(|| wrong("`cert` holds no certificate", "PEM text", "pass a leaf"))?;
    let key = arg(args, 1);
    let fingerprint = handle_id(key).and_then(|_| key.get("fp")).and_then(Value::as_str);
    match fingerprint {
        Some(fingerprint) if fingerprint.starts_with("spki:") => {
            Ok((fingerprint == leaf.spki_fingerprint()).into())
        }
        _ => Err(wrong(
            "`key` is no private key's handle",
            "a handle",
            "pass what `cert::read_key`, `cert::key` or `k8s::secret` gave",
        )),
    }
}

fn question(value: Option<&Value>, now: OffsetDateTime) -> Result<Question, PrimError> {
    let empty = Map::new();
    let fields = options(value)?.unwrap_or(&empty);
    let usage = match fields.get("usage").and_then(Value::as_str) {
        None | Some("server") => Usage::Server,
        Some("client") => Usage::Client,
        Some(other) => {
            return Err(PrimError::argument("`usage` is not known")
                .expected("`server` or `client`", format!("`{}`", other.escape_debug()))
                .hint("write `usage: \"server\"`"));
        }
    };
    let texts = |field: &str| -> Result<Vec<String>, PrimError> {
        match fields.get(field) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::String(one)) => Ok(vec![one.clone()]),
            Some(Value::Array(all)) => all
                .iter()
                .map(|one| one.as_str().map(str::to_owned))
                .collect::<Option<_>>()
                .ok_or_else(|| {
                    wrong(&format!("`{field}` is no list of texts"), "texts alone", "write each in quotes")
                }),
            Some(_) => Err(wrong(
                &format!("`{field}` is neither a text nor a list of texts"),
                "a text or a list of texts",
                "write it in quotes",
            )),
        }
    };
    let mut names = texts("names")?;
    names.extend(texts("name")?);
    Ok(Question { usage, names, allowed_cn: texts("allowed_cn")?, at: moment(fields.get("at"), now)? })
}

fn told(opinion: &Opinion, anchors: &[Certificate]) -> Map<String, Value> {
    let mut fields = Map::new();
    match &opinion.verdict {
        Ok(index) => {
            let anchor = anchors.get(*index);
            fields.insert("accepted".into(), true.into());
            fields.insert("anchor".into(), anchor.map(Certificate::fingerprint).into());
            fields.insert("subject".into(), anchor.map(Certificate::subject_text).into());
        }
        Err(rejection) => {
            fields.insert("accepted".into(), false.into());
            fields.insert("anchor".into(), Value::Null);
            fields.insert("code".into(), rejection.code.clone().into());
            fields.insert("reason".into(), rejection.text.clone().into());
        }
    }
    fields
}

/// Opinions as a value: what `cert::opinions` and `rollover cert verify --output json` give.
pub fn opinions_value(
    all: &[Opinion],
    chain: &[Certificate],
    anchors: &[Certificate],
    question: &Question,
) -> Value {
    let agree = all.iter().all(|one| one.verdict.is_ok()) || all.iter().all(|one| one.verdict.is_err());
    let list: Vec<Value> = all
        .iter()
        .map(|one| {
            let mut fields = told(one, anchors);
            fields.insert("verifier".into(), names_of(one.verifier).into());
            fields.insert("who".into(), who(one.verifier).into());
            Value::Object(fields)
        })
        .collect();
    json!({ "agree": agree, "opinions": list, "differences": differences(all, chain, anchors, question) })
}

/// `cert::opinions(chain, anchors, [options])`.
pub(super) fn opinions(args: &[Value], now: OffsetDateTime) -> Result<Value, PrimError> {
    let chain = bundle::certificates(arg(args, 0), "chain")?;
    let anchors = bundle::certificates(arg(args, 1), "anchors")?;
    let question = question(args.get(2), now)?;
    let all = super::opinions(&chain, &anchors, &question);
    Ok(opinions_value(&all, &chain, &anchors, &question))
}

/// `cert::verify(chain, anchors, verifier, [options])`.
pub(super) fn verify(args: &[Value], now: OffsetDateTime) -> Result<Value, PrimError> {
    let chain = bundle::certificates(arg(args, 0), "chain")?;
    let anchors = bundle::certificates(arg(args, 1), "anchors")?;
    let wanted = match arg(args, 2).as_str() {
        Some("all") => None,
        Some("webpki") => Some(Verifier::Webpki),
        Some("go") => Some(Verifier::Go),
        Some("openssl") => Some(Verifier::Openssl),
        _ => {
            return Err(PrimError::argument("`verifier` is not known")
                .expected("`webpki`, `go`, `openssl` or `all`", arg(args, 2).to_string())
                .hint("write `\"all\"` to hear them all"));
        }
    };
    let question = question(args.get(3), now)?;
    let all = super::opinions(&chain, &anchors, &question);
    let asked = || all.iter().filter(|one| wanted.is_none_or(|wanted| one.verifier == wanted));
    let counts = asked().find(|one| one.verdict.is_err()).or_else(|| asked().next());
    Ok(counts.map_or(Value::Null, |one| Value::Object(told(one, &anchors))))
}

fn key_value(world: &World, key: &Key) -> Result<Value, PrimError> {
    let handle = world.secrets.put(&key.to_secret()?)?;
    Ok(json!({ "key": handle, "kind": key.kind().to_string(), "spki": key.fingerprint() }))
}

/// `cert::key([kind])`.
pub(super) fn make_key(world: &World, args: &[Value]) -> Result<Value, PrimError> {
    let kind = match arg(args, 0) {
        Value::Null => KeyKind::P256,
        Value::String(text) => KeyKind::parse(text)?,
        other => {
            return Err(PrimError::argument("`kind` is no text")
                .expected("as `rsa 4096`", other.to_string())
                .hint("write it in quotes"));
        }
    };
    key_value(world, &Key::generate(kind)?)
}

/// `cert::read_key(path, [options])`.
pub(super) fn read_key(world: &World, args: &[Value]) -> Result<Value, PrimError> {
    let path = arg(args, 0).as_str().filter(|path| !path.is_empty());
    let path =
        world.folder.join(path.ok_or_else(|| wrong("`path` is no path", "a path", "name the key file"))?);
    let passphrase = passphrase_of_options(world, args.get(1))?;
    let bytes = read_at_most(world.disk.as_ref(), &path, pem::MAX_BYTES)
        .map(Zeroizing::new)
        .map_err(|error| io_error(&error, &path))?;
    let mode = world.disk.mode(&path).map_err(|error| io_error(&error, &path))?;
    let key = Key::from_bytes(&bytes, &path.display().to_string(), passphrase.as_ref())?;
    let mut value = key_value(world, &key)?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("mode".into(), format!("{mode:04o}").into());
    }
    Ok(value)
}

/// `cert::request(request, [key])`.
pub(super) fn make_request(world: &World, args: &[Value]) -> Result<Value, PrimError> {
    let own = match arg(args, 1) {
        Value::Null => None,
        handle => Some(Key::from_secret(&world.secrets.get(handle)?)?),
    };
    let request = Request::read_for(arg(args, 0), "the request", Rules::Strict, own.as_ref())?;
    let key = own.map_or_else(|| Key::generate(request.key), Ok)?;
    let csr = request.signing_request(&key)?;
    let handle = world.secrets.put(&key.to_secret()?)?;
    Ok(json!({ "csr": csr, "key": handle, "spki": key.fingerprint() }))
}

/// The passphrase in the file that options name as `passphrase_file`.
pub(crate) fn passphrase_of_options(
    world: &World,
    value: Option<&Value>,
) -> Result<Option<Secret>, PrimError> {
    let file = options(value)?.and_then(|fields| fields.get("passphrase_file"));
    let Some(file) = file.filter(|file| !file.is_null()) else { return Ok(None) };
    let path = file.as_str().ok_or_else(|| {
        wrong("`passphrase_file` is no path", "a path", "name the file whose first line is the passphrase")
    })?;
    let path = world.folder.join(path);
    let bytes = read_at_most(world.disk.as_ref(), &path, pem::MAX_BYTES)
        .map(Zeroizing::new)
        .map_err(|error| io_error(&error, &path))?;
    Ok(Some(super::passphrase(&bytes)))
}
