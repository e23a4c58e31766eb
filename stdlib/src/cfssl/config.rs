//! A cfssl configuration: the profiles of `ca-config.json`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::duration;
use super::json::{self, Fields};
use super::rules::{Rules, or_as_cfssl};
use crate::cert::usage::{self, Named};
use crate::cert::{BasicConstraints, ExtUsage, KeyUsage};
use crate::error::PrimError;

/// Fields of a profile that change what is signed in ways that we do not offer.
const UNSUPPORTED: &[&str] = &[
    "auth_key",
    "remote",
    "auth_remote",
    "name_whitelist",
    "allowed_extensions",
    "copy_extensions",
    "CSRWhitelist",
];

/// How certificates of one kind are issued.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Key usages.
    pub key_usage: KeyUsage,
    /// Extended key usages, in the order of the file.
    pub ext_usage: Vec<ExtUsage>,
    /// How long certificates are valid, from their backdated start.
    pub expiry: Duration,
    /// How far back validity begins.
    pub backdate: Duration,
    /// A fixed start in place of now.
    pub not_before: Option<OffsetDateTime>,
    /// A fixed end in place of the expiry.
    pub not_after: Option<OffsetDateTime>,
    /// Basic constraints of what is issued.
    pub basic: BasicConstraints,
    /// Where the issuer's certificate is found.
    pub issuer_urls: Vec<String>,
    /// The OCSP server.
    pub ocsp_url: String,
    /// Where the revocation list is found.
    pub crl_url: String,
    /// Fields that are set and that we do not support; refused when the profile is used.
    pub unsupported: Vec<String>,
    /// How it was read, which also rules what may be issued with it.
    pub rules: Rules,
    /// What was taken as cfssl takes it, although it bites.
    pub warnings: Vec<String>,
    /// What errors call its file.
    pub what: String,
    /// The profile's own fields, as they stood in the file.
    raw: Value,
}

impl Profile {
    /// Reads one profile from a value, as [`Config::to_facts`] gives it.
    ///
    /// # Errors
    /// As [`Config::from_value`].
    pub fn from_value(name: &str, value: &Value, what: &str) -> Result<Self, PrimError> {
        Self::read(name, value, what, Rules::Strict)
    }

    /// As [`Self::from_value`], by the given rules.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn read(name: &str, value: &Value, what: &str, rules: Rules) -> Result<Self, PrimError> {
        let fields = Fields::new(value, what, &format!("signing.profiles.{name}"))?;
        // An expiry of zero is replaced by the default's when the whole configuration is read.
        profile(name, fields, value, rules, None)
    }

    /// What cfssl takes where a configuration has no `default`.
    fn built_in(what: &str) -> Self {
        Self {
            name: "default".into(),
            key_usage: KeyUsage::DIGITAL_SIGNATURE.with(KeyUsage::KEY_ENCIPHERMENT),
            ext_usage: vec![ExtUsage::server_auth(), ExtUsage::client_auth()],
            expiry: Duration::hours(8760),
            backdate: BACKDATE,
            not_before: None,
            not_after: None,
            basic: BasicConstraints { ca: false, path_len: None },
            issuer_urls: Vec::new(),
            ocsp_url: String::new(),
            crl_url: String::new(),
            unsupported: Vec::new(),
            rules: Rules::Strict,
            warnings: Vec::new(),
            what: what.to_owned(),
            raw: json!({ "expiry": "8760h", "usages": ["signing", "key encipherment", "server auth", "client auth"] }),
        }
    }

    /// Takes from the default what the profile leaves open, as cfssl does; also in its fact.
    fn inherit(&mut self, default: &Profile, expiry: bool) {
        let Value::Object(raw) = &mut self.raw else { return };
        let mut set = |field: &str, value: Value| {
            raw.retain(|name, _| !name.eq_ignore_ascii_case(field));
            raw.insert(field.to_owned(), value);
        };
        if expiry && let Some(value) = default.raw.get("expiry") {
            set("expiry", value.clone());
        }
        if self.crl_url.is_empty() && !default.crl_url.is_empty() {
            self.crl_url.clone_from(&default.crl_url);
            set("crl_url", self.crl_url.clone().into());
        }
        if self.ocsp_url.is_empty() && !default.ocsp_url.is_empty() {
            self.ocsp_url.clone_from(&default.ocsp_url);
            set("ocsp_url", self.ocsp_url.clone().into());
        }
        if self.issuer_urls.is_empty() && !default.issuer_urls.is_empty() {
            self.issuer_urls.clone_from(&default.issuer_urls);
            set("issuer_urls", self.issuer_urls.clone().into());
        }
    }

    /// Whether certificates of this profile have any usage; without one, cfssl does not sign.
    pub fn has_usages(&self) -> bool {
        self.key_usage.0 != 0 || !self.ext_usage.is_empty()
    }

    /// The profile as a value that [`Self::from_value`] reads again; no secrets are in it.
    pub fn to_fact(&self) -> Value {
        let mut raw = self.raw.clone();
        if let Value::Object(map) = &mut raw {
            map.insert("name".into(), self.name.clone().into());
            map.insert("file".into(), self.what.clone().into());
        }
        raw
    }
}

/// How far back validity begins unless the profile says otherwise: clocks differ.
pub(crate) const BACKDATE: Duration = Duration::minutes(5);

/// All profiles of a configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// By name, `default` included where it has usages.
    pub profiles: BTreeMap<String, Profile>,
    /// What errors call its file.
    pub what: String,
}

impl Config {
    /// Reads a configuration's JSON text; `what` names the file.
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

    /// Reads a configuration from a value.
    ///
    /// # Errors
    /// No `signing`; a profile without usages or expiry; an unknown usage (cfssl overlooks it beside a valid one); an
    /// expiry that is no positive duration.
    pub fn from_value(value: &Value, what: &str) -> Result<Self, PrimError> {
        Self::read(value, what, Rules::Strict)
    }

    /// As [`Self::from_value`], by the given rules.
    ///
    /// # Errors
    /// As [`Self::from_value`]; under cfssl's rules only what cfssl refuses too.
    pub fn read(value: &Value, what: &str, rules: Rules) -> Result<Self, PrimError> {
        let top = Fields::new(value, what, "")?;
        let signing = top.object("signing")?.ok_or_else(|| {
            PrimError::invalid("has no `signing` section")
                .on(what)
                .expected("`{\"signing\": {\"default\": …, \"profiles\": …}}`", "another file")
                .hint("pass the file that `cfssl gencert -config` takes")
        })?;
        let mut profiles = BTreeMap::new();
        let default = match signing.get("default")? {
            Some(value) => {
                profile("default", Fields::new(value, what, "signing.default")?, value, rules, None)?
            }
            None => Profile::built_in(what),
        };
        if let Some(all) = signing.object("profiles")? {
            for (name, value) in all.entries() {
                let fields = Fields::new(value, what, &format!("signing.profiles.{name}"))?;
                profiles.insert(name.clone(), profile(name, fields, value, rules, Some(&default))?);
            }
        }
        if default.has_usages() {
            profiles.entry("default".to_owned()).or_insert(default);
        }
        Ok(Self { profiles, what: what.to_owned() })
    }

    /// The profile of this name.
    ///
    /// # Errors
    /// There is none: cfssl would silently take `default`; we name those that there are.
    pub fn profile(&self, name: &str) -> Result<&Profile, PrimError> {
        self.profiles.get(name).ok_or_else(|| no_such_profile(name, self.profiles.keys(), &self.what))
    }

    /// As [`Self::profile`], by the given rules: where there is none, cfssl takes `default`, and so do its rules here.
    ///
    /// # Errors
    /// There is none; under cfssl's rules, neither is there a `default` with usages.
    pub fn select(&self, name: &str, rules: Rules) -> Result<Profile, PrimError> {
        let mut warnings = Vec::new();
        let found = self.profile(name).map_err(|error| match self.profiles.get("default") {
            None if rules.are_cfssls() => error.hint(
                "correct the name: cfssl would take `default`, which has no usages, and refuse it as well",
            ),
            _ => error,
        });
        let found = or_as_cfssl(rules, found, &mut warnings, || {
            Some((self.profiles.get("default")?, INSTEAD.to_owned()))
        })?;
        let mut found = found.clone();
        found.warnings.append(&mut warnings);
        Ok(found)
    }

    /// All profiles as one value, for a fact.
    pub fn to_facts(&self) -> Value {
        Value::Object(self.profiles.iter().map(|(name, profile)| (name.clone(), profile.to_fact())).collect())
    }
}

pub(crate) fn no_such_profile<'a>(
    name: &str,
    valid: impl Iterator<Item = &'a String>,
    what: &str,
) -> PrimError {
    let valid = valid.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let valid = if valid.is_empty() { "none with usages".to_owned() } else { valid };
    PrimError::invalid(format!("there is no profile `{}`", name.escape_debug()))
        .on(what)
        .expected(valid, format!("`{}`", name.escape_debug()))
        .hint("correct the name: where cfssl finds no such profile it signs with `default`, which is seldom meant")
}

/// What cfssl does where a profile is not there.
pub(crate) const INSTEAD: &str = "`default` is taken, as cfssl does";

/// Reads one profile; `default` is the configuration's, which gives what the profile leaves open; `None` for itself.
fn profile(
    name: &str,
    fields: Fields<'_>,
    raw: &Value,
    rules: Rules,
    default: Option<&Profile>,
) -> Result<Profile, PrimError> {
    let mut warnings = Vec::new();
    let named = |field: &str, error: PrimError| PrimError {
        message: format!("{}: {}", fields.path(field), error.message),
        object: fields.what().to_owned(),
        ..error
    };
    let mut key_usage = KeyUsage::default();
    let mut ext_usage = Vec::new();
    for (index, usage) in fields.texts("usages")?.into_iter().enumerate() {
        let known =
            usage::by_name(usage).map(Some).map_err(|error| named(&format!("usages[{index}]"), error));
        let dropped = || Some((None, "it is dropped, as cfssl does".to_owned()));
        match or_as_cfssl(rules, known, &mut warnings, dropped)? {
            Some(Named::Key(bit)) => key_usage = key_usage.with(bit),
            Some(Named::Ext(usage)) if !ext_usage.contains(&usage) => ext_usage.push(usage),
            _ => {}
        }
    }
    if name != "default" && key_usage.0 == 0 && ext_usage.is_empty() {
        return Err(fields
            .invalid("usages", "a profile needs usages")
            .expected("as `[\"signing\", \"key encipherment\", \"server auth\", \"client auth\"]`", "none")
            .hint("write what its certificates are used for; cfssl does not sign without"));
    }
    let mut span = |field: &str| match fields.text(field)? {
        "" => Ok(None),
        text => {
            let strict = duration::parse(text).map(Some).map_err(|error| named(field, error));
            or_as_cfssl(rules, strict, &mut warnings, || {
                Some((Some(duration::parse_go(text).ok()?), "it is taken, as cfssl does".to_owned()))
            })
        }
    };
    let (expiry, backdate) = (span("expiry")?, span("backdate")?);
    let moment = |field: &str| match fields.text(field)? {
        "" => Ok(None),
        text => OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339)
            .map(Some)
            .map_err(|_| {
                fields
                    .invalid(field, "is no time")
                    .expected("as `2036-11-19T00:00:00Z`", format!("`{}`", text.escape_debug()))
                    .hint("write date, time and zone as RFC 3339 has them")
            }),
    };
    let not_after = moment("not_after")?;
    let zero = expiry.is_some_and(Duration::is_zero);
    let none = |found: &str| {
        fields
            .invalid("expiry", "a profile needs an expiry")
            .expected("as `8760h`", found)
            .hint("write how long its certificates are valid, in hours")
    };
    let expiry = match (expiry, default, not_after) {
        (Some(expiry), _, _) if !zero => expiry,
        (Some(_), Some(default), _) => default.expiry,
        (Some(_), None, _) => return Err(none("zero")),
        (None, _, Some(_)) => Duration::ZERO,
        (None, _, None) => return Err(none("none")),
    };
    let backdate = backdate.filter(|back| !back.is_zero()).unwrap_or(BACKDATE);
    if rules.are_cfssls() && not_after.is_none() && expiry <= backdate {
        warnings.push(format!(
            "{}: {} is no longer than the backdate: certificates are born expired, as with cfssl",
            fields.what(),
            fields.path("expiry")
        ));
    }
    let mut basic = BasicConstraints { ca: false, path_len: None };
    if let Some(constraint) = fields.object("ca_constraint")? {
        basic.ca = constraint.flag("is_ca")?;
        basic.path_len = match (constraint.number("max_path_len")?, constraint.flag("max_path_len_zero")?) {
            (Some(0) | None, true) => Some(0),
            (Some(0) | None, false) => None,
            (length, _) => length,
        };
    }
    let set = |field: &&&str| {
        !matches!(fields.get(field), Ok(None | Some(Value::Bool(false)))) && !blank(&fields, field)
    };
    let unsupported = UNSUPPORTED.iter().filter(set).map(|field| (*field).to_owned()).collect();
    // `auth_keys` and `remotes` stand beside the profiles, so that no secret is among a profile's own fields.
    let mut read = Profile {
        name: name.to_owned(),
        key_usage,
        ext_usage,
        expiry,
        backdate,
        not_before: moment("not_before")?,
        not_after,
        basic,
        issuer_urls: fields.texts("issuer_urls")?.into_iter().map(str::to_owned).collect(),
        ocsp_url: fields.text("ocsp_url")?.to_owned(),
        crl_url: fields.text("crl_url")?.to_owned(),
        unsupported,
        rules,
        warnings,
        what: fields.what().to_owned(),
        raw: raw.clone(),
    };
    if let Some(default) = default {
        read.inherit(default, zero);
    }
    Ok(read)
}

fn blank(fields: &Fields<'_>, field: &str) -> bool {
    match fields.get(field) {
        Ok(Some(Value::String(text))) => text.is_empty(),
        Ok(Some(Value::Array(items))) => items.is_empty(),
        Ok(Some(Value::Object(map))) => map.is_empty(),
        _ => false,
    }
}
