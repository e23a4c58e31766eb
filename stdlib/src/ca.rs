//! Certificate authorities: made, renewed with the same key, signed by another. No IO.

mod request;

pub use request::like;

use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use crate::cert::{BasicConstraints, Certificate, Issuer, Key, KeyId, KeyUsage, Template, date};
use crate::cfssl::{self, Authority, Request};
use crate::error::PrimError;
use crate::registry::{Kind, Param, Primitive, Type};
use crate::world::World;

/// What cfssl takes where the request has no `ca.expiry`: five times 8760 hours.
const DEFAULT_EXPIRY: Duration = Duration::hours(43_800);

/// Makes an authority with a new key, as `cfssl gencert -initca` does.
///
/// Host names in the request are left out, as cfssl does. The subject comes from the request alone, so two authorities
/// of one request have one name and differ by key id; whatever they issue here names its issuer by key id.
///
/// # Errors
/// The request names nobody, or asks for a key that cannot be made.
pub fn create(request: &Request, now: OffsetDateTime) -> Result<(Certificate, Key), PrimError> {
    check_named(request)?;
    let key = Key::generate(request.key).map_err(|error| error.on(request.what.clone()))?;
    Ok((create_for(request, &key, now)?, key))
}

/// As [`create`], for a key that is there already: `cfssl gencert -initca -ca-key`.
///
/// # Errors
/// The request names nobody, or would make a CA that is born expired.
pub fn create_for(request: &Request, key: &Key, now: OffsetDateTime) -> Result<Certificate, PrimError> {
    check_named(request)?;
    let Authority { expiry, path_len, backdate } = request.ca.clone().unwrap_or_default();
    let not_before = cfssl::whole_minute(now) - backdate.unwrap_or(cfssl::BACKDATE);
    let not_after = not_before
        .checked_add(expiry.unwrap_or(DEFAULT_EXPIRY))
        .ok_or_else(|| cfssl::past_9999("ca.expiry: reaches past the year 9999").on(request.what.clone()))?;
    let born_expired = not_after - now < Duration::minutes(1);
    if born_expired && !request.rules.are_cfssls() {
        return Err(PrimError::invalid("ca.expiry: the CA would be born expired")
            .on(request.what.clone())
            .expected(format!("an end after {}", date(now)), date(not_after))
            .hint("make the expiry longer than the backdate (5m unless set)"));
    }
    let mut template = Template::authority(request.subject()?, key.spki(), not_before, not_after);
    template.basic = Some(BasicConstraints { ca: true, path_len });
    template.never_valid = born_expired;
    template.self_sign(key)
}

fn check_named(request: &Request) -> Result<(), PrimError> {
    let blank = |names: &cfssl::Names| {
        [&names.c, &names.st, &names.l, &names.o, &names.ou].iter().all(|part| part.trim().is_empty())
    };
    if request.cn.trim().is_empty() && (request.names.is_empty() || request.names.iter().any(blank)) {
        return Err(PrimError::invalid("CN: a CA needs a name")
            .on(request.what.clone())
            .expected("a `CN`, or `names` of which each has one of C, ST, L, O and OU", "neither")
            .hint("add `\"CN\": \"…\"`"));
    }
    Ok(())
}

/// Signs an authority anew with its own key: same name, key and key id, new serial and dates. What it issued stays
/// valid, and nobody needs a bundle; it does not help against a stolen key.
///
/// # Errors
/// It is no authority, not self-signed, or not its key's.
pub fn renew(
    old: &Certificate,
    key: &Key,
    lifetime: Option<Duration>,
    now: OffsetDateTime,
) -> Result<Certificate, PrimError> {
    key.check_matches(old, &old.to_string())?;
    if !old.may_sign() || !old.self_issued() {
        return Err(PrimError::invalid("is no root authority that could sign itself anew")
            .on(old.to_string())
            .expected("a self-signed CA", if old.may_sign() { "an intermediate CA" } else { "no CA" })
            .hint(if old.may_sign() {
                "have its issuer sign it anew"
            } else {
                "issue a leaf again with `cfssl::reissue`"
            }));
    }
    let not_before = cfssl::whole_minute(now) - cfssl::BACKDATE;
    let lifetime = lifetime.unwrap_or(old.not_after() - old.not_before());
    let not_after = not_before
        .checked_add(lifetime)
        .ok_or_else(|| cfssl::past_9999("the lifetime reaches past the year 9999").on(old.to_string()))?;
    copy(old, not_before, not_after).self_sign(key)
}

/// Signs another authority's name and key: who trusts only `issuer` then accepts what `other` issues, where servers
/// send this certificate along.
///
/// # Errors
/// One of them is no authority, the issuer has expired, or allows no authority below itself.
pub fn cross_sign(
    issuer: &Certificate,
    issuer_key: &Key,
    other: &Certificate,
    now: OffsetDateTime,
) -> Result<Certificate, PrimError> {
    cfssl::check_authority(issuer, issuer_key, now)?;
    if !other.may_sign() {
        return Err(PrimError::invalid("is no CA, so cross-signing it makes no sense")
            .on(other.to_string())
            .expected("CA:TRUE, and `cert sign` among its key usages", "a leaf")
            .hint("pass the certificate of the authority that issued it"));
    }
    if issuer.basic_constraints().is_some_and(|basic| basic.path_len == Some(0)) {
        return Err(PrimError::invalid("allows no CA below itself")
            .on(issuer.to_string())
            .expected("no path length, or one of 1 or more", "path length 0")
            .hint("trust both CAs with a bundle instead"));
    }
    let not_before = cfssl::whole_minute(now) - cfssl::BACKDATE;
    let mut template = copy(other, not_before, other.not_after().min(issuer.not_after()));
    template.extra.retain(|(oid, _, _)| !ISSUERS_OWN.contains(&oid.as_str()));
    template.sign(Issuer { certificate: issuer, key: issuer_key })
}

/// What the issuer has written about itself, and so does not hold for another one: where to find its certificate, its
/// revocations and its logs.
const ISSUERS_OWN: [&str; 4] = ["1.3.6.1.5.5.7.1.1", "2.5.29.31", "2.5.29.46", "1.3.6.1.4.1.11129.2.4.2"];

/// Everything that an authority says of itself, constraints and further extensions included.
fn copy(of: &Certificate, not_before: OffsetDateTime, not_after: OffsetDateTime) -> Template {
    Template {
        basic: of.basic_constraints(),
        key_usage: of.key_usage().or(Some(KeyUsage::CERT_SIGN.with(KeyUsage::CRL_SIGN))),
        ext_usage: of.ext_usage().unwrap_or_default().to_vec(),
        skid: of.skid().map_or(KeyId::Computed, |id| KeyId::Given(id.to_vec())),
        sans: of.sans().to_vec(),
        extra: of.other_extensions().to_vec(),
        ..Template::authority(of.subject().to_vec(), of.spki(), not_before, not_after)
    }
}

/// A certificate and its key as a value: `{cert: PEM, key: HANDLE, fingerprint}`.
///
/// # Errors
/// The secret store cannot be written.
pub fn to_value(world: &World, certificate: &Certificate, key: &Key) -> Result<Value, PrimError> {
    let handle = world.secrets.put(&key.to_secret()?)?;
    Ok(json!({ "cert": certificate.pem(), "key": handle, "fingerprint": certificate.fingerprint() }))
}

/// Reads what [`to_value`] wrote.
///
/// # Errors
/// A field is missing, there are several certificates, or the two do not belong together.
pub fn from_value(world: &World, value: &Value, what: &str) -> Result<(Certificate, Key), PrimError> {
    let (chain, key) = chain_of(world, value, what)?;
    match <[Certificate; 1]>::try_from(chain) {
        Ok([only]) => Ok((only, key)),
        Err(chain) => Err(PrimError::argument(format!("{what}.cert holds several certificates"))
            .expected("one", chain.len().to_string())
            .hint("pass the CA itself, not a bundle")),
    }
}

/// As [`from_value`], for a leaf that may have intermediates behind it.
///
/// # Errors
/// A field is missing, or the key is not the first certificate's.
pub fn chain_of(world: &World, value: &Value, what: &str) -> Result<(Vec<Certificate>, Key), PrimError> {
    let missing = |field: &str| {
        PrimError::argument(format!("{what} has no `{field}`")).expected("a map with `cert` and `key`", "none").hint(
            "pass a map with `cert` and `key`, as `ca::create`, `cfssl::issue` and `cfssl::folder` return it",
        )
    };
    let text = value.get("cert").and_then(Value::as_str).ok_or_else(|| missing("cert"))?;
    let chain = crate::cert::parse_many(text.as_bytes(), &format!("{what}.cert"))?;
    let handle = value.get("key").filter(|key| !key.is_null()).ok_or_else(|| missing("key"))?;
    let key = Key::from_secret(&world.secrets.get(handle)?)?;
    for first in chain.iter().take(1) {
        key.check_matches(first, what)?;
    }
    Ok((chain, key))
}

const RETURNS: &str = "a map: `cert` (PEM), `key` (a secret handle), `fingerprint` (`sha256:HEX`)";

/// The primitives of this namespace.
pub const PRIMITIVES: &[Primitive] = &[
    Primitive {
        name: "ca::create",
        kind: Kind::Make,
        params: &[
            Param::required("csr", Type::Map, "A cfssl request for an authority, as `ca-csr.json` has it."),
            Param::optional(
                "options",
                Type::Map,
                "`cfssl_lax`: true reads the request as cfssl does, where that bites; each is told in `warnings`.",
            ),
        ],
        returns: RETURNS,
        doc: "Makes a certificate authority with a new key.\n\nFails with `invalid` where the request names nobody or \
              asks for a key that cannot be made.",
        example: "let ca = p.stage(\"new CA\", ca::create(pki.ca_csr));",
        run: |world, args, _| {
            Box::pin(async move {
                let rules = cfssl::Rules::of_options(args.get(1))?;
                let request = Request::read(args.first().unwrap_or(&Value::Null), "the CA request", rules)?;
                let (certificate, key) = create(&request, world.clock.now())?;
                Ok(cfssl::calls::warned(to_value(world, &certificate, &key)?, &[&request.warnings]))
            })
        },
        restore: None,
        forecast: None,
        touches: |_| Vec::new(),
    },
    Primitive {
        name: "ca::request",
        kind: Kind::Pure,
        params: &[
            Param::required("old", Type::Any, "PEM of an authority."),
            Param::optional(
                "options",
                Type::Map,
                "`CN`, another common name; `expiry`, how long the new one is valid, as `87600h`: five years if left out.",
            ),
        ],
        returns: "A cfssl request, for `ca::create`.",
        doc: "What a request must say for an authority like one that is there: its whole subject, and a key of its algorithm and \
              size.\n\nFails with `invalid` where no request can say it.",
        example: "let ca = p.stage(\"new CA\", ca::create(ca::request(pki.ca.cert, #{ expiry: \"87600h\" })));",
        run: |_, args, _| {
            Box::pin(async move {
                let chain = crate::bundle::certificates(args.first().unwrap_or(&Value::Null), "old")?;
                let old = chain.first().ok_or_else(|| PrimError::argument("old holds no certificate"))?;
                let option =
                    |name: &str| args.get(1).and_then(|options| options.get(name)).and_then(Value::as_str);
                request::like(old, option("CN"), option("expiry"))
            })
        },
        restore: None,
        forecast: None,
        touches: |_| Vec::new(),
    },
    Primitive {
        name: "ca::renew",
        kind: Kind::Make,
        params: &[
            Param::required("ca", Type::Map, "The authority: a map with `cert` and `key`."),
            Param::optional(
                "lifetime",
                Type::Duration,
                "How long the new certificate is valid, as `87600h`; as long as the old one was when left out.",
            ),
        ],
        returns: RETURNS,
        doc: "Signs an authority anew with its own key: same name and key, new dates.\n\nWhat it issued stays valid. It \
              does not help against a stolen key.",
        example: "let renewed = p.stage(\"renewed CA\", ca::renew(pki.ca));",
        run: |world, args, _| {
            Box::pin(async move {
                let (certificate, key) = from_value(world, args.first().unwrap_or(&Value::Null), "ca")?;
                let lifetime = args.get(1).filter(|v| !v.is_null()).map(cfssl::duration_of).transpose()?;
                let renewed = renew(&certificate, &key, lifetime, world.clock.now())?;
                to_value(world, &renewed, &key)
            })
        },
        restore: None,
        forecast: None,
        touches: |_| Vec::new(),
    },
    Primitive {
        name: "ca::cross_sign",
        kind: Kind::Make,
        params: &[
            Param::required("issuer", Type::Map, "The authority that signs: a map with `cert` and `key`."),
            Param::required(
                "other",
                Type::Any,
                "The authority that is signed: PEM text or a map with `cert`.",
            ),
        ],
        returns: "PEM text of the cross certificate",
        doc: "Signs another authority's name and key.\n\nWho trusts only the issuer accepts what the other issues, where \
              servers send the cross certificate along.",
        example: "let bridge = p.stage(\"bridge\", ca::cross_sign(pki.ca, ca));",
        run: |world, args, _| {
            Box::pin(async move {
                let (issuer, key) = from_value(world, args.first().unwrap_or(&Value::Null), "issuer")?;
                let others = crate::bundle::certificates(args.get(1).unwrap_or(&Value::Null), "other")?;
                let [other] = others.as_slice() else {
                    return Err(PrimError::argument("other holds several certificates")
                        .expected("one", others.len().to_string())
                        .hint("pass the CA itself, not a bundle"));
                };
                Ok(cross_sign(&issuer, &key, other, world.clock.now())?.pem().into())
            })
        },
        restore: None,
        forecast: None,
        touches: |_| Vec::new(),
    },
];
