//! The namespace `cfssl` as scripts see it.

use serde_json::Value;

use super::calls;
use super::install::{install, stage_files, write_leaf};
use crate::files::change::restore;
use crate::registry::{Kind, Param, Primitive, Touch, Type};

const FOLDER: Param = Param::required("folder", Type::Map, "The fact that `cfssl::folder` gave.");
const CA: Param = Param::required("ca", Type::Map, "The authority: a map with `cert` and `key`.");
const REQUEST: Param =
    Param::required("request", Type::Map, "A cfssl request, as `pki.requests[\"pd-server\"]`.");
const PROFILE: Param = Param::required(
    "profile",
    Type::Any,
    "A profile of the fact, as `pki.profiles.internal`; or its name, with `profiles` given.",
);
const PROFILES: Param = Param::optional(
    "profiles",
    Type::Map,
    "All profiles, as `pki.profiles`; only where `profile` is a name.",
);
const OPTIONS: Param = Param::optional(
    "options",
    Type::Map,
    "`cfssl_lax`: true reads request and profile as cfssl does, where that bites: a profile that is not there is \
          `default`, a misspelt usage is dropped, an expiry may be negative. Each is told in `warnings`.",
);
const LEAF: &str = "a map: `cert` (PEM), `key` (a secret handle), `fingerprint` (`sha256:HEX`), `not_after`; \
                    `warnings`, where `cfssl_lax` let something pass";

/// The primitives of this namespace.
pub const PRIMITIVES: &[Primitive] = &[
    Primitive {
        name: "cfssl::folder",
        kind: Kind::Read,
        params: &[
            Param::required(
                "path",
                Type::Text,
                "The folder with `ca.pem`, `ca-key.pem`, `ca-config.json` and the requests.",
            ),
            Param::optional(
                "options",
                Type::Map,
                "`passphrase_file`: a file whose first line opens keys that are encrypted (PKCS#8). `cfssl_lax`: \
                      true reads the JSON files as cfssl does; calls that use them need it too. `expired`: true takes a CA \
                      that has expired, to be followed by a new one.",
            ),
        ],
        returns: "a map: `path`; `ca`, the authority in force (`cert`, `key`, `fingerprint`, `subject`, `not_after`, `expired`); \
                  `successor`, one that was made by hand, or nothing; `ca_csr`; `profiles` by name; `requests` by file \
                  stem; `found` (`untouched`, `ca-moved`, `ca-made`, `bundled`); `notes`",
        doc: "Reads a PKI folder as the TiDB page leaves it at any point.\n\nFails with `not-found`, `no-key`, \
              `key-mismatch`, `expired` or `invalid`, naming the file.",
        example: "let pki = cfssl::folder(param(\"pki\"));",
        run: |world, args, _| Box::pin(async move { calls::folder(world, args) }),
        restore: None,
        forecast: None,
        touches: folder_touch,
    },
    Primitive {
        name: "cfssl::successor",
        kind: Kind::Make,
        params: &[
            FOLDER,
            Param::optional(
                "csr",
                Type::Map,
                "The request for the new authority; the folder's `ca_csr` when left out.",
            ),
            OPTIONS,
        ],
        returns: "a map: `cert`, `key`, `fingerprint`, `not_after`, `adopted` (whether a person had made it)",
        doc: "The authority that follows the one in force: that which a person has begun with, or a new one.\n\nNo \
              second CA is made where there is one.",
        example: "let ca = p.stage(\"new CA\", cfssl::successor(pki));",
        run: |world, args, _| Box::pin(async move { calls::successor(world, args) }),
        restore: None,
        forecast: None,
        touches: |_| Vec::new(),
    },
    Primitive {
        name: "cfssl::issue",
        kind: Kind::Make,
        params: &[CA, REQUEST, PROFILE, PROFILES, OPTIONS],
        returns: LEAF,
        doc: "Makes a key and issues a certificate for it.\n\nThe issuer is always named by key id, the end is never \
              later than the CA's. Fails with `invalid` where the request or profile cannot be used.",
        example: "let leaf = leaves.stage(\"pd\", cfssl::issue(ca, pki.requests[\"pd-server\"], pki.profiles.internal));",
        run: |world, args, _| Box::pin(async move { calls::issue(world, args) }),
        restore: None,
        forecast: None,
        touches: |_| Vec::new(),
    },
    Primitive {
        name: "cfssl::sign",
        kind: Kind::Make,
        params: &[
            CA,
            Param::required("csr", Type::Text, "PEM text of a signing request."),
            PROFILE,
            PROFILES,
            OPTIONS,
        ],
        returns: "a map: `cert` (PEM), `fingerprint` (`sha256:HEX`), `not_after`, `warnings`",
        doc: "Issues what a signing request asks for: its name, key and alternative names.\n\nFails with `invalid` where \
              the request was not signed by its own key.",
        example: "let leaf = leaves.stage(\"node\", cfssl::sign(ca, csr, pki.profiles.internal));",
        run: |world, args, _| Box::pin(async move { calls::sign(world, args) }),
        restore: None,
        forecast: None,
        touches: |_| Vec::new(),
    },
    Primitive {
        name: "cfssl::reissue",
        kind: Kind::Make,
        params: &[
            CA,
            Param::required("old", Type::Any, "The certificate to follow: PEM text or a map with `cert`."),
            Param::optional(
                "key",
                Type::Secret,
                "The key to issue it for, as `cert::read_key` gives it; a new one when left out or `()`.",
            ),
            Param::optional(
                "lifetime",
                Type::Duration,
                "How long it is valid, as `8760h`; as long as the old one was when left out. It never outlives its CA.",
            ),
        ],
        returns: LEAF,
        doc: "Issues a leaf like one that is there: same name, alternative names, usages and length of life.\n\nFor \
              certificates whose request is lost. Fails with `invalid` where the old one is an authority.",
        example: "let leaf = leaves.stage(\"pd\", cfssl::reissue(ca, secret[\"tls.crt\"]));",
        run: |world, args, _| Box::pin(async move { calls::reissue(world, args) }),
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
            Param::required(
                "secret",
                Type::Map,
                "The Secret in use, as `k8s::secret` gave it: `tls.crt` and `tls.key` are looked at.",
            ),
            OPTIONS,
        ],
        returns: "a map: `cert`, `key`, `fingerprint`, `not_after`; `adopted`, whether the leaf in use was kept; `why`, \
                  the reason where it was not; `added`, names of the old leaf that the request does not have",
        doc: "A leaf of this authority: the one in use where it is good, or a new one with all of its names.\n\nKept is \
              what this CA signed, with its key, CN, names and usages, and more than half of its life before it. Fails \
              with `invalid` where the CN would change.",
        example: "let leaf = leaves.stage(\"pd\", cfssl::leaf(ca, pki.requests[\"pd-server\"], pki.profiles.internal, secret));",
        run: |world, args, _| Box::pin(async move { calls::leaf(world, args) }),
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
            Param::required("bundle", Type::Any, "What `ca.pem` shall hold: the new and the old authority."),
        ],
        returns: "a map: `changed`, the files that were written or removed",
        doc: "Leaves the PKI folder as the TiDB page does after its first section, so that a person can go on by hand.\n\n\
              Each file is an effect and can be put back.",
        example: "p.change(\"PKI folder\", cfssl::stage_files(pki, ca, both));",
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
            Param::required("stem", Type::Text, "The files' name without ending, as `pd-server`."),
            Param::required("leaf", Type::Map, "A map with `cert` and `key`."),
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

/// The files below a folder that is given as a path or as a fact.
fn file_touch(folder: Option<&Value>, names: &[&str], write: bool) -> Vec<Touch> {
    let path = folder.and_then(|v| v.as_str().or_else(|| v.get("path").and_then(Value::as_str)));
    let Some(path) = path else { return Vec::new() };
    let path = path.trim_end_matches('/');
    let full = |name: &&str| if name.is_empty() { path.to_owned() } else { format!("{path}/{name}") };
    names.iter().map(|name| Touch::File { path: full(name), write }).collect()
}

/// A folder, and the passphrase file that the options of its call name.
fn folder_touch(args: &[Value]) -> Vec<Touch> {
    let mut touches = file_touch(args.first(), &[""], false);
    let passphrase = args.get(1).and_then(|options| options.get("passphrase_file")).and_then(Value::as_str);
    touches.extend(passphrase.map(|path| Touch::File { path: path.to_owned(), write: false }));
    touches
}
