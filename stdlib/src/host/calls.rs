//! The calls of the namespace `host`: arguments read, and handed to what does the work.

use std::time::Duration;

use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::change::{self, Wish};
use super::facts::{self, Needs};
use super::inventory::{self, Entry};
use super::owner;
use super::restart;
use super::service::Service;
use super::stage;
use super::timer::confirm::{self, Guarded};
use super::verify::{self, Folders, Ports, Scope};
use crate::cert::{Key, parse_many};
use crate::error::{Code, PrimError};
use crate::files::change::{Content, io_error};
use crate::gate::Gate;
use crate::k8s::args;
use crate::registry::Touch;
use crate::secret::{handle_id, not_a_key};
use crate::tls;
use crate::trust;
use crate::world::World;

/// The largest inventory.
const INVENTORY: usize = 4 << 20;
/// How long a restart may take, until the step's own deadline.
const RESTART: Duration = Duration::from_secs(600);
/// How long before its end a certificate is a finding.
const SOON: Duration = Duration::from_secs(720 * 3600);
/// The field of a host that names it.
pub(super) const NAME_FIELD: &str = "name";

pub(super) fn touch(host: &str, what: &str, write: bool) -> Touch {
    Touch::Host { host: host.to_owned(), what: what.to_owned(), write }
}

/// Each of a list of hosts as a whole.
pub(super) fn touches_hosts(args: &[Value]) -> Vec<Touch> {
    let hosts = args.first().and_then(Value::as_array).into_iter().flatten();
    hosts
        .map(|host| touch(host.get(NAME_FIELD).and_then(Value::as_str).unwrap_or_default(), "/", false))
        .collect()
}

/// The service that stands behind a host among the arguments.
pub(super) fn touches_service(args: &[Value], write: bool) -> Vec<Touch> {
    let service = Service::of(args.get(1).unwrap_or(&Value::Null));
    let name = service.map(|service| service.name().to_owned()).unwrap_or_default();
    vec![touch(args::hint(args, 0, NAME_FIELD), &format!("service:{name}"), write)]
}

/// The service, and where it is to serve afterwards.
pub(super) fn touches_restart(args: &[Value]) -> Vec<Touch> {
    let listener = args.get(2).and_then(|options| options.get("serves"));
    let dialled = listener.map(std::slice::from_ref).map(tls::addresses).unwrap_or_default();
    let ports = dialled.into_iter().map(|(host, port)| Touch::Net { host, port });
    touches_service(args, true).into_iter().chain(ports).collect()
}

/// Paths of a host that stand at these places among the arguments.
pub(super) fn touches(args: &[Value], indices: &[usize], write: bool) -> Vec<Touch> {
    let host = args::hint(args, 0, NAME_FIELD);
    indices.iter().map(|index| touch(host, args::hint(args, *index, ""), write)).collect()
}

/// A host among the arguments.
pub(super) fn entry_of(args: &[Value], index: usize) -> Result<Entry, PrimError> {
    entry(args.get(index).unwrap_or(&Value::Null))
}

/// A host as scripts have it.
pub(crate) fn entry(value: &Value) -> Result<Entry, PrimError> {
    serde_json::from_value(value.clone()).map_err(|error| {
        PrimError::argument("`host` is no host")
            .expected("a map, as `host::inventory` gives it", error.to_string())
            .hint("take it from `host::inventory(path, group)`")
    })
}

/// A path among the arguments.
pub(super) fn path<'a>(args: &'a [Value], index: usize, name: &str) -> Result<&'a str, PrimError> {
    let path = args::text(args, index, name)?;
    if path.starts_with('/') {
        Ok(path)
    } else {
        Err(PrimError::argument(format!("`{name}` is no absolute path"))
            .expected("e.g. `/etc/etcd/ca.pem`", format!("`{path}`")))
    }
}

/// Absolute paths of a host.
pub(crate) fn paths(value: &Value, name: &str) -> Result<Vec<String>, PrimError> {
    let list = texts(Some(value), name)?;
    match list.iter().find(|path| !path.starts_with('/')) {
        None => Ok(list),
        Some(path) => Err(PrimError::argument(format!("`{name}` has what is no absolute path"))
            .expected("e.g. `/etc/etcd/ca.pem`", format!("`{path}`"))),
    }
}

pub(super) fn texts(value: Option<&Value>, name: &str) -> Result<Vec<String>, PrimError> {
    let wrong = || PrimError::argument(format!("`{name}` is no list of texts"));
    let list = value.and_then(Value::as_array).ok_or_else(wrong)?;
    list.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
}

fn given(args: &[Value], index: usize) -> Result<Option<&Map<String, Value>>, PrimError> {
    match args.get(index) {
        None | Some(Value::Null) => Ok(None),
        Some(_) => args::map(args, index, "options").map(Some),
    }
}

pub(super) fn read_inventory(world: &World, args: &[Value]) -> Result<Value, PrimError> {
    let path = world.folder.join(args::text(args, 0, "path")?);
    let group = match args.get(1) {
        None | Some(Value::Null) => "all",
        Some(_) => args::text(args, 1, "group")?,
    };
    let what = path.display().to_string();
    let bytes = crate::files::read_at_most(&*world.disk, &path, INVENTORY)
        .map_err(|error| io_error(&error, &path))?;
    if bytes.len() > INVENTORY {
        return Err(PrimError::invalid("is too large for an inventory").on(what));
    }
    let text =
        String::from_utf8(bytes).map_err(|_| PrimError::invalid("is not UTF-8 text").on(what.clone()))?;
    let found = inventory::parse(&text, &what)?;
    let folder = path.parent().map(std::path::Path::to_owned).unwrap_or_default();
    if let Some(beside) = inventory::beside(&found, group).find(|name| world.disk.exists(&folder.join(name)))
    {
        return Err(PrimError::invalid(format!(
            "`{beside}` lies beside it, which Ansible reads too and this does not"
        ))
        .on(what.clone())
        .expected("an inventory that says everything itself", format!("`{}`", folder.join(&beside).display()))
        .hint(format!(
            "`ansible-inventory -i {what} --list --yaml --export` prints one with all variables; give that"
        )));
    }
    let hosts = found.named(group).map_err(|error| error.on(what.clone()))?;
    if hosts.is_empty() {
        return Err(PrimError::not_found(format!("the group `{group}` has no hosts")).on(what));
    }
    let hosts = hosts.into_iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>();
    hosts.map(Value::Array).map_err(|error| PrimError::internal(error.to_string()))
}

/// The list of hosts that is the first argument.
pub(super) fn entries_of(args: &[Value]) -> Result<Vec<Entry>, PrimError> {
    let hosts = args.first().and_then(Value::as_array);
    hosts.ok_or_else(|| PrimError::argument("`hosts` is no list of hosts"))?.iter().map(entry).collect()
}

pub(super) async fn ready(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let entries = entries_of(args)?;
    let mut needs = Needs::default();
    if let Some(options) = given(args, 1)? {
        if let Some(paths) = options.get("paths").filter(|paths| !paths.is_null()) {
            needs.paths = texts(Some(paths), "options.paths")?;
        }
        if let Some(kib) = options.get("free_kib").and_then(Value::as_u64) {
            needs.free = kib.saturating_mul(1024);
        }
        if let Some(skew) = options.get("skew").and_then(Value::as_str) {
            needs.skew = crate::duration::parse(skew).map_err(PrimError::argument)?;
        }
    }
    facts::ready(world, &entries, &needs, gate).await
}

pub(super) async fn verified(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let entries = entries_of(args)?;
    let options = args::map(args, 1, "options")?;
    let known = |key: &String| matches!(key.as_str(), "folders" | "ports" | "soon" | "lasts");
    if let Some(unknown) = options.keys().find(|key| !known(key)) {
        return Err(PrimError::argument(format!("`options` has an unknown field `{unknown}`"))
            .expected("`folders`, `ports`, `soon`, `lasts`", format!("`{unknown}`")));
    }
    let folders = folders(options.get("folders"))?;
    let span = |name: &str| {
        let text = options.get(name).and_then(Value::as_str);
        text.map(|text| crate::duration::parse(text).map_err(PrimError::argument)).transpose()
    };
    // A tenth of it may have passed: a run that was stopped goes on days later.
    let lasts = span("lasts")?.map(|lasts| lasts - lasts / 10);
    let soon = lasts.or(span("soon")?).unwrap_or(SOON);
    verify::verified(world, &entries, &Scope { folders, ports: ports(options.get("ports"))?, soon }, gate)
        .await
}

/// Folders of all hosts, or by host.
fn folders(value: Option<&Value>) -> Result<Folders, PrimError> {
    const FIELD: &str = "options.folders";
    match value {
        None => Ok(Folders::Everywhere(Vec::new())),
        Some(Value::Object(hosts)) => {
            let each = hosts.iter().map(|(host, list)| Ok((host.clone(), paths(list, FIELD)?)));
            each.collect::<Result<_, _>>().map(Folders::ByHost)
        }
        Some(list) => paths(list, FIELD).map(Folders::Everywhere),
    }
}

/// Ports, as numbers or as texts of them.
fn ports(value: Option<&Value>) -> Result<Ports, PrimError> {
    let wrong = || {
        PrimError::argument("`options.ports` is no list of ports").expected("e.g. `[2379, 2380]`", "another")
    };
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(Ports::default()) };
    let port = |value: &Value| {
        let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok());
        number.and_then(|number| u16::try_from(number).ok()).filter(|port| *port > 0).ok_or_else(wrong)
    };
    let named: Result<Vec<u16>, PrimError> = value.as_array().ok_or_else(wrong)?.iter().map(port).collect();
    named.map(Ports::new)
}

pub(super) fn touches_verified(args: &[Value]) -> Vec<Touch> {
    let options = args.get(1);
    let named = options.and_then(|options| options.get("folders"));
    let folders = folders(named).unwrap_or(Folders::Everywhere(Vec::new()));
    let ports = ports(options.and_then(|options| options.get("ports"))).unwrap_or_default();
    let mut touched = Vec::new();
    for host in args.first().and_then(Value::as_array).into_iter().flatten() {
        let text = |name: &str| host.get(name).and_then(Value::as_str).unwrap_or_default();
        let of_host = folders.of(text(NAME_FIELD)).iter();
        touched.extend(of_host.map(|folder| touch(text(NAME_FIELD), folder, false)));
        touched.extend(ports.iter().map(|port| Touch::Net { host: text("address").to_owned(), port }));
    }
    touched
}

struct Options {
    mode: Option<u32>,
    owner: Option<String>,
    beside: bool,
}

fn writing(args: &[Value], index: usize) -> Result<Options, PrimError> {
    let Some(options) = given(args, index)? else {
        return Ok(Options { mode: None, owner: None, beside: false });
    };
    if let Some(unknown) = options.keys().find(|key| !matches!(key.as_str(), "mode" | "owner" | "beside")) {
        return Err(PrimError::argument(format!("`options` has an unknown field `{unknown}`"))
            .expected("`mode`, `owner`, `beside`", format!("`{unknown}`")));
    }
    // Taken for no, it would have the file written where it is only to be laid.
    if let Some(other) = options.get("beside").filter(|beside| !beside.is_boolean()) {
        return Err(PrimError::argument("`options.beside` is neither true nor false")
            .expected("`true` or `false`", other.to_string()));
    }
    let mode = options.get("mode").map(|mode| {
        let text = mode.as_str().unwrap_or_default();
        u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777).ok_or_else(|| {
            PrimError::argument("`options.mode` is no file's permissions")
                .expected("octal digits, e.g. `0640`", mode.to_string())
        })
    });
    let owner = options.get("owner").map(|owner| {
        let text = owner.as_str().filter(|owner| owner::well_formed(owner));
        text.map(str::to_owned).ok_or_else(|| {
            PrimError::argument("`options.owner` is no owner")
                .expected("e.g. `etcd` or `etcd:etcd`", owner.to_string())
        })
    });
    Ok(Options { mode: mode.transpose()?, owner: owner.transpose()?, beside: is_beside(args, index) })
}

/// Whether a file is only laid beside its place.
fn is_beside(args: &[Value], index: usize) -> bool {
    args.get(index).and_then(|options| options.get("beside")).and_then(Value::as_bool) == Some(true)
}

fn wish(path: &str, bytes: Zeroizing<Vec<u8>>, secret: bool, options: &Options) -> Wish {
    Wish {
        path: path.to_owned(),
        content: Content::new(bytes, secret, options.mode),
        keep_mode: options.mode.is_none(),
        owner: options.owner.clone(),
        beside: options.beside,
    }
}

pub(super) async fn write(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let entry = entry_of(args, 0)?;
    let path = path(args, 1, "path")?;
    let options = writing(args, 3)?;
    let wish = match args.get(2) {
        Some(Value::String(text)) => {
            not_a_key(text, "content")?;
            wish(path, Zeroizing::new(text.clone().into_bytes()), false, &options)
        }
        Some(handle) if handle_id(handle).is_some() => {
            let secret = world.secrets.get(handle)?;
            wish(path, Zeroizing::new(secret.expose().to_vec()), true, &options)
        }
        _ => return Err(PrimError::argument("`content` is neither a text nor the handle of a secret")),
    };
    let beside = wish.beside;
    let changed = change::put(world, gate, &entry, vec![wish]).await?;
    let mut told = json!({ "host": entry.name, "path": path, "changed": changed.contains(&true) });
    if beside {
        stage::tell(&mut told, stage::told(world, &entry, &[path]).await?);
    }
    Ok(told)
}

pub(super) async fn write_pair(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let entry = entry_of(args, 0)?;
    let (cert, key) = (path(args, 1, "cert")?, path(args, 2, "key")?);
    let identity = args::map(args, 3, "identity")?;
    let options = writing(args, 4)?;
    let pem = args::field(identity, "cert", "identity")?;
    let chain = parse_many(pem.as_bytes(), "identity.cert")?;
    let secret = world.secrets.get(identity.get("key").unwrap_or(&Value::Null))?;
    let leaf = chain.first().ok_or_else(|| PrimError::argument("`identity.cert` holds no certificate"))?;
    Key::from_secret(&secret)?.check_matches(leaf, "identity")?;
    // Permissions asked for are the key's; a certificate is public.
    let public = Options { mode: None, owner: options.owner.clone(), beside: options.beside };
    let wishes = vec![
        wish(cert, Zeroizing::new(pem.as_bytes().to_vec()), false, &public),
        wish(key, Zeroizing::new(secret.expose().to_vec()), true, &options),
    ];
    let changed = change::put(world, gate, &entry, wishes).await?;
    let mut told = json!({
        "host": entry.name,
        "cert": cert,
        "key": key,
        "changed": changed.contains(&true),
        "fingerprint": leaf.fingerprint(),
    });
    if options.beside {
        stage::tell(&mut told, stage::told(world, &entry, &[cert, key]).await?);
    }
    Ok(told)
}

pub(super) async fn restart_service(
    world: &World,
    args: &[Value],
    gate: &dyn Gate,
) -> Result<Value, PrimError> {
    let entry = entry_of(args, 0)?;
    let service = Service::of(args.get(1).unwrap_or(&Value::Null))?;
    let options = given(args, 2)?;
    let guarded = match confirm::within(args.get(2))? {
        None => None,
        Some(within) => {
            let loads = options.and_then(|options| options.get("loads"));
            Some(Guarded {
                paths: loads.map_or_else(|| Ok(Vec::new()), |list| paths(list, "options.loads"))?,
                within,
            })
        }
    };
    let within = guarded.as_ref().map_or(RESTART, |guarded| RESTART.min(guarded.within));
    let none =
        || -> futures::future::BoxFuture<'static, Result<(), PrimError>> { Box::pin(async { Ok(()) }) };
    let came = restart::restart(world, gate, &entry, &service, within, guarded.as_ref(), &none).await?;
    if let Some(listener) = options.and_then(|options| options.get("serves")) {
        let asked = [listener.clone(), listener.clone()];
        tls::serves(world, &asked, gate).await.map_err(|error| match &came.armed {
            Some(armed) => restart::owing(error, armed, &entry, &service),
            None => error,
        })?;
    }
    if let Some(armed) = &came.armed {
        // It runs, started anew, and serves where it was to: that is what this step can tell.
        confirm::confirm(world, gate, &entry, armed).await?;
    }
    Ok(json!({
        "host": entry.name,
        "service": service.name(),
        "restarted": came.anew,
        "came_back": came.came_back,
    }))
}

pub(super) async fn active(world: &World, args: &[Value]) -> Result<Value, PrimError> {
    let entry = entry_of(args, 0)?;
    let service = Service::of(args.get(1).unwrap_or(&Value::Null))?;
    let status = service.status(world.hosts.host(&entry)?.as_ref()).await?;
    if !status.active {
        return Err(PrimError::new(Code::Unproved, format!("service `{}` does not run", service.name()))
            .on(entry.title())
            .expected("running", status.words));
    }
    Ok(json!({ "host": entry.name, "service": service.name(), "started": status.started }))
}

/// `host::status(host, service)`: what runs and what does not, where neither is a failure.
pub(super) async fn status(world: &World, args: &[Value]) -> Result<Value, PrimError> {
    let entry = entry_of(args, 0)?;
    let service = Service::of(args.get(1).unwrap_or(&Value::Null))?;
    let status = service.status(world.hosts.host(&entry)?.as_ref()).await?;
    Ok(
        json!({ "host": entry.name, "service": service.name(), "active": status.active, "words": status.words }),
    )
}

/// What a written file makes parties load, where it holds certificates.
pub(super) fn forecast_write(_: &World, args: &[Value]) -> Result<Vec<trust::Write>, PrimError> {
    let (entry, path) = (entry_of(args, 0)?, path(args, 1, "path")?);
    let Some(text) = args.get(2).and_then(Value::as_str) else { return Ok(Vec::new()) };
    // What only lies beside its place nobody loads.
    if is_beside(args, 3) {
        return Ok(Vec::new());
    }
    Ok(loaded(&entry, path, text).into_iter().collect())
}

/// What a file that holds this makes parties load; nothing where it holds no certificates.
pub(super) fn loaded(entry: &Entry, path: &str, text: &str) -> Option<trust::Write> {
    let list = parse_many(text.as_bytes(), "content").ok()?;
    let certs = trust::Certs(list.iter().map(|c| c.der().clone()).collect());
    let anchors = list.first().is_some_and(crate::cert::Certificate::is_ca);
    Some(trust::Write {
        place: change::place(&entry.name, path),
        chain: (!anchors).then(|| certs.clone()),
        anchors: anchors.then_some(certs),
    })
}

/// What a swapped pair makes parties present.
pub(super) fn forecast_pair(_: &World, args: &[Value]) -> Result<Vec<trust::Write>, PrimError> {
    let (entry, path) = (entry_of(args, 0)?, path(args, 1, "cert")?);
    let pem = args::field(args::map(args, 3, "identity")?, "cert", "identity")?;
    parse_many(pem.as_bytes(), "identity.cert")?;
    if is_beside(args, 4) {
        return Ok(Vec::new());
    }
    // A CA with its key: what is written beside the key is what parties trust.
    Ok(loaded(&entry, path, pem).into_iter().collect())
}
