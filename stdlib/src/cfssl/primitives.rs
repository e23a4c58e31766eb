//! The namespace `cfssl` as scripts see it.

use serde_json::{Value, json};

use super::folder::{self, Authority};
use super::install::{install, path_of, stage_files, write_leaf};
use super::{Profile, Request, adopt, issue};
use crate::ca;
use crate::cert::{Certificate, Key, San, SigningRequest, date};
use crate::error::PrimError;
use crate::files::change::restore;
use crate::registry::{Kind, Param, Primitive, Touch, Type};
use crate::world::World;

const FOLDER: Param =
    Param { name: "folder", ty: Type::Map, optional: false, doc: "The fact that `cfssl::folder` gave." };
const CA: Param =
    Param { name: "ca", ty: Type::Map, optional: false, doc: "The authority: a map with `cert` and `key`." };
const REQUEST: Param = Param {
    name: "request",
    ty: Type::Map,
    optional: false,
    doc: "A cfssl request, as `pki.requests[\"pd-server\"]`.",
};
const PROFILE: Param = Param {
    name: "profile",
    ty: Type::Any,
    optional: false,
    doc: "A profile of the fact, as `pki.profiles.internal`; or its name, with `profiles` given.",
};
const PROFILES: Param = Param {
    name: "profiles",
    ty: Type::Map,
    optional: true,
    doc: "All profiles, as `pki.profiles`; only where `profile` is a name.",
};
const LEAF: &str = "a map: `cert` (PEM), `key` (a secret handle), `fingerprint` (`sha256:HEX`), `not_after`";

/// The primitives of this namespace.
pub const PRIMITIVES: &[Primitive] = &[
    Primitive {
        name: "cfssl::folder",
        kind: Kind::Read,
        params: &[Param {
            name: "path",
            ty: Type::Text,
            optional: false,
            doc: "The folder with `ca.pem`, `ca-key.pem`, `ca-config.json` and the requests.",
        }],
        returns: "a map: `path`; `ca`, the authority in force (`cert`, `key`, `fingerprint`, `subject`, `not_after`); \
                  `successor`, one that was made by hand, or nothing; `ca_csr`; `profiles` by name; `requests` by file \
                  stem; `found` (`untouched`, `ca-moved`, `ca-made`, `bundled`); `notes`",
        doc: "Reads a PKI folder as the TiDB page leaves it at any point.\n\nFails with `not-found`, `no-key`, \
              `key-mismatch`, `expired` or `invalid`, naming the file.",
        example: "let pki = cfssl::folder(param(\"pki\"));",
        run: |world, args, _| Box::pin(async move { fact(world, args.first().unwrap_or(&Value::Null)) }),
        restore: None,
        forecast: None,
        touches: |args| file_touch(args.first(), &[""], false),
    },
    Primitive {
        name: "cfssl::successor",
        kind: Kind::Make,
        params: &[
            FOLDER,
            Param {
                name: "csr",
                ty: Type::Map,
                optional: true,
                doc: "The request for the new authority; the folder's `ca_csr` when left out.",
            },
        ],
        returns: "a map: `cert`, `key`, `fingerprint`, `not_after`, `adopted` (whether a person had made it)",
        doc: "The authority that follows the one in force: that which a person has begun with, or a new one.\n\nNo \
              second CA is made where there is one.",
        example: "let ca = trust.stage(\"new CA\", cfssl::successor(pki));",
        run: |world, args, _| Box::pin(async move { successor(world, args) }),
        restore: None,
        forecast: None,
        touches: |_| Vec::new(),
    },
    Primitive {
        name: "cfssl::issue",
        kind: Kind::Make,
        params: &[CA, REQUEST, PROFILE, PROFILES],
        returns: LEAF,
        doc: "Makes a key and issues a certificate for it.\n\nThe issuer is always named by key id, the end is never \
              later than the CA's. Fails with `invalid` where the request or profile cannot be used.",
        example: "let leaf = leaves.stage(\"pd\", cfssl::issue(ca, pki.requests[\"pd-server\"], pki.profiles.internal));",
        run: |world, args, _| {
            Box::pin(async move {
                let (certificate, key) = ca::from_value(world, arg(args, 0), "ca")?;
                let request = Request::from_value(arg(args, 1), "the request")?;
                let profile = profile(arg(args, 2), args.get(3))?;
                let (leaf, leaf_key) = issue(&certificate, &key, &request, &profile, world.clock.now())?;
                leaf_value(world, &leaf, &leaf_key)
            })
        },
        restore: None,
        forecast: None,
        touches: |_| Vec::new(),
    },
    Primitive {
        name: "cfssl::sign",
        kind: Kind::Make,
        params: &[
            CA,
            Param { name: "csr", ty: Type::Text, optional: false, doc: "PEM text of a signing request." },
            PROFILE,
            PROFILES,
        ],
        returns: "a map: `cert` (PEM), `fingerprint` (`sha256:HEX`), `not_after`",
        doc: "Issues what a signing request asks for: its name, key and alternative names.\n\nFails with `invalid` where \
              the request was not signed by its own key.",
        example: "let leaf = leaves.stage(\"node\", cfssl::sign(ca, csr, pki.profiles.internal));",
        run: |world, args, _| {
            Box::pin(async move {
                let (certificate, key) = ca::from_value(world, arg(args, 0), "ca")?;
                let text = arg(args, 1).as_str().ok_or_else(|| PrimError::argument("csr is no PEM text"))?;
                let csr = SigningRequest::from_pem(text.as_bytes(), "csr")?;
                let profile = profile(arg(args, 2), args.get(3))?;
                let leaf = super::sign(&certificate, &key, &csr, &profile, world.clock.now())?;
                Ok(json!({
                    "cert": leaf.pem(),
                    "fingerprint": leaf.fingerprint(),
                    "not_after": date(leaf.not_after()),
                }))
            })
        },
        restore: None,
        forecast: None,
        touches: |_| Vec::new(),
    },
    Primitive {
        name: "cfssl::reissue",
        kind: Kind::Make,
        params: &[
            CA,
            Param {
                name: "old",
                ty: Type::Any,
                optional: false,
                doc: "The certificate to follow: PEM text or a map with `cert`.",
            },
        ],
        returns: LEAF,
        doc: "Issues a leaf like one that is there, with a new key: same name, alternative names, usages and length of \
              life.\n\nFor certificates whose request is lost.",
        example: "let leaf = leaves.stage(\"pd\", cfssl::reissue(ca, secret[\"tls.crt\"]));",
        run: |world, args, _| {
            Box::pin(async move {
                let (certificate, key) = ca::from_value(world, arg(args, 0), "ca")?;
                let chain = crate::bundle::certificates(arg(args, 1), "old")?;
                let old = chain.first().ok_or_else(|| PrimError::argument("old holds no certificate"))?;
                let (leaf, leaf_key) = super::reissue(&certificate, &key, old, None, world.clock.now())?;
                leaf_value(world, &leaf, &leaf_key)
            })
        },
        restore: None,
        forecast: None,
        touches: |_| Vec::new(),
    },
    Primitive {
        name: "cfssl::leaf",
        kind: Kind::Make,
        params: &[
            CA,
            REQUEST,
            PROFILE,
            Param {
                name: "secret",
                ty: Type::Map,
                optional: false,
                doc: "The Secret in use, as `k8s::secret` gave it: `tls.crt` and `tls.key` are looked at.",
            },
        ],
        returns: "a map: `cert`, `key`, `fingerprint`, `not_after`; `adopted`, whether the leaf in use was kept; `why`, \
                  the reason where it was not; `added`, names of the old leaf that the request does not have",
        doc: "A leaf of this authority: the one in use where it is good, or a new one with all of its names.\n\nKept is \
              what this CA signed, with its key, CN, names and usages, and more than half of its life before it. Fails \
              with `invalid` where the CN would change.",
        example: "let leaf = leaves.stage(\"pd\", cfssl::leaf(ca, pki.requests[\"pd-server\"], pki.profiles.internal, secret));",
        run: |world, args, _| Box::pin(async move { leaf(world, args) }),
        restore: None,
        forecast: None,
        touches: |_| Vec::new(),
    },
    Primitive {
        name: "cfssl::install",
        kind: Kind::Change,
        params: &[FOLDER, CA],
        returns: "a map: `changed`, the files that were written or removed; `retired`, where the old ones lie",
        doc: "Leaves the PKI folder as a finished rotation: the new authority as `ca.pem` and `ca-key.pem`, the old one and \
              what the page leaves lying about in `retired/`.\n\nEach file is an effect and can be put back.",
        example: "done.change(\"PKI folder\", cfssl::install(pki, ca));",
        run: |world, args, gate| Box::pin(install(world, args, gate)),
        restore: Some(|world, effect, gate| Box::pin(restore(world, effect, gate))),
        forecast: None,
        touches: |args| {
            file_touch(
                args.first(),
                &[
                    "ca.pem",
                    "ca-key.pem",
                    "ca.new.pem",
                    "ca-key.new.pem",
                    "ca.old.pem",
                    "ca-key.old.pem",
                    "retired",
                ],
                true,
            )
        },
    },
    Primitive {
        name: "cfssl::stage_files",
        kind: Kind::Change,
        params: &[
            FOLDER,
            CA,
            Param {
                name: "bundle",
                ty: Type::Any,
                optional: false,
                doc: "What `ca.pem` shall hold: the new and the old authority.",
            },
        ],
        returns: "a map: `changed`, the files that were written or removed",
        doc: "Leaves the PKI folder as the TiDB page does after its first section, so that a person can go on by hand.\n\n\
              Each file is an effect and can be put back.",
        example: "trust.change(\"PKI folder\", cfssl::stage_files(pki, ca, both));",
        run: |world, args, gate| Box::pin(stage_files(world, args, gate)),
        restore: Some(|world, effect, gate| Box::pin(restore(world, effect, gate))),
        forecast: None,
        touches: |args| {
            file_touch(
                args.first(),
                &["ca.pem", "ca-key.pem", "ca.new.pem", "ca-key.new.pem", "ca.old.pem", "ca-key.old.pem"],
                true,
            )
        },
    },
    Primitive {
        name: "cfssl::write_leaf",
        kind: Kind::Change,
        params: &[
            FOLDER,
            Param {
                name: "stem",
                ty: Type::Text,
                optional: false,
                doc: "The files' name without ending, as `pd-server`.",
            },
            Param { name: "leaf", ty: Type::Map, optional: false, doc: "A map with `cert` and `key`." },
        ],
        returns: "a map: `changed`, the files that were written",
        doc: "Writes a leaf as `cfssljson -bare` names it: `STEM.pem`, and `STEM-key.pem` with mode 0600.\n\nEach file is an \
              effect and can be put back.",
        example: "leaves.change(\"pd files\", cfssl::write_leaf(pki, \"pd-server\", leaf));",
        run: |world, args, gate| Box::pin(write_leaf(world, args, gate)),
        restore: Some(|world, effect, gate| Box::pin(restore(world, effect, gate))),
        forecast: None,
        touches: |args| {
            let stem = args.get(1).and_then(Value::as_str).unwrap_or("*");
            file_touch(args.first(), &[&format!("{stem}.pem"), &format!("{stem}-key.pem")], true)
        },
    },
];

fn arg(args: &[Value], index: usize) -> &Value {
    args.get(index).unwrap_or(&Value::Null)
}

/// The files below a folder that is given as a path or as a fact.
fn file_touch(folder: Option<&Value>, names: &[&str], write: bool) -> Vec<Touch> {
    let path = folder.and_then(|v| v.as_str().or_else(|| v.get("path").and_then(Value::as_str)));
    let Some(path) = path else { return Vec::new() };
    let path = path.trim_end_matches('/');
    let full = |name: &&str| if name.is_empty() { path.to_owned() } else { format!("{path}/{name}") };
    names.iter().map(|name| Touch::File { path: full(name), write }).collect()
}

/// A profile as a map, or by name among `profiles`.
fn profile(value: &Value, profiles: Option<&Value>) -> Result<Profile, PrimError> {
    let file = |value: &Value| value.get("file").and_then(Value::as_str).unwrap_or("the profile").to_owned();
    match (value, profiles.and_then(Value::as_object)) {
        (Value::Object(map), _) => {
            let name = map.get("name").and_then(Value::as_str).unwrap_or("given");
            Profile::from_value(name, value, &file(value))
        }
        (Value::String(name), Some(all)) => match all.get(name) {
            Some(value) => Profile::from_value(name, value, &file(value)),
            None => Err(super::config::no_such_profile(name, all.keys(), "the profiles")),
        },
        (Value::String(_), None) => {
            Err(PrimError::argument("profile is a name, and no `profiles` are given")
                .hint("pass `pki.profiles.NAME`, or `pki.profiles` as the last argument"))
        }
        _ => Err(PrimError::argument("profile is neither a map nor a name")),
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

fn fact(world: &World, path: &Value) -> Result<Value, PrimError> {
    let path = path_of(world, path)?;
    let folder = folder::read(world.disk.as_ref(), &path, world.clock.now())?;
    Ok(json!({
        "path": path.display().to_string(),
        "ca": authority_value(world, &folder.ca)?,
        "successor": folder.successor.as_ref().map(|one| authority_value(world, one)).transpose()?,
        "ca_csr": folder.ca_csr,
        "profiles": folder.config.to_facts(),
        "requests": folder.requests,
        "found": folder.found.word(),
        "notes": folder.notes,
    }))
}

fn successor(world: &World, args: &[Value]) -> Result<Value, PrimError> {
    let folder = arg(args, 0);
    if let Some(begun) = folder.get("successor").filter(|begun| !begun.is_null()) {
        let (certificate, key) = ca::from_value(world, begun, "folder.successor")?;
        super::check_authority(&certificate, &key, world.clock.now())?;
        return Ok(with(leaf_value(world, &certificate, &key)?, json!({ "adopted": true })));
    }
    let csr = args
        .get(1)
        .filter(|csr| !csr.is_null())
        .or_else(|| folder.get("ca_csr").filter(|csr| !csr.is_null()));
    let csr = csr.ok_or_else(|| {
        PrimError::not_found("there is no ca-csr.json, so that a new CA cannot be made")
            .on(folder.get("path").and_then(Value::as_str).unwrap_or_default())
            .hint("bring the request with which the CA was made, or write one: `cfssl print-defaults csr`")
    })?;
    let request = Request::from_value(csr, "ca-csr.json")?;
    let (certificate, key) = ca::create(&request, world.clock.now())?;
    Ok(with(leaf_value(world, &certificate, &key)?, json!({ "adopted": false })))
}

fn leaf(world: &World, args: &[Value]) -> Result<Value, PrimError> {
    let now = world.clock.now();
    let (ca, ca_key) = ca::from_value(world, arg(args, 0), "ca")?;
    let request = Request::from_value(arg(args, 1), "the request")?;
    let profile = profile(arg(args, 2), None)?;
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
    let (certificate, key) = issue(&ca, &ca_key, &request, &profile, now)?;
    let added: Vec<String> = added.iter().map(San::to_string).collect();
    Ok(with(leaf_value(world, &certificate, &key)?, json!({ "adopted": false, "why": why, "added": added })))
}
