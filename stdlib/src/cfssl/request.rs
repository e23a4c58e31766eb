//! A cfssl request: the JSON that `cfssl gencert` takes.

use serde_json::Value;
use time::Duration;

use super::duration;
use super::json::{self, Fields};
use super::rules::{Rules, or_as_cfssl};
use crate::cert::name::Builder;
use crate::cert::{BasicConstraints, Key, KeyKind, San, SigningRequest, check_rsa_size};
use crate::error::{Code, PrimError};

/// TLS cannot carry certificates with more names than this anyway, and verifiers try them one by one.
const MAX_HOSTS: usize = 10_000;

/// One entry of `names`: parts of the subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Country.
    pub c: String,
    /// State or province.
    pub st: String,
    /// Locality.
    pub l: String,
    /// Organization.
    pub o: String,
    /// Organizational unit.
    pub ou: String,
    /// E-mail address.
    pub e: String,
    /// Further attributes by object identifier.
    pub oid: Vec<(String, String)>,
}

/// The `ca` section of a request for an authority.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authority {
    /// How long it is valid; five years when absent.
    pub expiry: Option<Duration>,
    /// How many authorities may stand below it.
    pub path_len: Option<u32>,
    /// How far back its validity begins; five minutes when absent.
    pub backdate: Option<Duration>,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Common name; may be empty.
    pub cn: String,
    /// Further parts of the subject.
    pub names: Vec<Names>,
    /// Alternative names, in the order of the file.
    pub hosts: Vec<San>,
    /// The key to make.
    pub key: KeyKind,
    /// Only in requests for an authority.
    pub ca: Option<Authority>,
    /// The subject's serial number attribute; may be empty.
    pub serial_number: String,
    /// What errors call it: the file's path.
    pub what: String,
    /// How it was read, which also rules what may be issued for it.
    pub rules: Rules,
    /// What was taken as cfssl takes it, although it bites.
    pub warnings: Vec<String>,
}

impl Request {
    /// Reads a request's JSON text; `what` names the file.
    ///
    /// # Errors
    /// Malformed JSON (line and column), or as [`Self::from_value`].
    pub fn from_json(text: &[u8], what: &str) -> Result<Self, PrimError> {
        Self::read(&json::parse(text, what)?, what, Rules::Strict)
    }

    /// As [`Self::from_json`], by the given rules.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_json(text: &[u8], what: &str, rules: Rules) -> Result<Self, PrimError> {
        Self::read(&json::parse(text, what)?, what, rules)
    }

    /// Reads a request from a value.
    ///
    /// # Errors
    /// A field of the wrong type, a host that is none, a key that cannot be made. An RSA key without a size is
    /// refused, where cfssl takes 256 bits and then fails.
    pub fn from_value(value: &Value, what: &str) -> Result<Self, PrimError> {
        Self::read(value, what, Rules::Strict)
    }

    /// As [`Self::from_value`], by the given rules.
    ///
    /// # Errors
    /// As [`Self::from_value`]; under cfssl's rules only what cfssl refuses too.
    pub fn read(value: &Value, what: &str, rules: Rules) -> Result<Self, PrimError> {
        Self::read_for(value, what, rules, None)
    }

    /// As [`Self::read`], for a key that is there already: what the request says of its key does not count.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_for(value: &Value, what: &str, rules: Rules, own: Option<&Key>) -> Result<Self, PrimError> {
        let top = Fields::new(value, what, "")?;
        let mut warnings = Vec::new();
        let mut read = Self {
            cn: top.text("CN")?.to_owned(),
            names: names(&top, rules, &mut warnings)?,
            hosts: hosts(&top, rules, &mut warnings)?,
            key: own.map_or_else(|| key(&top), |own| Ok(own.kind()))?,
            ca: None,
            serial_number: top.text("serialnumber")?.to_owned(),
            what: what.to_owned(),
            rules,
            warnings: Vec::new(),
        };
        if let Some(ca) = top.object("ca")? {
            read.ca = Some(authority(&ca, rules, &mut warnings)?);
        }
        let nobody = read.hosts.is_empty() && read.cn.is_empty() && read.names.is_empty();
        if rules.are_cfssls() && nobody {
            warnings.push(format!("{what}: names nobody; the certificate will name nobody, as with cfssl"));
        }
        read.warnings = warnings;
        Ok(read)
    }

    /// The same request for other names: `cfssl gencert -hostname`.
    ///
    /// # Errors
    /// One of them is no host.
    pub fn with_hosts(self, hosts: &[String]) -> Result<Self, PrimError> {
        let hosts = hosts
            .iter()
            .map(|host| San::from_host(host).map_err(|error| error.on("the host names given")))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { hosts, ..self })
    }

    /// The signing request for it, PEM: as cfssl writes it beside the certificate, for an authority too.
    ///
    /// # Errors
    /// Something cannot be encoded.
    pub fn signing_request(&self, key: &Key) -> Result<String, PrimError> {
        let basic = self.ca.as_ref().map(|ca| BasicConstraints { ca: true, path_len: ca.path_len });
        let hosts = if basic.is_some() { &[] } else { self.hosts.as_slice() };
        SigningRequest::create_for(&self.subject()?, hosts, basic, key)
    }

    /// Whether a JSON value looks like a request at all: it has one of the fields that make one.
    pub fn looks_like(value: &Value) -> bool {
        value.as_object().is_some_and(|map| {
            map.keys().any(|key| {
                ["CN", "hosts", "names", "key"].iter().any(|field| key.eq_ignore_ascii_case(field))
            })
        })
    }

    /// The subject's name, DER: the parts in the order of cfssl's Debian build (C, ST, L, O, OU, CN, serial number),
    /// several values of one part as one multi-valued part.
    ///
    /// # Errors
    /// An `OID` that is none.
    pub fn subject(&self) -> Result<Vec<u8>, PrimError> {
        let all = |part: fn(&Names) -> &String| self.names.iter().map(move |names| part(names).as_str());
        let mut builder = Builder::default()
            .with("C", all(|n| &n.c))
            .with("ST", all(|n| &n.st))
            .with("L", all(|n| &n.l))
            .with("O", all(|n| &n.o))
            .with("OU", all(|n| &n.ou))
            .with("CN", [self.cn.as_str()])
            .with("serialNumber", [self.serial_number.as_str()])
            .with("emailAddress", all(|n| &n.e));
        for (oid, value) in self.names.iter().flat_map(|names| &names.oid) {
            builder = builder.with(oid, [value.as_str()]);
        }
        builder.to_der().map_err(|error| error.on(self.what.clone()))
    }
}

fn hosts(top: &Fields<'_>, rules: Rules, warnings: &mut Vec<String>) -> Result<Vec<San>, PrimError> {
    let hosts = top.texts("hosts")?;
    if hosts.len() > MAX_HOSTS {
        return Err(top
            .invalid("hosts", "too many names for a certificate")
            .expected(format!("at most {MAX_HOSTS}"), hosts.len().to_string())
            .hint("use a wildcard, or several certificates: no handshake carries so many"));
    }
    let one = |(index, host): (usize, &str)| {
        let strict = San::from_host(host).map_err(|error| PrimError {
            message: format!("hosts[{index}]: {}", error.message),
            object: top.what().to_owned(),
            ..error
        });
        // Beyond ASCII cfssl fails too.
        or_as_cfssl(rules, strict, warnings, || {
            host.is_ascii()
                .then(|| (San::Dns(host.to_owned()), "it becomes a DNS name, as with cfssl".to_owned()))
        })
    };
    hosts.into_iter().enumerate().map(one).collect()
}

fn names(top: &Fields<'_>, rules: Rules, warnings: &mut Vec<String>) -> Result<Vec<Names>, PrimError> {
    let one = |(index, value): (usize, &Value)| {
        let fields = Fields::new(value, top.what(), &format!("names[{index}]"))?;
        let country = fields.text("C")?;
        let fits =
            country.is_empty() || (country.len() == 2 && country.chars().all(|c| c.is_ascii_alphabetic()));
        let strict = if fits {
            Ok(())
        } else {
            Err(fields
                .invalid("C", "a country is two letters")
                .expected("as `US`", format!("`{}`", country.escape_debug()))
                .hint("write the country's code, or leave `C` out"))
        };
        or_as_cfssl(rules, strict, warnings, || Some(((), "it is written, as with cfssl".to_owned())))?;
        let mut oid = Vec::new();
        if let Some(map) = fields.object("OID")? {
            for (name, value) in map.entries() {
                let text = value.as_str().ok_or_else(|| map.wrong(name, "a text", value))?;
                crate::cert::der::oid(name).map_err(|error| PrimError {
                    message: format!("{}: {}", map.path(&name.escape_debug().to_string()), error.message),
                    object: top.what().to_owned(),
                    code: Code::Invalid,
                    ..error
                })?;
                oid.push((name.clone(), text.to_owned()));
            }
        }
        Ok(Names {
            c: country.to_owned(),
            st: fields.text("ST")?.to_owned(),
            l: fields.text("L")?.to_owned(),
            o: fields.text("O")?.to_owned(),
            ou: fields.text("OU")?.to_owned(),
            e: fields.text("E")?.to_owned(),
            oid,
        })
    };
    top.list("names")?.iter().enumerate().map(one).collect()
}

fn key(top: &Fields<'_>) -> Result<KeyKind, PrimError> {
    let Some(key) = top.object("key")? else { return Ok(KeyKind::P256) };
    let algorithm = key.text("algo")?;
    let size = key.number("size")?.filter(|size| *size != 0);
    let refuse = |valid: &str, found: String| {
        let hint = "write one of these as `\"key\": {\"algo\": …, \"size\": …}`";
        Err(key.invalid("size", "this key cannot be made").expected(valid.to_owned(), found).hint(hint))
    };
    match (algorithm.to_ascii_lowercase().as_str(), size) {
        ("rsa", None) => Err(key
            .invalid("size", "an RSA key needs a size")
            .expected("2048, 3072, 4096 or 8192", "none")
            .hint("write `\"key\": {\"algo\": \"rsa\", \"size\": 2048}`")),
        ("rsa", Some(bits)) => check_rsa_size(bits).map(|()| KeyKind::Rsa(bits)).map_err(|error| PrimError {
            message: format!("{}: {}", key.path("size"), error.message),
            object: key.what().to_owned(),
            code: Code::Invalid,
            ..error
        }),
        ("" | "ecdsa", None | Some(256)) => Ok(KeyKind::P256),
        ("" | "ecdsa", Some(384)) => Ok(KeyKind::P384),
        ("" | "ecdsa", Some(521)) => Ok(KeyKind::P521),
        ("" | "ecdsa", Some(bits)) => refuse("ecdsa with 256, 384 or 521 bits", format!("ecdsa {bits}")),
        ("ed25519", _) => Ok(KeyKind::Ed25519),
        (other, _) => Err(key
            .invalid("algo", "unknown key algorithm")
            .expected("`rsa`, `ecdsa` or `ed25519`", format!("`{}`", other.escape_debug()))
            .hint("write `\"key\": {\"algo\": \"ecdsa\", \"size\": 256}`")),
    }
}

fn authority(ca: &Fields<'_>, rules: Rules, warnings: &mut Vec<String>) -> Result<Authority, PrimError> {
    let mut span = |name: &str| match ca.text(name)? {
        "" => Ok(None),
        text => {
            let strict = duration::parse(text).map(Some).map_err(|error| PrimError {
                message: format!("{}: {}", ca.path(name), error.message),
                object: ca.what().to_owned(),
                ..error
            });
            // An authority of no lifetime at all is refused by cfssl as well.
            or_as_cfssl(rules, strict, warnings, || {
                let span = duration::parse_go(text).ok().filter(|span| !span.is_zero())?;
                Some((Some(span), "it is taken, as cfssl does".to_owned()))
            })
        }
    };
    let length = ca.number("pathlen")?;
    let zero = ca.flag("pathlenzero")?;
    let path_len = match (length, zero) {
        (Some(0) | None, true) => Some(0),
        (Some(length), true) => {
            return Err(ca
                .invalid("pathlenzero", "contradicts `pathlen`")
                .expected("`pathlen` 0", length.to_string())
                .hint("remove `pathlenzero`, or write `\"pathlen\": 0`"));
        }
        (Some(0) | None, false) => None,
        (length, false) => length,
    };
    Ok(Authority { expiry: span("expiry")?, path_len, backdate: span("backdate")? })
}
