//! The namespace `cert` as scripts see it.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::calls;
use crate::error::PrimError;
use crate::registry::{Kind, Param, Primitive, Touch, Type};

const QUESTION: Param = Param::optional(
    "options",
    Type::Map,
    "`usage`: `server` (if left out) or `client`. `name` or `names`: what is dialled. `allowed_cn`: common names that \
          the leaf may have. `at`: for which time, as `2036-11-19T00:00:00Z`; now when left out.",
);
const CHAIN: Param = Param::required(
    "chain",
    Type::Any,
    "What the peer presents, leaf first: PEM text, a map with `cert`, or a list of these.",
);
const ANCHORS: Param = Param::required(
    "anchors",
    Type::Any,
    "What the verifier trusts: PEM text, a map with `cert`, or a list of these.",
);

/// The primitives of this namespace.
pub const PRIMITIVES: &[Primitive] = &[
    Primitive {
        name: "cert::inspect",
        kind: Kind::Pure,
        params: &[Param::required(
            "pem",
            Type::Text,
            "PEM text with one or more certificates or signing requests.",
        )],
        returns: "a map: `certificates`, a list of maps (`subject`, `subject_der` in base64, `issuer`, `issuer_der`, \
                  `common_name`, `organizations`, `sans`, `key`, `key_usage`, `ext_usage`, `is_ca`, `path_len`, \
                  `name_constraints`, `other_extensions`, `version`, `serial`, `not_before`, `not_after`, `fingerprint`, \
                  `sha1`, `spki`, `pin`, `skid`, `akid`, `signature`, `self_issued`); `requests`, a list of maps \
                  (`subject`, `sans`, `key`, `spki`); `notes`, what was repaired in reading",
        doc: "Says what a PEM text's certificates and signing requests are.\n\nFails with `invalid` where a block is \
              damaged, naming its line.",
        example: "let seen = cert::inspect(ca.cert); print(seen.certificates[0].subject);",
        run: |_, args, _| Box::pin(async move { calls::inspect(args) }),
        restore: None,
        forecast: None,
        touches: |_| Vec::new(),
    },
    Primitive {
        name: "cert::matches",
        kind: Kind::Pure,
        params: &[
            Param::required(
                "cert",
                Type::Any,
                "PEM text, or a map with `cert`; of several certificates the first, the leaf, counts.",
            ),
            Param::required(
                "key",
                Type::Secret,
                "A private key's handle, as `cert::read_key` and `k8s::secret` give it.",
            ),
        ],
        returns: "true where the key is the certificate's",
        doc: "Whether a private key belongs to a certificate.\n\nThe public halves are compared.",
        example: "if !cert::matches(secret[\"tls.crt\"], secret[\"tls.key\"]) { throw \"not a pair\"; }",
        run: |_, args, _| Box::pin(async move { calls::matches(args) }),
        restore: None,
        forecast: None,
        touches: |_| Vec::new(),
    },
    Primitive {
        name: "cert::verify",
        kind: Kind::Read,
        params: &[
            CHAIN,
            ANCHORS,
            Param::required(
                "verifier",
                Type::Text,
                "Whose rules count: `webpki`, `go`, `openssl`, or `all` of them.",
            ),
            QUESTION,
        ],
        returns: "a map: `accepted`; `anchor`, the fingerprint of the anchor found, or nothing; `subject`, its name; `code` \
                  and `reason`, where it is refused (`expired`, `unknown-authority`, `name-mismatch`, `usage`, …)",
        doc: "Whether a verifier accepts a chain, under names, for a use, at a time.\n\nWith `all`, the first that refuses \
              counts. Fails only where an argument is wrong or a certificate is damaged.",
        example: "let v = cert::verify(leaf.cert, pki.ca, \"openssl\", #{ names: [\"basic-tikv-0.basic-tikv-peer\"] });",
        run: |world, args, _| Box::pin(async move { calls::verify(args, world.clock.now()) }),
        restore: None,
        forecast: None,
        touches: |_| Vec::new(),
    },
    Primitive {
        name: "cert::opinions",
        kind: Kind::Read,
        params: &[CHAIN, ANCHORS, QUESTION],
        returns: "a map: `agree`; `opinions`, a list of maps (`verifier`, `who`, and the fields of `cert::verify`); \
                  `differences`, why they do not agree, in sentences",
        doc: "What webpki, Go and OpenSSL each say of a chain, and why they differ.\n\nwebpki is asked itself, the other two \
              by their rules, which tests compare with the originals.",
        example: "let o = cert::opinions(leaf.cert, both); if !o.agree { note(o.differences[0]); }",
        run: |world, args, _| Box::pin(async move { calls::opinions(args, world.clock.now()) }),
        restore: None,
        forecast: None,
        touches: |_| Vec::new(),
    },
    Primitive {
        name: "cert::key",
        kind: Kind::Make,
        params: &[Param::optional(
            "kind",
            Type::Text,
            "`rsa 2048`, `rsa 3072`, `rsa 4096`, `rsa 8192`, `ecdsa 256`, `ecdsa 384`, `ecdsa 521` or `ed25519`; \
                  `ecdsa 256` when left out.",
        )],
        returns: "a map: `key` (a secret handle), `kind`, `spki` (`spki:HEX`)",
        doc: "Makes a private key.\n\nFails with `argument` where such a key cannot be made.",
        example: "let k = leaves.stage(\"key\", cert::key(\"rsa 4096\"));",
        run: |world, args, _| Box::pin(async move { calls::make_key(world, args) }),
        restore: None,
        forecast: None,
        touches: |_| Vec::new(),
    },
    Primitive {
        name: "cert::read_key",
        kind: Kind::Read,
        params: &[
            Param::required(
                "path",
                Type::Text,
                "The file: PEM or DER; PKCS#8 (encrypted too), PKCS#1 or SEC1.",
            ),
            Param::optional(
                "options",
                Type::Map,
                "`passphrase_file`: a file whose first line opens an encrypted key.",
            ),
        ],
        returns: "a map: `key` (a secret handle), `kind`, `spki` (`spki:HEX`), `mode` of the file in octal",
        doc: "Reads a private key of this machine, as a secret.\n\nFails with `not-found`, `forbidden`, `no-key` or \
              `invalid`; a key that is encrypted in OpenSSL's old way is refused with the command that converts it.",
        example: "let k = cert::read_key(\"/etc/pki/ca-key.pem\", #{ passphrase_file: \"/run/secrets/ca\" });",
        run: |world, args, _| Box::pin(async move { calls::read_key(world, args) }),
        restore: None,
        forecast: None,
        touches: |args| {
            let option = args.get(1).and_then(|options| options.get("passphrase_file"));
            let paths = [args.first(), option].into_iter().flatten().filter_map(Value::as_str);
            paths.map(|path| Touch::File { path: path.to_owned(), write: false }).collect()
        },
    },
    Primitive {
        name: "cert::request",
        kind: Kind::Make,
        params: &[
            Param::required(
                "request",
                Type::Map,
                "A cfssl request: its names and hosts, and the kind of key.",
            ),
            Param::optional(
                "key",
                Type::Secret,
                "The key to ask for; a new one of the request's kind when left out.",
            ),
        ],
        returns: "a map: `csr` (PEM), `key` (a secret handle), `spki`",
        doc: "Makes a signing request, as `cfssl genkey` and `cfssl gencsr` do.\n\nFor authorities that are not ours: \
              `cfssl::sign` answers it where they are.",
        example: "let asked = leaves.stage(\"csr\", cert::request(pki.requests[\"pd-server\"]));",
        run: |world, args, _| Box::pin(async move { calls::make_request(world, args) }),
        restore: None,
        forecast: None,
        touches: |_| Vec::new(),
    },
];

/// A time that an argument names, as RFC 3339 text; `now` where it names none.
///
/// # Errors
/// No text, or none that is a time.
pub(crate) fn moment(value: Option<&Value>, now: OffsetDateTime) -> Result<OffsetDateTime, PrimError> {
    match value.filter(|value| !value.is_null()) {
        None => Ok(now),
        Some(Value::String(text)) => time_of(text),
        Some(other) => Err(PrimError::argument("`at` is no time")
            .expected("as `2036-11-19T00:00:00Z`", other.to_string())
            .hint("write it as a text")),
    }
}

/// A time as people write it: RFC 3339, or a day alone, which means its first moment.
///
/// # Errors
/// Neither of them.
pub fn time_of(text: &str) -> Result<OffsetDateTime, PrimError> {
    let day = format!("{text}T00:00:00Z");
    let text_or_day = if text.len() == 10 { &day } else { text };
    OffsetDateTime::parse(text_or_day, &time::format_description::well_known::Rfc3339).map_err(|_| {
        PrimError::argument("is no time")
            .expected("as `2036-11-19T00:00:00Z` or `2036-11-19`", format!("`{}`", text.escape_debug()))
            .hint("write date, time and zone as RFC 3339 has them, or a day")
    })
}

/// Fields of an optional map of options.
pub(super) fn options(value: Option<&Value>) -> Result<Option<&Map<String, Value>>, PrimError> {
    match value.filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map)),
        Some(other) => Err(PrimError::argument("`options` has the wrong type")
            .expected("a map", json!(other).to_string())
            .hint("write `#{ NAME: VALUE }`")),
    }
}
