//! Bodies in protobuf, for the few kinds that clients send so: `kubectl` 1.33 and later creates what it has types for in
//! no other form. Answers are JSON, which every client takes as well.

use base64::Engine as _;
use serde_json::{Map, Value, json};

/// The type of a field.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Flag,
    Number,
    Message(&'static [Field]),
    /// `map<string, string>`
    Texts,
    /// `map<string, bytes>`
    Blobs,
}

/// number, name, type, whether it repeats
type Field = (u64, &'static str, Kind, bool);

const OWNER: &[Field] = &[
    (1, "kind", Kind::Text, false),
    (3, "name", Kind::Text, false),
    (4, "uid", Kind::Text, false),
    (5, "apiVersion", Kind::Text, false),
    (6, "controller", Kind::Flag, false),
    (7, "blockOwnerDeletion", Kind::Flag, false),
];
const META: &[Field] = &[
    (1, "name", Kind::Text, false),
    (2, "generateName", Kind::Text, false),
    (3, "namespace", Kind::Text, false),
    (5, "uid", Kind::Text, false),
    (6, "resourceVersion", Kind::Text, false),
    (11, "labels", Kind::Texts, false),
    (12, "annotations", Kind::Texts, false),
    (13, "ownerReferences", Kind::Message(OWNER), true),
    (14, "finalizers", Kind::Text, true),
];
const METADATA: Field = (1, "metadata", Kind::Message(META), false);
const SECRET: &[Field] = &[
    METADATA,
    (2, "data", Kind::Blobs, false),
    (3, "type", Kind::Text, false),
    (4, "stringData", Kind::Texts, false),
    (5, "immutable", Kind::Flag, false),
];
const CONFIG_MAP: &[Field] = &[
    METADATA,
    (2, "data", Kind::Texts, false),
    (3, "binaryData", Kind::Blobs, false),
    (4, "immutable", Kind::Flag, false),
];
const PRECONDITIONS: &[Field] = &[(1, "uid", Kind::Text, false), (2, "resourceVersion", Kind::Text, false)];
const DELETE_OPTIONS: &[Field] = &[
    (1, "gracePeriodSeconds", Kind::Number, false),
    (2, "preconditions", Kind::Message(PRECONDITIONS), false),
    (3, "orphanDependents", Kind::Flag, false),
    (4, "propagationPolicy", Kind::Text, false),
    (5, "dryRun", Kind::Text, true),
];
const ATTRIBUTES: &[Field] = &[
    (1, "namespace", Kind::Text, false),
    (2, "verb", Kind::Text, false),
    (3, "group", Kind::Text, false),
    (4, "version", Kind::Text, false),
    (5, "resource", Kind::Text, false),
    (6, "subresource", Kind::Text, false),
    (7, "name", Kind::Text, false),
];
const PATH: &[Field] = &[(1, "path", Kind::Text, false), (2, "verb", Kind::Text, false)];
const ACCESS_SPEC: &[Field] = &[
    (1, "resourceAttributes", Kind::Message(ATTRIBUTES), false),
    (2, "nonResourceAttributes", Kind::Message(PATH), false),
];
const RULES_SPEC: &[Field] = &[(1, "namespace", Kind::Text, false)];
const TOKEN_SPEC: &[Field] =
    &[(1, "audiences", Kind::Text, true), (4, "expirationSeconds", Kind::Number, false)];

fn fields_of(kind: &str) -> Option<&'static [Field]> {
    Some(match kind {
        "Secret" => SECRET,
        "ConfigMap" => CONFIG_MAP,
        "Namespace" | "ServiceAccount" | "SelfSubjectReview" => &[METADATA],
        "DeleteOptions" => DELETE_OPTIONS,
        "Eviction" => &[METADATA, (2, "deleteOptions", Kind::Message(DELETE_OPTIONS), false)],
        "SelfSubjectAccessReview" => &[METADATA, (2, "spec", Kind::Message(ACCESS_SPEC), false)],
        "SelfSubjectRulesReview" => &[METADATA, (2, "spec", Kind::Message(RULES_SPEC), false)],
        "TokenRequest" => &[METADATA, (2, "spec", Kind::Message(TOKEN_SPEC), false)],
        _ => return None,
    })
}

/// A field as it lies on the wire.
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn next<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Wire<'a>)> {
    let tag = varint(bytes)?;
    let mut take = |count: usize| {
        let (head, rest) = bytes.split_at_checked(count)?;
        *bytes = rest;
        Some(head)
    };
    let wire = match tag & 7 {
        0 => Wire::Number(varint(bytes)?),
        1 => Wire::Bytes(take(8)?),
        2 => {
            let count = usize::try_from(varint(bytes)?).ok()?;
            let (head, rest) = bytes.split_at_checked(count)?;
            *bytes = rest;
            Wire::Bytes(head)
        }
        5 => Wire::Bytes(take(4)?),
        _ => return None,
    };
    Some((tag >> 3, wire))
}

/// Key and value of an entry of a map.
fn entry(mut bytes: &[u8]) -> Option<(String, &[u8])> {
    let (mut key, mut value) = (String::new(), &[][..]);
    while !bytes.is_empty() {
        match next(&mut bytes)? {
            (1, Wire::Bytes(text)) => key = String::from_utf8(text.to_vec()).ok()?,
            (2, Wire::Bytes(found)) => value = found,
            _ => {}
        }
    }
    Some((key, value))
}

fn message(mut bytes: &[u8], fields: &[Field]) -> Option<Map<String, Value>> {
    let mut map = Map::new();
    while !bytes.is_empty() {
        let (number, wire) = next(&mut bytes)?;
        let Some((_, name, kind, repeats)) = fields.iter().find(|(at, ..)| *at == number) else { continue };
        let value = match (kind, wire) {
            (Kind::Text, Wire::Bytes(text)) => {
                let text = String::from_utf8(text.to_vec()).ok()?;
                if text.is_empty() && !repeats {
                    continue;
                }
                Value::String(text)
            }
            (Kind::Flag, Wire::Number(number)) => json!(number != 0),
            (Kind::Number, Wire::Number(number)) => json!(number.cast_signed()),
            (Kind::Message(fields), Wire::Bytes(inner)) => Value::Object(message(inner, fields)?),
            (Kind::Texts | Kind::Blobs, Wire::Bytes(inner)) => {
                let (key, value) = entry(inner)?;
                let value = match kind {
                    Kind::Blobs => base64::engine::general_purpose::STANDARD.encode(value),
                    _ => String::from_utf8(value.to_vec()).ok()?,
                };
                super::object::as_map(map.entry(*name).or_insert(Value::Null))
                    .insert(key, Value::String(value));
                continue;
            }
            _ => return None,
        };
        if *repeats {
            if let Some(list) = map.entry(*name).or_insert_with(|| json!([])).as_array_mut() {
                list.push(value);
            }
        } else {
            map.insert((*name).into(), value);
        }
    }
    Some(map)
}

/// The JSON of a body; none where the kind is not among those known here, or the bytes are wrong.
pub(crate) fn to_json(body: &[u8]) -> Option<Value> {
    let mut bytes = body.strip_prefix(b"k8s\0")?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    while !bytes.is_empty() {
        match next(&mut bytes)? {
            (1, Wire::Bytes(mut inner)) => {
                while !inner.is_empty() {
                    match next(&mut inner)? {
                        (1, Wire::Bytes(text)) => api_version = String::from_utf8(text.to_vec()).ok()?,
                        (2, Wire::Bytes(text)) => kind = String::from_utf8(text.to_vec()).ok()?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(inner)) => raw = inner,
            _ => {}
        }
    }
    let mut map = message(raw, fields_of(&kind)?)?;
    map.insert("apiVersion".into(), Value::String(api_version));
    map.insert("kind".into(), Value::String(kind));
    Some(Value::Object(map))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn part(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
        out.extend_from_slice(bytes);
        out
    }

    #[test]
    fn a_secret_as_kubectl_sends_it() {
        let data = part(2, &[part(1, b"ca.crt"), part(2, b"\xffPEM")].concat());
        let label = part(11, &[part(1, b"a"), part(2, b"b")].concat());
        let meta = part(1, &[part(1, b"s"), part(2, b""), label, part(14, b"x/y")].concat());
        let mut secret = [meta, data, part(3, b"Opaque")].concat();
        secret.extend_from_slice(&[5 << 3, 1]);
        let types = part(1, &[part(1, b"v1"), part(2, b"Secret")].concat());
        let body = [b"k8s\0".to_vec(), types, part(2, &secret), part(3, b""), part(4, b"")].concat();
        assert_eq!(
            to_json(&body).unwrap(),
            json!({
                "apiVersion": "v1", "kind": "Secret",
                "metadata": {"name": "s", "labels": {"a": "b"}, "finalizers": ["x/y"]},
                "data": {"ca.crt": "/1BFTQ=="}, "type": "Opaque", "immutable": true,
            })
        );
        assert!(to_json(body.get(..body.len() - 9).unwrap()).is_none(), "cut off");
        assert!(to_json(b"{}").is_none());
    }
}
