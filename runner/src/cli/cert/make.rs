//! `rollover cert key`, `csr`, `ca`, `sign`, `renew`, `cross-sign`, `reissue`: whatever makes keys and certificates.

use std::io::IsTerminal as _;
use std::path::Path;

use serde_json::{Value, json};
use stdlib::cert::{Certificate, Key, KeyKind, SigningRequest};
use stdlib::cfssl::{self, Config, Request, Rules};
use zeroize::Zeroizing;

use super::args::{
    CrossSign, Lax, LikeAuthority, MakeAuthority, MakeKey, MakeRequest, Making, Out, Reissue, Renew, Sign,
};
use super::files::{self, File, certificate, failed, key_beside, warn};
use super::now;
use super::show::{left, minute, whose};
use crate::cli::Context;
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::output;

impl Lax {
    /// The rules that were asked for.
    pub(super) fn rules(self) -> Rules {
        if self.cfssl_lax { Rules::Cfssl } else { Rules::Strict }
    }
}

/// Tells what was let pass, each once.
pub(super) fn warn_all<'a>(warnings: impl IntoIterator<Item = &'a String>) {
    let mut told = std::collections::HashSet::new();
    for warning in warnings {
        if told.insert(warning) {
            warn(warning);
        }
    }
}

/// A failure that cfssl's rules would let pass, told so.
fn or_lax(failure: Failure, lax: Lax) -> Failure {
    if lax.cfssl_lax || failure.exit != ExitCode::Malformed {
        return failure;
    }
    let also = "`--cfssl-lax` does as cfssl does, where cfssl takes it";
    let hint = failure.hint.as_ref().map_or_else(|| also.to_owned(), |hint| format!("{hint}; {also}"));
    Failure { hint: Some(hint), ..failure }
}

/// A request; with a key that is there, what it says of its key does not count.
fn request(path: &Path, lax: Lax, own: Option<&Key>) -> Result<Request, Failure> {
    let what = path.display().to_string();
    let request = cfssl::parse_json(&files::read(path)?, &what)
        .and_then(|value| Request::read_for(&value, &what, lax.rules(), own))
        .map_err(|error| or_lax(failed(error), lax))?;
    warn_all(&request.warnings);
    Ok(request)
}

/// What was made, for a person or for a program.
fn tell(context: &Context, made: Option<&Certificate>, key: Option<&Key>, written: &[String]) {
    tell_with(context, made, key, written, json!({}));
}

/// As [`tell`], with further fields for programs.
pub(super) fn tell_with(
    context: &Context,
    made: Option<&Certificate>,
    key: Option<&Key>,
    written: &[String],
    mut value: Value,
) {
    if context.json() {
        if let Some(fields) = value.as_object_mut() {
            fields.insert("written".into(), written.into());
        }
        if let (Some(fields), Some(one)) = (value.as_object_mut(), made) {
            fields.insert("certificate".into(), stdlib::cert::describe(one));
        }
        if let (Some(fields), Some(key)) = (value.as_object_mut(), key) {
            fields.insert("spki".into(), key.fingerprint().into());
            fields.insert("kind".into(), key.kind().to_string().into());
        }
        output::data(&value.to_string());
        return;
    }
    output::data(&written.join("\n"));
    if let Some(one) = made {
        output::say(&format!(
            "{} until {} ({}), signed by {}",
            whose(one),
            minute(one.not_after()),
            left(one, now()),
            if one.self_issued() { "itself" } else { one.issuer_text() }
        ));
    } else if let Some(key) = key {
        output::say(&format!("{}, {}", key.kind(), key.fingerprint()));
    }
}

/// cfssl's way for pipes: everything as one JSON object on standard output, the private key in it.
fn cfssl_json(certificate: &Certificate, key: Option<&Key>, csr: Option<&str>) -> Result<ExitCode, Failure> {
    if std::io::stdout().is_terminal() {
        return Err(Failure::new(ExitCode::Parameter, "a private key is not printed on a terminal").hint(
            "pipe it: `… --cfssl-json | cfssljson -bare NAME`; or leave the flag out, and files are written",
        ));
    }
    let pem = key.map(Key::to_pem).transpose().map_err(failed)?;
    let certificate = certificate.pem();
    let fields =
        [("cert", Some(certificate.as_str())), ("csr", csr), ("key", pem.as_ref().map(|pem| pem.as_str()))];
    output::data(&cfssl_line(&fields));
    Ok(ExitCode::Ok)
}

/// PEM texts as one line of JSON. By hand, so that no copy of the key stays in memory: of what JSON escapes, PEM has
/// newlines alone.
fn cfssl_line(fields: &[(&str, Option<&str>)]) -> Zeroizing<String> {
    let room =
        fields.iter().filter_map(|(_, text)| *text).map(|text| text.len() + text.len() / 32 + 64).sum();
    let mut line = Zeroizing::new(String::with_capacity(room));
    for (name, text) in fields.iter().filter_map(|(name, text)| Some((name, (*text)?))) {
        let opening = if line.is_empty() { '{' } else { ',' };
        line.push(opening);
        line.push('"');
        line.push_str(name);
        line.push_str("\":\"");
        for part in text.split_inclusive('\n') {
            match part.strip_suffix('\n') {
                Some(part) => {
                    line.push_str(part);
                    line.push_str("\\n");
                }
                None => line.push_str(part),
            }
        }
        line.push('"');
    }
    line.push('}');
    line
}

/// `rollover cert key`.
pub(super) fn key(context: &Context, args: &MakeKey) -> Result<ExitCode, Failure> {
    let out = Out { out: None, force: args.force };
    out.check_free(&[args.file.as_path()])?;
    let key = match &args.from {
        Some(path) => args.passphrase.key(path)?,
        None => {
            KeyKind::parse(&args.kind).and_then(Key::generate).map_err(|error| failed(error.on("--kind")))?
        }
    };
    let written = out.write(&[File::key(args.file.clone(), &key)?])?;
    tell(context, None, Some(&key), &written);
    Ok(ExitCode::Ok)
}

/// `rollover cert csr`.
pub(super) fn csr(context: &Context, args: &MakeRequest) -> Result<ExitCode, Failure> {
    let own = args.key.as_ref().map(|path| args.passphrase.key(path)).transpose()?;
    let request = request(&args.request, args.lax, own.as_ref())?;
    let (csr_path, key_path) =
        (args.out.path(&args.request, ".csr"), args.out.path(&args.request, "-key.pem"));
    let mut files = Vec::new();
    let key = match own {
        Some(key) => {
            args.out.check_free(&[csr_path.as_path()])?;
            key
        }
        None => {
            args.out.check_free(&[csr_path.as_path(), key_path.as_path()])?;
            let key = Key::generate(request.key).map_err(failed)?;
            files.push(File::key(key_path, &key)?);
            key
        }
    };
    files.push(File::public(csr_path, &request.signing_request(&key).map_err(failed)?));
    tell(context, None, Some(&key), &args.out.write(&files)?);
    Ok(ExitCode::Ok)
}

/// `rollover cert ca`.
pub(super) fn ca(context: &Context, args: &MakeAuthority) -> Result<ExitCode, Failure> {
    let Making { lax, cfssl_json: printed, out } = &args.making;
    let own = args.key.as_ref().map(|path| args.passphrase.key(path)).transpose()?;
    let request = request(&args.request, *lax, own.as_ref())?;
    let [cert_path, csr_path, key_path] =
        [".pem", ".csr", "-key.pem"].map(|ending| out.path(&args.request, ending));
    let made = own.is_none();
    if !printed {
        let paths = [cert_path.as_path(), csr_path.as_path(), key_path.as_path()];
        out.check_free(paths.get(..if made { 3 } else { 2 }).unwrap_or_default())?;
    }
    let (ca, key) = match own {
        Some(key) => stdlib::ca::create_for(&request, &key, now()).map(|ca| (ca, key)),
        None => stdlib::ca::create(&request, now()),
    }
    .map_err(|error| or_lax(failed(error), *lax))?;
    // Without a `ca` section cfssl asks for an authority all the same.
    let asks = Request { ca: Some(request.ca.clone().unwrap_or_default()), ..request };
    let csr = asks.signing_request(&key).map_err(failed)?;
    if *printed {
        return cfssl_json(&ca, Some(&key), Some(&csr));
    }
    let mut files = Vec::new();
    if made {
        files.push(File::key(key_path, &key)?);
    }
    files.extend([File::public(cert_path, &ca.pem()), File::public(csr_path, &csr)]);
    tell(context, Some(&ca), None, &out.write(&files)?);
    Ok(ExitCode::Ok)
}

/// `rollover cert ca-request`. It prints JSON whoever reads it: that is what cfssl's files are.
pub(super) fn ca_request(args: &LikeAuthority) -> Result<ExitCode, Failure> {
    let old = certificate(&args.ca)?;
    let request = stdlib::ca::like(&old, args.cn.as_deref(), args.expiry.as_deref()).map_err(failed)?;
    output::data(&format!("{request:#}"));
    Ok(ExitCode::Ok)
}

/// `rollover cert sign`.
pub(super) fn sign(context: &Context, args: &Sign) -> Result<ExitCode, Failure> {
    let Making { lax: switch, cfssl_json: printed, out } = &args.making;
    let rules = switch.rules();
    let lax = |error| or_lax(failed(error), *switch);
    let bytes = files::read(&args.request)?;
    let (ca, ca_key) = args.authority.read()?;
    let config = Config::read_json(&files::read(&args.config)?, &args.config.display().to_string(), rules)
        .map_err(lax)?;
    let profile = config.select(&args.profile, rules).map_err(lax)?;
    warn_all(&profile.warnings);
    let [cert_path, key_path, csr_path] =
        [".pem", "-key.pem", ".csr"].map(|ending| out.path(&args.request, ending));
    let what = args.request.display().to_string();
    if !bytes.trim_ascii_start().starts_with(b"{") {
        if !args.hostname.is_empty() || args.key.is_some() {
            return Err(Failure::new(ExitCode::Usage, "a signing request brings its own names and key")
                .on(what)
                .hint("leave `--hostname` and `--key` out, or name a cfssl request (JSON)"));
        }
        if !printed {
            out.check_free(&[cert_path.as_path()])?;
        }
        let csr = signing_request(&bytes, &what)?;
        let leaf = cfssl::sign(&ca, &ca_key, &csr, &profile, now()).map_err(lax)?;
        if *printed {
            return cfssl_json(&leaf, None, None);
        }
        shortened(&leaf, &ca);
        tell(context, Some(&leaf), None, &out.write(&[File::public(cert_path, &leaf.pem())])?);
        return Ok(ExitCode::Ok);
    }
    let own = args.key.as_ref().map(|path| args.authority.passphrase.key(path)).transpose()?;
    let mut request = request(&args.request, *switch, own.as_ref())?;
    if !args.hostname.is_empty() {
        request = request.with_hosts(&args.hostname).map_err(failed)?;
    }
    if !printed {
        let paths = [cert_path.as_path(), csr_path.as_path(), key_path.as_path()];
        out.check_free(paths.get(..if own.is_some() { 1 } else { 3 }).unwrap_or_default())?;
    }
    let (key, made) = match own {
        Some(key) => (key, false),
        None => (Key::generate(request.key).map_err(failed)?, true),
    };
    let leaf = cfssl::issue_for(&ca, &ca_key, &request, &profile, key.spki(), now()).map_err(lax)?;
    let csr = request.signing_request(&key).map_err(failed)?;
    if *printed {
        return cfssl_json(&leaf, Some(&key), Some(&csr));
    }
    let mut files = Vec::new();
    if made {
        files.extend([File::key(key_path, &key)?, File::public(csr_path, &csr)]);
    }
    files.push(File::public(cert_path, &leaf.pem()));
    shortened(&leaf, &ca);
    tell(context, Some(&leaf), None, &out.write(&files)?);
    Ok(ExitCode::Ok)
}

/// A signing request, PEM or DER.
fn signing_request(bytes: &[u8], what: &str) -> Result<SigningRequest, Failure> {
    let csr = if bytes.first() == Some(&0x30) {
        SigningRequest::from_der(bytes).map_err(|error| error.on(what))
    } else {
        SigningRequest::from_pem(bytes, what)
    };
    csr.map_err(failed)
}

/// Says that a certificate ends with its CA, where that is why it ends.
fn shortened(leaf: &Certificate, ca: &Certificate) {
    if leaf.not_after() == ca.not_after() {
        warn(&format!("it ends with its CA, on {}, and not later", minute(ca.not_after())));
    }
}

/// `rollover cert renew`.
pub(super) fn renew(context: &Context, args: &Renew) -> Result<ExitCode, Failure> {
    let out = args.out.path(&args.ca, ".pem");
    if args.out.out.is_none() {
        return Err(Failure::new(
            ExitCode::Usage,
            "where to? the renewed CA is another file than the old one",
        )
        .hint("name it: `--out ca.renewed` writes ca.renewed.pem"));
    }
    args.out.check_free(&[out.as_path()])?;
    let old = certificate(&args.ca)?;
    let key_path = args.key.clone().unwrap_or_else(|| key_beside(&args.ca));
    let key = args.passphrase.key(&key_path)?;
    let lifetime = args
        .lifetime
        .map(time::Duration::try_from)
        .transpose()
        .map_err(|_| Failure::new(ExitCode::Parameter, "is out of range").on("--lifetime"))?;
    let renewed = stdlib::ca::renew(&old, &key, lifetime, now()).map_err(failed)?;
    tell(context, Some(&renewed), None, &args.out.write(&[File::public(out, &renewed.pem())])?);
    Ok(ExitCode::Ok)
}

/// `rollover cert cross-sign`.
pub(super) fn cross_sign(context: &Context, args: &CrossSign) -> Result<ExitCode, Failure> {
    let out = args.out.path(&args.other, "-cross.pem");
    let out = if args.out.out.is_some() { args.out.path(&args.other, ".pem") } else { out };
    args.out.check_free(&[out.as_path()])?;
    let (ca, key) = args.authority.read()?;
    let other = certificate(&args.other)?;
    let cross = stdlib::ca::cross_sign(&ca, &key, &other, now()).map_err(failed)?;
    tell(context, Some(&cross), None, &args.out.write(&[File::public(out, &cross.pem())])?);
    Ok(ExitCode::Ok)
}

/// `rollover cert reissue`.
pub(super) fn reissue(context: &Context, args: &Reissue) -> Result<ExitCode, Failure> {
    if args.out.out.is_none() {
        return Err(Failure::new(
            ExitCode::Usage,
            "where to? the new certificate is another file than the old one",
        )
        .hint("name it: `--out NAME` writes NAME.pem, and NAME-key.pem where the key is new"));
    }
    let (cert_path, key_path) = (args.out.path(&args.old, ".pem"), args.out.path(&args.old, "-key.pem"));
    let own = args.key.as_ref().map(|path| args.authority.passphrase.key(path)).transpose()?;
    let made = own.is_none();
    let paths = [cert_path.as_path(), key_path.as_path()];
    args.out.check_free(paths.get(..if made { 2 } else { 1 }).unwrap_or_default())?;
    let (ca, ca_key) = args.authority.read()?;
    let chain = files::certificates(&args.old)?;
    let Some(old) = chain.first() else {
        return Err(
            Failure::new(ExitCode::Malformed, "holds no certificate").on(args.old.display().to_string())
        );
    };
    for (oid, _, _) in old.other_extensions() {
        warn(&format!("the extension {oid} of the old certificate is left out"));
    }
    let (leaf, key) = cfssl::reissue(&ca, &ca_key, old, own, None, now()).map_err(failed)?;
    let mut files = Vec::new();
    if made {
        files.push(File::key(key_path, &key)?);
    }
    files.push(File::public(cert_path, &leaf.pem()));
    shortened(&leaf, &ca);
    tell(context, Some(&leaf), None, &args.out.write(&files)?);
    Ok(ExitCode::Ok)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_cfssljson_is_json() {
        let key = Key::generate(KeyKind::P256).unwrap().to_pem().unwrap();
        let line = cfssl_line(&[("cert", Some("a\nb\n")), ("csr", None), ("key", Some(&key))]);
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read, json!({ "cert": "a\nb\n", "key": key.as_str() }));
    }
}
