//! Bundles: ordered sets of anchors, parsed and re-encoded. A bundle is never built by joining text.

mod check;
mod compare;

pub use check::{Finding, check};
pub use compare::{Comparison, compare};
use serde_json::{Value, json};

use crate::cert::{self, Certificate};
use crate::error::PrimError;
use crate::registry::{Kind, Param, Primitive, Type};

/// The certificates of a PEM text, in order.
///
/// # Errors
/// As [`cert::parse_many`].
pub fn parse(text: &[u8], what: &str) -> Result<Vec<Certificate>, PrimError> {
    cert::parse_many(text, what)
}

/// All certificates of the lists, in order, each once.
pub fn merge<'a>(lists: impl IntoIterator<Item = &'a [Certificate]>) -> Vec<Certificate> {
    let mut seen = std::collections::HashSet::new();
    lists.into_iter().flatten().filter(|certificate| seen.insert((*certificate).clone())).cloned().collect()
}

/// The list without every certificate that is in `unwanted`.
///
/// # Errors
/// Nothing would be left: an empty trust store refuses everybody.
pub fn remove(list: &[Certificate], unwanted: &[Certificate]) -> Result<Vec<Certificate>, PrimError> {
    let left: Vec<Certificate> =
        list.iter().filter(|certificate| !unwanted.contains(certificate)).cloned().collect();
    if left.is_empty() {
        return Err(PrimError::argument("a bundle would be left without any certificate")
            .expected("at least one that stays", format!("{} to remove", list.len()))
            .hint("put the new CA into the bundle before the old one is taken out"));
    }
    Ok(left)
}

/// PEM text of the list; every block ends in a newline, and the text is read again to see that none is lost.
///
/// # Errors
/// A bug: what was written is not what is read.
pub fn encode(list: &[Certificate]) -> Result<String, PrimError> {
    let text: String = list.iter().map(Certificate::pem).collect();
    if !list.is_empty() && parse(text.as_bytes(), "the new bundle")? != list {
        return Err(PrimError::internal("a bundle changed while it was encoded"));
    }
    Ok(text)
}

/// The certificates that a script's value names: PEM text, a map with `cert`, or a list of these.
///
/// # Errors
/// Something else, or damaged PEM.
pub fn certificates(value: &Value, what: &str) -> Result<Vec<Certificate>, PrimError> {
    const EXPECTED: &str = "PEM text, a map with `cert`, or a list of these";
    let wrong = |message: String, found: &str| {
        Err(PrimError::argument(message)
            .expected(EXPECTED, found)
            .hint("pass PEM text, or a CA as `ca::create` returns it"))
    };
    match value {
        Value::String(text) => parse(text.as_bytes(), what),
        Value::Object(map) => match map.get("cert") {
            Some(Value::String(text)) => parse(text.as_bytes(), &format!("{what}.cert")),
            _ => wrong(format!("{what} is a map without `cert`"), "another map"),
        },
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| certificates(item, &format!("{what}[{index}]")))
            .collect::<Result<Vec<_>, _>>()
            .map(|lists| lists.concat()),
        Value::Null => wrong(format!("{what} is nothing, where certificates belong"), "nothing"),
        Value::Number(_) => wrong(format!("{what} is neither PEM text nor a map with `cert`"), "a number"),
        Value::Bool(_) => wrong(format!("{what} is neither PEM text nor a map with `cert`"), "true or false"),
    }
}

const BUNDLE: Param =
    Param::required("bundle", Type::Any, "PEM text, a map with `cert`, or a list of these.");

/// The primitives of this namespace.
pub const PRIMITIVES: &[Primitive] = &[
    Primitive {
        name: "bundle::of",
        kind: Kind::Pure,
        params: &[Param::required(
            "certificates",
            Type::List,
            "PEM texts or maps with `cert`, in the order in which the bundle shall hold them.",
        )],
        returns: "PEM text; duplicates are dropped",
        doc: "Makes a bundle of several certificates or bundles.\n\nIt is parsed and encoded anew, so that no missing \
              newline can lose a certificate.",
        example: "let both = bundle::of([new_ca, pki.ca]);",
        run: |_, args, _| {
            Box::pin(async move {
                let list = args.first().unwrap_or(&Value::Null);
                let all = certificates(list, "bundle::of")?;
                encode(&merge([all.as_slice()])).map(Value::String)
            })
        },
        restore: None,
        forecast: None,
        touches: |_| Vec::new(),
    },
    Primitive {
        name: "bundle::remove",
        kind: Kind::Pure,
        params: &[
            BUNDLE,
            Param::required("cert", Type::Any, "What to take out: PEM text, a map with `cert`, or a list."),
        ],
        returns: "PEM text of what is left",
        doc: "Takes certificates out of a bundle.\n\nFails with `argument` where nothing would be left.",
        example: "let rest = bundle::remove(both, pki.ca);",
        run: |_, args, _| {
            Box::pin(async move {
                let list = certificates(args.first().unwrap_or(&Value::Null), "bundle")?;
                let unwanted = certificates(args.get(1).unwrap_or(&Value::Null), "cert")?;
                encode(&remove(&list, &unwanted)?).map(Value::String)
            })
        },
        restore: None,
        forecast: None,
        touches: |_| Vec::new(),
    },
    Primitive {
        name: "bundle::count",
        kind: Kind::Pure,
        params: &[BUNDLE],
        returns: "how many different certificates it holds",
        doc: "Counts the certificates of a bundle.",
        example: "if bundle::count(pki.ca) != 1 { throw \"a single CA is expected\"; }",
        run: |_, args, _| {
            Box::pin(async move {
                let list = certificates(args.first().unwrap_or(&Value::Null), "bundle")?;
                Ok(merge([list.as_slice()]).len().into())
            })
        },
        restore: None,
        forecast: None,
        touches: |_| Vec::new(),
    },
    Primitive {
        name: "bundle::compare",
        kind: Kind::Pure,
        params: &[
            BUNDLE,
            Param::required(
                "other",
                Type::Any,
                "The bundle to compare it with: PEM text, a map with `cert`, or a list of these.",
            ),
        ],
        returns: "a map: `same`; `same_order`; `only_first`, `only_second` and `both`, lists of maps (`subject`, `issuer`, \
                  `fingerprint`, `spki`, `not_after`); `same_key`, pairs of different certificates of one key (`first`, \
                  `second`, `spki`)",
        doc: "Says what one bundle has that another has not, by fingerprint and by key.\n\nA CA that was renewed with its \
              key is told apart: it vouches for the same leaves.",
        example: "let lacks = bundle::compare(both, secret[\"ca.crt\"]).only_first;",
        run: |_, args, _| {
            Box::pin(async move {
                let first = certificates(args.first().unwrap_or(&Value::Null), "bundle")?;
                let second = certificates(args.get(1).unwrap_or(&Value::Null), "other")?;
                Ok(compare(&first, &second).to_value())
            })
        },
        restore: None,
        forecast: None,
        touches: |_| Vec::new(),
    },
    Primitive {
        name: "bundle::check",
        kind: Kind::Read,
        params: &[
            BUNDLE,
            Param::optional(
                "at",
                Type::Text,
                "For which time, as `2036-11-19T00:00:00Z`; now when left out.",
            ),
        ],
        returns: "a map: `certificates`, a list of maps (`subject`, `issuer`, `fingerprint`, `spki`, `not_after`); \
                  `findings`, a list of maps (`position` from 1, `code`, `text`)",
        doc: "Goes through a trust store for what somebody will trip over.\n\nCodes: `duplicate`, `expired`, \
              `not-yet-valid`, `not-a-ca`, `intermediate`, `same-name`, `same-key`, `weak-signature`.",
        example: "for f in bundle::check(pki.ca).findings { note(f.text); }",
        run: |world, args, _| {
            Box::pin(async move {
                let list = certificates(args.first().unwrap_or(&Value::Null), "bundle")?;
                let at = cert::moment(args.get(1), world.clock.now())?;
                let all: Vec<Value> = list.iter().map(compare::brief).collect();
                let findings: Vec<Value> = check(&list, at).iter().map(Finding::to_value).collect();
                Ok(json!({ "certificates": all, "findings": findings }))
            })
        },
        restore: None,
        forecast: None,
        touches: |_| Vec::new(),
    },
];
