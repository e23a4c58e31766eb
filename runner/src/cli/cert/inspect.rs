//! `rollover cert inspect`.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use stdlib::Secret;
use stdlib::cert::{Certificate, describe_request};
use stdlib::tls::probe::Probed;
use time::OffsetDateTime;

use super::args::Inspect;
use super::files::{certificates, key_beside, read};
use super::lines::Facts;
use super::show::{Pair, Shown, SignedBy, list, request};
use super::source::{self, Found, Item, Source};
use crate::cli::Context;
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::output::{self, style};

/// What was found in one place, and what lies around it.
struct Place {
    title: String,
    kind: &'static str,
    items: Vec<Item>,
    /// Named groups of certificates among which issuers are looked for.
    issuers: Vec<(String, Vec<Certificate>)>,
    /// Where a key was found that is not among the items.
    beside: Option<(String, Found)>,
    /// What an endpoint said of itself.
    endpoint: Option<Probed>,
}

pub(super) async fn inspect(context: &Context, args: &Inspect) -> Result<ExitCode, Failure> {
    let passphrase = args.passphrase.named()?;
    let now = super::now();
    for (index, text) in args.sources.iter().enumerate() {
        let place = match Source::of(text)? {
            Source::File(path) => of_file(args, &path, passphrase.as_ref())?,
            Source::Secret(namespace, name) => {
                let (title, items) =
                    source::secret(context, &args.cluster, &namespace, &name, passphrase.as_ref()).await?;
                of_items(args, title, "secret", items)?
            }
            Source::Endpoint(host, port) => of_endpoint(args, &host, port).await?,
        };
        if context.json() {
            output::data(&place.to_value().to_string());
        } else {
            if index > 0 {
                output::data("");
            }
            output::data(&place.text(now, args.long));
        }
    }
    Ok(ExitCode::Ok)
}

/// The certificates of `--ca`, or of `ca.pem` beside a file.
fn issuers(args: &Inspect, beside: Option<&Path>) -> Result<Vec<(String, Vec<Certificate>)>, Failure> {
    if let Some(path) = &args.ca {
        return Ok(vec![(path.display().to_string(), certificates(path)?)]);
    }
    let near = beside.map(|path| path.with_file_name("ca.pem")).filter(|path| path.is_file());
    // What merely lies there may be broken without harm.
    let near = near.and_then(|path| Some((path.display().to_string(), super::files::parsed(&path).ok()?)));
    Ok(near.into_iter().map(|(name, parsed)| (name, parsed.certificates)).collect())
}

/// The key of `--key`, which must be one.
fn explicit_key(args: &Inspect) -> Result<Option<(String, Found)>, Failure> {
    args.key
        .as_ref()
        .map(|path| Ok((path.display().to_string(), Found::Open(args.passphrase.key(path)?))))
        .transpose()
}

fn of_file(args: &Inspect, path: &Path, passphrase: Option<&Secret>) -> Result<Place, Failure> {
    let item = source::file(path, passphrase)?;
    if item.is_empty() {
        return Err(Failure::new(
            ExitCode::Malformed,
            "holds no certificate, signing request or private key",
        )
        .on(item.name)
        .hint("`rollover cert pem list FILE` tells which blocks it has"));
    }
    let file = path != Path::new("-");
    let mut beside = explicit_key(args)?;
    if beside.is_none() && file && item.key.is_none() {
        let near: Option<PathBuf> = Some(key_beside(path)).filter(|near| near.is_file());
        if let Some(near) = near {
            let name = near.display().to_string();
            beside = Some((name.clone(), Found::read(&read(&near)?, &name, passphrase)));
        }
    }
    let issuers = issuers(args, file.then_some(path))?;
    Ok(Place { title: item.name.clone(), kind: "file", items: vec![item], issuers, beside, endpoint: None })
}

fn of_items(args: &Inspect, title: String, kind: &'static str, items: Vec<Item>) -> Result<Place, Failure> {
    let mut issuers = issuers(args, None)?;
    issuers.extend(
        items
            .iter()
            .filter(|item| !item.certificates.is_empty())
            .map(|item| (item.name.clone(), item.certificates.clone())),
    );
    Ok(Place { title, kind, items, issuers, beside: explicit_key(args)?, endpoint: None })
}

async fn of_endpoint(args: &Inspect, host: &str, port: u16) -> Result<Place, Failure> {
    let found = source::look(host, port, &args.dial).await?;
    let item = Item {
        name: "served".into(),
        certificates: source::served(&found)?,
        requests: Vec::new(),
        key: None,
        notes: Vec::new(),
    };
    let place = of_items(args, format!("{host}:{port}"), "endpoint", vec![item])?;
    Ok(Place { endpoint: Some(found), ..place })
}

impl Place {
    /// Whether a private key at hand belongs to these bits.
    fn pair(&self, fits: impl Fn(&stdlib::cert::Key) -> bool) -> Pair {
        let own = self.items.iter().find_map(|item| Some((self.name_of(item), item.key.as_ref()?)));
        let beside = self.beside.as_ref().map(|(name, found)| (name.clone(), found));
        match beside.or(own) {
            None => Pair::None,
            Some((name, Found::Open(key))) if fits(key) => Pair::Fits(name),
            Some((name, Found::Open(_))) => Pair::Foreign(name),
            Some((name, Found::Sealed)) => Pair::Sealed(name),
            Some((name, Found::Broken(error))) => Pair::Broken(name, error.message.clone()),
        }
    }

    fn name_of(&self, item: &Item) -> String {
        if self.kind == "file" { "the key in this file".into() } else { item.name.clone() }
    }

    fn shown<'a>(&'a self, item: &'a Item) -> Vec<Shown<'a>> {
        let mut groups: Vec<(String, &[Certificate])> =
            self.issuers.iter().map(|(name, group)| (name.clone(), group.as_slice())).collect();
        let own = if self.kind == "endpoint" { "the chain served" } else { "this file" };
        groups.push((own.to_owned(), item.certificates.as_slice()));
        item.certificates
            .iter()
            .enumerate()
            .map(|(index, certificate)| Shown {
                certificate,
                signed_by: SignedBy::find(certificate, &groups),
                // A bundle of authorities has no key of its own; the key is the first certificate's, the leaf's.
                pair: match index {
                    0 if item.name != "ca.crt" => self.pair(|key| key.matches(certificate)),
                    _ => Pair::None,
                },
            })
            .collect()
    }

    fn text(&self, now: OffsetDateTime, long: bool) -> String {
        let mut parts = Vec::new();
        if let Some(found) = &self.endpoint {
            parts.push(endpoint(&self.title, found));
        } else if self.kind == "secret" {
            parts.push(style::strong().apply_to(&self.title).to_string());
        }
        for item in &self.items {
            parts.extend(self.item(item, now, long));
        }
        parts.join("\n")
    }

    fn item(&self, item: &Item, now: OffsetDateTime, long: bool) -> Vec<String> {
        let mut parts = Vec::new();
        let shown = self.shown(item);
        match shown.as_slice() {
            [] => {}
            [only] => parts.push(only.facts(&item.name, now, long)),
            several => {
                let chain = item
                    .certificates
                    .windows(2)
                    .all(|pair| matches!(pair, [below, above] if below.check_signed_by(above).is_ok()));
                let order = if chain { ", each signed by the next" } else { "" };
                parts.push(
                    style::strong()
                        .apply_to(format!("{}: {} certificates{order}", item.name, several.len()))
                        .to_string(),
                );
                parts.push(list(several, now));
                if let Some(leaf) = several.first().filter(|first| !first.certificate.is_ca() && !long) {
                    parts.push(leaf.facts(&format!("{}: the first, its leaf", item.name), now, false));
                }
                if long {
                    parts.extend(several.iter().enumerate().map(|(index, one)| {
                        one.facts(&format!("{}: certificate {}", item.name, index + 1), now, true)
                    }));
                }
                if several.iter().all(|one| one.certificate.is_ca()) {
                    let findings = stdlib::bundle::check(&item.certificates, now);
                    parts.extend(
                        findings
                            .iter()
                            .map(|finding| note(&format!("{}: {}", finding.position, finding.text))),
                    );
                }
            }
        }
        for one in &item.requests {
            parts.push(request(&item.name, one, &self.pair(|key| key.spki() == one.spki)));
        }
        if let (true, true, Some(found)) = (item.certificates.is_empty(), item.requests.is_empty(), &item.key)
        {
            parts.push(self.key(item, found));
        }
        parts.extend(item.notes.iter().map(|text| note(text)));
        parts
    }

    /// A private key: its public half, and the certificate beside it.
    fn key(&self, item: &Item, found: &Found) -> String {
        let mut facts = Facts::under(&item.name);
        match found {
            Found::Open(key) => {
                facts.fact("what", "private key; only its public half is shown");
                facts.fact("kind", &key.kind().to_string());
                let of =
                    self.items.iter().filter_map(|item| item.certificates.first().map(|one| (item, one)));
                for (other, certificate) in of.filter(|(other, _)| other.name != "ca.crt") {
                    let fits = key.matches(certificate);
                    let word = if fits { "belongs to" } else { "does NOT belong to" };
                    facts.verdict("pair", fits, &format!("{word} {}", other.name));
                }
                facts.fact("spki", key.fingerprint().trim_start_matches("spki:"));
            }
            Found::Sealed => {
                facts.fact("what", "private key, encrypted; `--passphrase-file FILE` opens it");
            }
            Found::Broken(error) => {
                facts.verdict(
                    "what",
                    false,
                    &format!("a private key that cannot be read: {}", error.message),
                );
                facts.fact("hint", error.hint.as_deref().unwrap_or_default());
            }
        }
        facts.text()
    }

    fn to_value(&self) -> Value {
        let items: Vec<Value> = self
            .items
            .iter()
            .map(|item| {
                let mut fields = Map::new();
                let all: Vec<Value> = self.shown(item).iter().map(Shown::to_value).collect();
                fields.insert("name".into(), item.name.clone().into());
                fields.insert("certificates".into(), all.into());
                let requests: Vec<Value> = item
                    .requests
                    .iter()
                    .map(|one| {
                        let mut value = describe_request(one);
                        if let Some(fields) = value.as_object_mut() {
                            let pair = self.pair(|key| key.spki() == one.spki).to_value();
                            fields.insert("private_key".into(), pair);
                        }
                        value
                    })
                    .collect();
                fields.insert("requests".into(), requests.into());
                if let Some(found) = &item.key {
                    let key = match found {
                        Found::Open(key) => {
                            json!({ "kind": key.kind().to_string(), "spki": key.fingerprint() })
                        }
                        Found::Sealed => json!({ "encrypted": true }),
                        Found::Broken(error) => json!({ "error": error.to_string() }),
                    };
                    fields.insert("key".into(), key);
                }
                fields.insert("notes".into(), item.notes.clone().into());
                Value::Object(fields)
            })
            .collect();
        let mut value = json!({ "source": self.title, "kind": self.kind, "items": items });
        if let (Some(found), Some(fields)) = (&self.endpoint, value.as_object_mut()) {
            fields.insert("protocol".into(), found.observed.protocol.clone().into());
            fields.insert("asks_client".into(), found.observed.asks_client.into());
            let server = found.greeting.as_ref().map(|greeting| greeting.version.clone());
            fields.insert("server".into(), server.into());
        }
        value
    }
}

/// What an endpoint said before its certificates.
fn endpoint(title: &str, found: &Probed) -> String {
    let mut facts = Facts::under(title);
    if let Some(greeting) = &found.greeting {
        facts.fact("server", &format!("MySQL, version {}", greeting.version));
    }
    facts.fact("protocol", &found.observed.protocol);
    facts.fact(
        "asks",
        if found.observed.asks_client { "for a client certificate" } else { "for no client certificate" },
    );
    facts.text()
}

/// Something that somebody will trip over.
pub(super) fn note(text: &str) -> String {
    let mark = style::warn().apply_to("!");
    format!("{mark} {}", style::wrap(text, 2, super::lines::WIDTH).trim_start())
}
