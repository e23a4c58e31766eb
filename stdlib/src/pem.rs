//! The namespace `pem`: the blocks of PEM texts, found with their positions and written anew. No IO.
//!
//! Scripts never see the content of private keys here: their texts would become part of the record.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::cert::pem::{Block, Scan, encode, scan};
use crate::error::PrimError;
use crate::registry::{Kind, Param, Primitive, Type};

/// The blocks of a text, in order, with notes on what other readers would trip over.
///
/// # Errors
/// A damaged block (the error names its line), or no block at all.
pub fn blocks(text: &[u8], what: &str) -> Result<Scan, PrimError> {
    let found = scan(text, what)?;
    if found.blocks.is_empty() {
        let seen = if text.is_empty() {
            "an empty text"
        } else if text.contains(&0) {
            "binary data"
        } else {
            "none"
        };
        return Err(PrimError::invalid("holds no PEM block")
            .on(what)
            .expected("`-----BEGIN …-----`", seen)
            .hint("name a PEM file; DER is converted by `openssl x509 -inform der -in OLD -out NEW`"));
    }
    Ok(found)
}

/// The label under which everybody reads a block: old names of two kinds are put right.
pub fn label(block: &Block) -> &str {
    match block.label.as_str() {
        "X509 CERTIFICATE" => "CERTIFICATE",
        "NEW CERTIFICATE REQUEST" => "CERTIFICATE REQUEST",
        other => other,
    }
}

/// Whether a block is a private key, encrypted or not.
pub fn is_key(block: &Block) -> bool {
    block.label.ends_with("PRIVATE KEY")
}

/// One block, written anew: lines of 64 columns, a newline at the end.
///
/// # Errors
/// A key in OpenSSL's old encryption, whose headers would be lost.
pub fn again(block: &Block, what: &str) -> Result<Zeroizing<String>, PrimError> {
    if block.encrypted_headers {
        return Err(PrimError::invalid(format!(
            "line {}: a key in OpenSSL's old encryption cannot be written anew",
            block.line
        ))
        .on(what)
        .expected("`ENCRYPTED PRIVATE KEY`, or none", "`Proc-Type: 4,ENCRYPTED`")
        .hint("convert it: `openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD -out NEW`"));
    }
    Ok(Zeroizing::new(encode(label(block), &block.der)))
}

/// All blocks, written anew one after the other, nothing between them.
///
/// # Errors
/// As [`again`].
pub fn join<'a>(
    blocks: impl IntoIterator<Item = &'a Block>,
    what: &str,
) -> Result<Zeroizing<String>, PrimError> {
    let mut text = Zeroizing::new(String::new());
    for block in blocks {
        text.push_str(&again(block, what)?);
    }
    Ok(text)
}

fn wrong(message: &str, expected: &str) -> PrimError {
    PrimError::argument(message)
        .expected(expected, "something else")
        .hint("pass what `pem::split` or `files::read` gave")
}

/// The blocks of texts that a script holds; a private key among them is refused.
fn public(value: &Value, what: &str) -> Result<Vec<Block>, PrimError> {
    match value {
        Value::String(text) => {
            let found = blocks(text.as_bytes(), what)?;
            match found.blocks.iter().find(|block| is_key(block)) {
                Some(key) => {
                    Err(PrimError::invalid(format!("line {}: a private key stands in the text", key.line))
                        .on(what)
                        .expected("certificates and requests", "a private key")
                        .hint("keys are secrets: read them with `cert::read_key`, and pass the handle on"))
                }
                None => Ok(found.blocks),
            }
        }
        Value::Array(items) => {
            let mut all = Vec::new();
            for (index, item) in items.iter().enumerate() {
                let name = format!("{what}[{index}]");
                if item.is_array() {
                    return Err(wrong(&format!("{name} is a list within a list"), "PEM text"));
                }
                all.extend(public(item, &name)?);
            }
            Ok(all)
        }
        _ => Err(wrong(&format!("{what} is no text"), "PEM text")),
    }
}

/// What a block is, without its content.
pub fn describe(block: &Block) -> Value {
    let mut value = json!({
        "label": label(block),
        "line": block.line,
        "bytes": block.der.len(),
        "encrypted": block.encrypted_headers || block.label == "ENCRYPTED PRIVATE KEY",
    });
    // The digest of a private key would let others recognise a guessed one.
    if !is_key(block)
        && let Some(fields) = value.as_object_mut()
    {
        let digest = hex::encode(Sha256::digest(block.der.as_slice()));
        fields.insert("sha256".into(), format!("sha256:{digest}").into());
    }
    value
}

const PEM: Param = Param::required("pem", Type::Text, "A PEM text.");

fn text_of(args: &[Value]) -> Result<&str, PrimError> {
    args.first().and_then(Value::as_str).ok_or_else(|| wrong("`pem` is no text", "PEM text"))
}

/// The primitives of this namespace.
pub const PRIMITIVES: &[Primitive] = &[
    Primitive {
        name: "pem::blocks",
        kind: Kind::Pure,
        params: &[PEM],
        returns: "a map: `blocks`, a list of maps (`label`, `line`, `bytes`, `encrypted`, and `sha256` of what is no \
                  private key); `notes`, what other readers would trip over",
        doc: "Lists the blocks of a PEM text.\n\nEvery `BEGIN` becomes a block or an error: fails with `invalid`, naming \
              the line, where one is damaged.",
        example: "for b in pem::blocks(text).blocks { print(`${b.line}: ${b.label}`); }",
        run: |_, args, _| {
            Box::pin(async move {
                let found = blocks(text_of(args)?.as_bytes(), "the text")?;
                let all: Vec<Value> = found.blocks.iter().map(describe).collect();
                Ok(json!({ "blocks": all, "notes": found.notes }))
            })
        },
        restore: None,
        forecast: None,
        touches: |_| Vec::new(),
    },
    Primitive {
        name: "pem::split",
        kind: Kind::Pure,
        params: &[PEM],
        returns: "a list of PEM texts, one block each, written anew",
        doc: "Splits a PEM text into its blocks.\n\nFails with `invalid` where a block is damaged or a private key stands \
              among them, naming its line.",
        example: "let leaf = pem::split(secret[\"tls.crt\"])[0];",
        run: |_, args, _| {
            Box::pin(async move {
                let all = public(&Value::from(text_of(args)?), "the text")?;
                let texts = all.iter().map(|block| Ok(Value::from(again(block, "the text")?.as_str())));
                Ok(Value::Array(texts.collect::<Result<_, PrimError>>()?))
            })
        },
        restore: None,
        forecast: None,
        touches: |_| Vec::new(),
    },
    Primitive {
        name: "pem::normalise",
        kind: Kind::Pure,
        params: &[PEM],
        returns: "the same blocks as a PEM text: lines of 64 columns, a newline at the end, nothing beside the blocks",
        doc: "Writes a PEM text anew, so that every reader finds every block.\n\nText between the blocks, Windows line ends \
              and old labels go; order and duplicates stay. Fails as `pem::split` does.",
        example: "let clean = pem::normalise(files::read(\"ca.pem\"));",
        run: |_, args, _| {
            Box::pin(async move {
                let all = public(&Value::from(text_of(args)?), "the text")?;
                Ok(join(&all, "the text")?.as_str().into())
            })
        },
        restore: None,
        forecast: None,
        touches: |_| Vec::new(),
    },
    Primitive {
        name: "pem::join",
        kind: Kind::Pure,
        params: &[Param::required(
            "texts",
            Type::List,
            "PEM texts, in the order in which their blocks shall follow each other.",
        )],
        returns: "one PEM text with every block, duplicates among them; `bundle::of` drops duplicates",
        doc: "Joins PEM texts by writing their blocks anew, so that no missing newline can lose one.\n\nFor a leaf with its \
              intermediates. Fails as `pem::split` does, naming the text.",
        example: "let chain = pem::join([leaf.cert, bridge]);",
        run: |_, args, _| {
            Box::pin(async move {
                let list = args.first().filter(|list| list.is_array());
                let list = list.ok_or_else(|| wrong("`texts` is no list", "a list of PEM texts"))?;
                Ok(join(&public(list, "texts")?, "texts")?.as_str().into())
            })
        },
        restore: None,
        forecast: None,
        touches: |_| Vec::new(),
    },
];
