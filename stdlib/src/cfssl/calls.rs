//! What the primitives of this namespace do with their arguments.

use serde_json::{Value, json};

use super::folder::{self, Authority};
use super::install::path_of;
use super::{Profile, Request, Rules, adopt};
use crate::ca;
use crate::cert::{Certificate, Key, San, SigningRequest, date};
use crate::error::PrimError;
use crate::world::World;

fn arg(args: &[Value], index: usize) -> &Value {
    args.get(index).unwrap_or(&Value::Null)
}

fn given(args: &[Value], index: usize) -> Option<&Value> {
    args.get(index).filter(|value| !value.is_null())
}

/// A profile as a map, or by name among `profiles`.
fn profile(value: &Value, profiles: Option<&Value>, rules: Rules) -> Result<Profile, PrimError> {
    let file = |value: &Value| value.get("file").and_then(Value::as_str).unwrap_or("the profile").to_owned();
    match (value, profiles.and_then(Value::as_object)) {
        (Value::Object(map), _) => {
            let name = map.get("name").and_then(Value::as_str).unwrap_or("given");
            Profile::read(name, value, &file(value), rules)
        }
        (Value::String(name), Some(all)) => {
            let mut warnings = Vec::new();
            let known = all
                .get(name)
                .map(|value| (name.as_str(), value))
                .ok_or_else(|| super::config::no_such_profile(name, all.keys(), "the profiles"));
            let (name, value) = super::rules::or_as_cfssl(rules, known, &mut warnings, || {
                Some((("default", all.get("default")?), super::config::INSTEAD.to_owned()))
            })?;
            let mut found = Profile::read(name, value, &file(value), rules)?;
            found.warnings.append(&mut warnings);
            Ok(found)
        }
        (Value::String(_), None) => {
            Err(PrimError::argument("profile is a name, and no `profiles` are given")
                .expected("a profile, or its name and the profiles", "a name alone")
                .hint("pass `pki.profiles.NAME`, or `pki.profiles` as the last argument"))
        }
        _ => Err(PrimError::argument("profile is neither a map nor a name")
            .expected("a profile, or its name and the profiles", "something else")
            .hint("pass `pki.profiles.NAME`")),
    }
}

fn leaf_value(world: &World, leaf: &Certificate, key: &Key) -> Result<Value, PrimError> {
    let mut value = ca::to_value(world, leaf, key)?;
    if let Value::Object(map) = &mut value {
        map.insert("not_after".into(), date(leaf.not_after()).into());
    }
    Ok(value)
}

fn with(mut value: Value, fields: Value) -> Value {
    if let (Value::Object(map), Value::Object(fields)) = (&mut value, fields) {
        map.extend(fields);
    }
    value
}

/// Adds what was let pass, where there is any.
pub(crate) fn warned(value: Value, lists: &[&[String]]) -> Value {
    let all: Vec<&String> = lists.iter().copied().flatten().collect();
    if all.is_empty() { value } else { with(value, json!({ "warnings": all })) }
}

fn authority_value(world: &World, authority: &Authority) -> Result<Value, PrimError> {
    let certificate = &authority.certificate;
    let key = match &authority.key {
        Some(key) => world.secrets.put(&key.to_secret()?)?,
        None => Value::Null,
    };
    Ok(json!({
        "cert": certificate.pem(),
        "key": key,
        "fingerprint": certificate.fingerprint(),
        "subject": certificate.subject_text(),
        "not_after": date(certificate.not_after()),
    }))
}

/// `cfssl::folder(path, [options])`.
pub(super) fn folder(world: &World, args: &[Value]) -> Result<Value, PrimError> {
    let path = path_of(world, arg(args, 0))?;
    let options = given(args, 1);
    let reading = folder::Reading {
        rules: Rules::of_options(options)?,
        passphrase: crate::cert::passphrase_of_options(world, options)?,
        expired: options.and_then(|options| options.get("expired")) == Some(&Value::Bool(true)),
    };
    let folder = folder::read_with(world.disk.as_ref(), &path, world.clock.now(), &reading)?;
    let fact = json!({
        "path": path.display().to_string(),
        "ca": with(authority_value(world, &folder.ca)?, json!({ "expired": folder.ca.certificate.not_after() < world.clock.now() })),
        "successor": folder.successor.as_ref().map(|one| authority_value(world, one)).transpose()?,
        "ca_csr": folder.ca_csr,
        "profiles": folder.config.to_facts(),
        "requests": folder.requests,
        "found": folder.found.word(),
        "notes": folder.notes,
    });
    // Where the passphrase lies, for those who write into the folder later.
    let passphrase_file = options.and_then(|options| options.get("passphrase_file"));
    Ok(match passphrase_file {
        Some(file) => with(fact, json!({ "passphrase_file": file })),
        None => fact,
    })
}

/// `cfssl::successor(folder, [csr], [options])`.
pub(super) fn successor(world: &World, args: &[Value]) -> Result<Value, PrimError> {
    let folder = arg(args, 0);
    if let Some(begun) = folder.get("successor").filter(|begun| !begun.is_null()) {
        let (certificate, key) = ca::from_value(world, begun, "folder.successor")?;
        super::check_authority(&certificate, &key, world.clock.now())?;
        return Ok(with(leaf_value(world, &certificate, &key)?, json!({ "adopted": true })));
    }
    let csr = given(args, 1).or_else(|| folder.get("ca_csr").filter(|csr| !csr.is_null()));
    let csr = csr.ok_or_else(|| {
        PrimError::not_found("there is no ca-csr.json, so that a new CA cannot be made")
            .on(folder.get("path").and_then(Value::as_str).unwrap_or_default())
            .expected("`ca-csr.json`", "no such file")
            .hint("bring the request with which the CA was made, or write one: `cfssl print-defaults csr`")
    })?;
    let request = Request::read(csr, "ca-csr.json", Rules::of_options(given(args, 2))?)?;
    let (certificate, key) = ca::create(&request, world.clock.now())?;
    let made = with(leaf_value(world, &certificate, &key)?, json!({ "adopted": false }));
    Ok(warned(made, &[&request.warnings]))
}

/// `cfssl::issue(ca, request, profile, [profiles], [options])`.
pub(super) fn issue(world: &World, args: &[Value]) -> Result<Value, PrimError> {
    let rules = Rules::of_options(given(args, 4))?;
    let (certificate, key) = ca::from_value(world, arg(args, 0), "ca")?;
    let request = Request::read(arg(args, 1), "the request", rules)?;
    let profile = profile(arg(args, 2), args.get(3), rules)?;
    let (leaf, leaf_key) = super::issue(&certificate, &key, &request, &profile, world.clock.now())?;
    Ok(warned(leaf_value(world, &leaf, &leaf_key)?, &[&request.warnings, &profile.warnings]))
}

/// `cfssl::sign(ca, csr, profile, [profiles], [options])`.
pub(super) fn sign(world: &World, args: &[Value]) -> Result<Value, PrimError> {
    let (certificate, key) = ca::from_value(world, arg(args, 0), "ca")?;
    let text = arg(args, 1).as_str().ok_or_else(|| {
        PrimError::argument("csr is no text")
            .expected("PEM text", "something else")
            .hint("pass the content of the `.csr` file")
    })?;
    let csr = SigningRequest::from_pem(text.as_bytes(), "csr")?;
    let profile = profile(arg(args, 2), args.get(3), Rules::of_options(given(args, 4))?)?;
    let leaf = super::sign(&certificate, &key, &csr, &profile, world.clock.now())?;
    let signed = json!({
        "cert": leaf.pem(),
        "fingerprint": leaf.fingerprint(),
        "not_after": date(leaf.not_after()),
    });
    Ok(warned(signed, &[&profile.warnings]))
}

/// `cfssl::reissue(ca, old, [key], [lifetime])`.
pub(super) fn reissue(world: &World, args: &[Value]) -> Result<Value, PrimError> {
    let (certificate, key) = ca::from_value(world, arg(args, 0), "ca")?;
    let chain = crate::bundle::certificates(arg(args, 1), "old")?;
    let old = chain.first().ok_or_else(|| {
        PrimError::argument("old holds no certificate")
            .expected("a leaf", "none")
            .hint("pass the leaf in use")
    })?;
    let own = given(args, 2).map(|handle| Key::from_secret(&world.secrets.get(handle)?)).transpose()?;
    let lifetime = given(args, 3).map(super::duration_of).transpose()?;
    let (leaf, leaf_key) = super::reissue(&certificate, &key, old, own, lifetime, world.clock.now())?;
    leaf_value(world, &leaf, &leaf_key)
}

/// `cfssl::leaf(ca, request, profile, secret, [options])`.
pub(super) fn leaf(world: &World, args: &[Value]) -> Result<Value, PrimError> {
    let now = world.clock.now();
    let (ca, ca_key) = ca::from_value(world, arg(args, 0), "ca")?;
    let rules = Rules::of_options(given(args, 4))?;
    let request = Request::read(arg(args, 1), "the request", rules)?;
    let profile = profile(arg(args, 2), None, rules)?;
    let secret = arg(args, 3);
    let (request, added, why) = match secret.get("tls.crt").and_then(Value::as_str) {
        None => (request, Vec::new(), "there is none yet".to_owned()),
        Some(text) => {
            let chain = crate::cert::parse_many(text.as_bytes(), "tls.crt")?;
            let old = chain.first().ok_or_else(|| PrimError::internal("a chain without certificates"))?;
            let key = match secret.get("tls.key").filter(|key| !key.is_null()) {
                Some(handle) => Key::from_secret(&world.secrets.get(handle)?).ok(),
                None => None,
            };
            let reason = adopt::reason_against(old, key.as_ref(), &ca, &request, &profile, now);
            match (reason, key) {
                (None, Some(key)) => {
                    // The text as it stands, so that a patch with it changes nothing.
                    let kept = json!({ "cert": text, "adopted": true, "why": "", "added": [] });
                    return Ok(with(leaf_value(world, old, &key)?, kept));
                }
                (reason, _) => {
                    let (request, added) = adopt::following(old, &request)?;
                    (request, added, reason.unwrap_or_default())
                }
            }
        }
    };
    let (certificate, key) = super::issue(&ca, &ca_key, &request, &profile, now)?;
    let added: Vec<String> = added.iter().map(San::to_string).collect();
    let made = json!({ "adopted": false, "why": why, "added": added });
    Ok(warned(with(leaf_value(world, &certificate, &key)?, made), &[&request.warnings, &profile.warnings]))
}
