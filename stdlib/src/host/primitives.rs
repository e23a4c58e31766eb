//! The namespace `host`.

use std::time::Duration;

use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::change::{self, Wish};
use super::facts::{self, Needs};
use super::inventory::{self, Entry};
use super::restart;
use super::service::Service;
use super::trust::Named;
use crate::cert::{Key, parse_many};
use crate::error::{Code, PrimError};
use crate::files::change::{Content, io_error};
use crate::gate::Gate;
use crate::k8s::args;
use crate::registry::{Kind, Param, Primitive, Touch, Type};
use crate::secret::{handle_id, not_a_key};
use crate::trust;
use crate::world::World;

/// The largest inventory.
const INVENTORY: usize = 4 << 20;
/// How long a restart may take, until the step's own deadline.
const RESTART: Duration = Duration::from_secs(600);

/// The field of a host that names it.
const NAME_FIELD: &str = "name";

const HOST: Param = Param::required("host", Type::Map, "A host, as `host::inventory` gives it.");
const PATH: Param = Param::required("path", Type::Text, "Absolute path on the host. A link is followed.");
const SERVICE: Param = Param::required(
    "service",
    Type::Any,
    "A unit of systemd (`\"etcd\"`); or a map of commands: `name`; `restart`, which returns when it is done; `status`, \
     which ends with 0 while it runs and prints what is another after each start, as its process id.",
);
const WRITING: Param = Param::optional(
    "options",
    Type::Map,
    "`mode`, its permissions in octal, `owner`, as `user:group`. Without them a file that is there keeps those it has, \
     and a new one is the user's that writes it, 0600 for secrets and keys and else 0644.",
);

/// The primitives of this namespace.
pub const PRIMITIVES: &[Primitive] = &[
    Primitive {
        name: "host::inventory",
        kind: Kind::Read,
        params: &[
            Param::required("path", Type::Text, "An inventory in Ansible's YAML form, on this machine."),
            Param::optional("group", Type::Text, "A group or a host of it; `all` when left out."),
        ],
        returns: "a list of hosts in the order of the file, each a map: `name`, `address`, `port`, `user`, `key_file`, \
                  `args`, `become`, `connection`, `state`, and `vars`, the other variables",
        doc: "Reads the hosts of a group.\n\nGroups within groups, ranges (`m[1:3]`) and variables count as with Ansible. \
              What would be read otherwise is refused by name: templates, passwords, connections other than `ssh` and \
              `local`. Errors: `not-found`, `invalid`.",
        example: r#"let masters = host::inventory(param("inventory"), "masters");"#,
        run: |world, args, _| Box::pin(async move { read_inventory(world, args) }),
        restore: None,
        forecast: None,
        touches: |args| vec![Touch::File { path: args::hint(args, 0, "").to_owned(), write: false }],
    },
    Primitive {
        name: "host::idle",
        kind: Kind::Read,
        params: &[Param::required("hosts", Type::List, "Hosts, as `host::inventory` gives them.")],
        returns: "nothing",
        doc: "That no run is unfinished on these hosts: asked before what lies there is read for a plan.\n\nFails with \
              `locked`, saying which run has one of them, since when and at which step; `unavailable`, `forbidden`.",
        example: "host::idle(masters);",
        run: |world, args, _| {
            Box::pin(async move { super::lock::idle(world, &entries_of(args)?).await.map(|()| Value::Null) })
        },
        restore: None,
        forecast: None,
        touches: |args| {
            let hosts = args.first().and_then(Value::as_array).into_iter().flatten();
            hosts
                .map(|host| {
                    touch(host.get(NAME_FIELD).and_then(Value::as_str).unwrap_or_default(), "/", false)
                })
                .collect()
        },
    },
    Primitive {
        name: "host::read",
        kind: Kind::Read,
        params: &[HOST, PATH],
        returns: "The text of the file.",
        doc: "Reads a text file of a host, of at most 1 MiB.\n\nErrors: `not-found`; `forbidden`; `unavailable`; `invalid` \
              when it is no UTF-8 text, is larger, or holds a private key.",
        example: r#"let unit = host::read(m, "/etc/default/etcd");"#,
        run: |world, args, _| {
            Box::pin(async move { facts::read(world, &entry_of(args, 0)?, path(args, 1, "path")?).await })
        },
        restore: None,
        forecast: None,
        touches: |args| touches(args, &[1], false),
    },
    Primitive {
        name: "host::identity",
        kind: Kind::Read,
        params: &[
            HOST,
            Param::required("cert", Type::Text, "The file of its certificate, chain behind it."),
            Param::required("key", Type::Text, "The file of its key: PEM, not encrypted."),
        ],
        returns: "a map: `cert` (PEM), `key` (a secret handle), `fingerprint`, `subject`, `not_after`",
        doc: "Reads a certificate and its key from a host, the key as a secret.\n\nErrors: `not-found`; `forbidden`; \
              `key-mismatch` where the two do not belong together; `invalid`.",
        example: r#"let client = host::identity(m, "/etc/etcd/client.pem", "/etc/etcd/client-key.pem");"#,
        run: |world, args, _| {
            Box::pin(async move {
                facts::identity(world, &entry_of(args, 0)?, path(args, 1, "cert")?, path(args, 2, "key")?)
                    .await
            })
        },
        restore: None,
        forecast: None,
        touches: |args| touches(args, &[1, 2], false),
    },
    Primitive {
        name: "host::certificates",
        kind: Kind::Read,
        params: &[
            HOST,
            Param::required(
                "paths",
                Type::List,
                "Files, and folders whose files named `.pem`, `.crt` or `.cer` are read, keys (`-key.pem`) left out.",
            ),
        ],
        returns: "a list of maps: `host`, `path`, `real` (behind links), `subject`, `issuer`, `is_ca`, `not_before`, \
                  `not_after`, `fingerprint`, `pem`",
        doc: "Lists the certificates of a host with their dates.\n\nErrors: `not-found`, `forbidden`, `invalid` where a \
              file is damaged.",
        example: r#"for c in host::certificates(m, ["/etc/kubernetes/pki"]) { note(`${c.path} ${c.not_after}`); }"#,
        run: |world, args, _| {
            Box::pin(async move {
                facts::certificates(world, &entry_of(args, 0)?, &texts(args.get(1), "paths")?).await
            })
        },
        restore: None,
        forecast: None,
        touches: |args| {
            let host = args::hint(args, 0, NAME_FIELD);
            let paths = args.get(1).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
            paths.map(|path| touch(host, path, false)).collect()
        },
    },
    Primitive {
        name: "host::ready",
        kind: Kind::Prove,
        params: &[
            Param::required("hosts", Type::List, "Hosts, as `host::inventory` gives them."),
            Param::optional(
                "options",
                Type::Map,
                "`paths`: where there must be room; `free_kib`: how much, 16384 if left out; `skew`: how far their clocks \
                 may be from ours, `1m` if left out.",
            ),
        ],
        returns: "`{hosts: [{host, clock_ms, give_or_take_ms, free}]}`",
        doc: "Proves that hosts can be reached, that we may act there, that their clocks agree with ours and that there is \
              room.\n\nAll are asked at once, and what each lacks is said. Fails with `unproved`, `unavailable` or \
              `forbidden`.",
        example: r#"p.prove("hosts", host::ready(masters, #{ paths: ["/etc/etcd"] }));"#,
        run: |world, args, gate| Box::pin(ready(world, args, gate)),
        restore: None,
        forecast: None,
        touches: |args| {
            let hosts = args.first().and_then(Value::as_array).into_iter().flatten();
            hosts
                .map(|host| {
                    touch(host.get(NAME_FIELD).and_then(Value::as_str).unwrap_or_default(), "/", false)
                })
                .collect()
        },
    },
    Primitive {
        name: "host::trust",
        kind: Kind::Read,
        params: &[Param::required(
            "parties",
            Type::List,
            "Maps: `group`, its row in the table; `host`; `cert` and `ca`, the files of its chain and of its anchors; \
             `service`, what loads the anchors when it starts, left out for what reads them for each connection; \
             `endpoint`, `host:port` where it listens; `dials`, the groups that it dials.",
        )],
        returns: "a trust view: parties with what each may have loaded and how that is known, and the links between them",
        doc: "Measures who trusts whom among processes that read certificate files of hosts.\n\nWhat is presented is \
              measured by a handshake where there is a port; a pair is taken to be read at every handshake. What is \
              trusted follows from what this run wrote and restarted; of a process that this run has not restarted it is \
              what lay there when the run began, and whatever was written since.",
        example: "trust(host::trust(job.parties));",
        run: |world, args, gate| {
            Box::pin(async move {
                let view = super::trust::measure(world, &Named::list(args.first())?, gate).await?;
                serde_json::to_value(view).map_err(|error| PrimError::internal(error.to_string()))
            })
        },
        restore: None,
        forecast: None,
        touches: |args| {
            Named::list(args.first()).unwrap_or_default().iter().flat_map(Named::touches).collect()
        },
    },
    Primitive {
        name: "host::write",
        kind: Kind::Change,
        params: &[
            HOST,
            PATH,
            Param::required("content", Type::Any, "What it shall hold: a text, or the handle of a secret."),
            WRITING,
        ],
        returns: "a map: `host`, `path`, and `changed`, whether it had to be written",
        doc: "Makes a file of a host hold a text or a secret, as one act that survives a power cut: temporary file beside \
              it, sync, rename, sync of the folder. Does nothing where the file holds it already.\n\n\
              Effect: restorable. Going back puts content and mode back, where the file is as the run left it.\n\n\
              Errors: `forbidden`; `unavailable`, also for a full disk, the old file being whole; `conflict` when somebody \
              else changes the file meanwhile; `locked` when another process took the host.",
        example: r#"p.change(`${m.name} CA`, host::write(m, "/etc/etcd/ca.pem", both));"#,
        run: |world, args, gate| Box::pin(write(world, args, gate)),
        restore: Some(|world, effect, gate| Box::pin(change::restore(world, effect, gate))),
        forecast: Some(forecast_write),
        touches: |args| touches(args, &[1], true),
    },
    Primitive {
        name: "host::write_pair",
        kind: Kind::Change,
        params: &[
            HOST,
            Param::required("cert", Type::Text, "The file of the certificate."),
            Param::required("key", Type::Text, "The file of the key."),
            Param::required(
                "identity",
                Type::Map,
                "A map with `cert` (PEM) and `key` (a handle), as `cfssl::issue` returns it.",
            ),
            WRITING,
        ],
        returns: "a map: `host`, `cert`, `key`, `changed`, `fingerprint`",
        doc: "Swaps a certificate and its key: both are staged and synced before the first is renamed, so that there is no \
              time to speak of in which they do not belong together.\n\nEffect: restorable, each file for itself. Errors: as \
              `host::write`; `key-mismatch` where the two do not belong together.",
        example: r#"leaves.change(m.name, host::write_pair(m, "/etc/etcd/peer.pem", "/etc/etcd/peer-key.pem", leaf));"#,
        run: |world, args, gate| Box::pin(write_pair(world, args, gate)),
        restore: Some(|world, effect, gate| Box::pin(change::restore(world, effect, gate))),
        forecast: Some(forecast_pair),
        touches: |args| touches(args, &[1, 2], true),
    },
    Primitive {
        name: "host::restart",
        kind: Kind::Settle,
        params: &[HOST, SERVICE],
        returns: "a map: `host`, `service`, `restarted`: false where it was by this very step, before a resume",
        doc: "Restarts a service and waits until it runs, started anew.\n\nA marker on the host says by which run and phase \
              it was restarted last. Fails with `unproved` where it does not come up or was not restarted, `unavailable` \
              where its command fails.",
        example: r#"p.settle(m.name, host::restart(m, "kube-apiserver"));"#,
        run: |world, args, gate| Box::pin(restart_service(world, args, gate)),
        restore: None,
        forecast: None,
        touches: |args| {
            let name = Service::of(args.get(1).unwrap_or(&Value::Null))
                .map(|s| s.name().to_owned())
                .unwrap_or_default();
            vec![touch(args::hint(args, 0, NAME_FIELD), &format!("service:{name}"), true)]
        },
    },
    Primitive {
        name: "host::active",
        kind: Kind::Prove,
        params: &[HOST, SERVICE],
        returns: "a map: `host`, `service`, `started`",
        doc: "Proves that a service runs.\n\nFails with `unproved`, saying what it is instead.",
        example: r#"p.prove(m.name, host::active(m, "kubelet"));"#,
        run: |world, args, _| Box::pin(active(world, args)),
        restore: None,
        forecast: None,
        touches: |args| {
            let name = Service::of(args.get(1).unwrap_or(&Value::Null))
                .map(|s| s.name().to_owned())
                .unwrap_or_default();
            vec![touch(args::hint(args, 0, NAME_FIELD), &format!("service:{name}"), false)]
        },
    },
];

fn touch(host: &str, what: &str, write: bool) -> Touch {
    Touch::Host { host: host.to_owned(), what: what.to_owned(), write }
}

/// Paths of a host that stand at these places among the arguments.
fn touches(args: &[Value], indices: &[usize], write: bool) -> Vec<Touch> {
    let host = args::hint(args, 0, NAME_FIELD);
    indices.iter().map(|index| touch(host, args::hint(args, *index, ""), write)).collect()
}

/// A host among the arguments.
fn entry_of(args: &[Value], index: usize) -> Result<Entry, PrimError> {
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

fn path<'a>(args: &'a [Value], index: usize, name: &str) -> Result<&'a str, PrimError> {
    let path = args::text(args, index, name)?;
    if path.starts_with('/') {
        Ok(path)
    } else {
        Err(PrimError::argument(format!("`{name}` is no absolute path"))
            .expected("e.g. `/etc/etcd/ca.pem`", format!("`{path}`")))
    }
}

fn texts(value: Option<&Value>, name: &str) -> Result<Vec<String>, PrimError> {
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

fn read_inventory(world: &World, args: &[Value]) -> Result<Value, PrimError> {
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
    let hosts = found.named(group).map_err(|error| error.on(what.clone()))?;
    if hosts.is_empty() {
        return Err(PrimError::not_found(format!("the group `{group}` has no hosts")).on(what));
    }
    let hosts = hosts.into_iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>();
    hosts.map(Value::Array).map_err(|error| PrimError::internal(error.to_string()))
}

/// The list of hosts that is the first argument.
fn entries_of(args: &[Value]) -> Result<Vec<Entry>, PrimError> {
    let hosts = args.first().and_then(Value::as_array);
    hosts.ok_or_else(|| PrimError::argument("`hosts` is no list of hosts"))?.iter().map(entry).collect()
}

async fn ready(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
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

struct Options {
    mode: Option<u32>,
    owner: Option<String>,
}

fn writing(args: &[Value], index: usize) -> Result<Options, PrimError> {
    let Some(options) = given(args, index)? else { return Ok(Options { mode: None, owner: None }) };
    if let Some(unknown) = options.keys().find(|key| !matches!(key.as_str(), "mode" | "owner")) {
        return Err(PrimError::argument(format!("`options` has an unknown field `{unknown}`"))
            .expected("`mode`, `owner`", format!("`{unknown}`")));
    }
    let mode = options.get("mode").map(|mode| {
        let text = mode.as_str().unwrap_or_default();
        u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777).ok_or_else(|| {
            PrimError::argument("`options.mode` is no file's permissions")
                .expected("octal digits, e.g. `0640`", mode.to_string())
        })
    });
    let owner = options.get("owner").and_then(Value::as_str).map(str::to_owned);
    if owner.as_ref().is_some_and(|owner| owner.is_empty() || owner.starts_with('-')) {
        return Err(
            PrimError::argument("`options.owner` is no owner").expected("e.g. `etcd:etcd`", "another text")
        );
    }
    Ok(Options { mode: mode.transpose()?, owner })
}

fn wish(path: &str, bytes: Zeroizing<Vec<u8>>, secret: bool, options: &Options) -> Wish {
    Wish {
        path: path.to_owned(),
        content: Content::new(bytes, secret, options.mode),
        keep_mode: options.mode.is_none(),
        owner: options.owner.clone(),
    }
}

async fn write(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
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
    let changed = change::put(world, gate, &entry, vec![wish]).await?;
    Ok(json!({ "host": entry.name, "path": path, "changed": changed.contains(&true) }))
}

async fn write_pair(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
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
    let public = Options { mode: None, owner: options.owner.clone() };
    let wishes = vec![
        wish(cert, Zeroizing::new(pem.as_bytes().to_vec()), false, &public),
        wish(key, Zeroizing::new(secret.expose().to_vec()), true, &options),
    ];
    let changed = change::put(world, gate, &entry, wishes).await?;
    Ok(json!({
        "host": entry.name,
        "cert": cert,
        "key": key,
        "changed": changed.contains(&true),
        "fingerprint": leaf.fingerprint(),
    }))
}

async fn restart_service(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let entry = entry_of(args, 0)?;
    let service = Service::of(args.get(1).unwrap_or(&Value::Null))?;
    let none =
        || -> futures::future::BoxFuture<'static, Result<(), PrimError>> { Box::pin(async { Ok(()) }) };
    let restarted = restart::restart(world, gate, &entry, &service, RESTART, &none).await?;
    Ok(json!({ "host": entry.name, "service": service.name(), "restarted": restarted }))
}

async fn active(world: &World, args: &[Value]) -> Result<Value, PrimError> {
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

/// What a written file makes parties load, where it holds certificates.
fn forecast_write(_: &World, args: &[Value]) -> Result<Vec<trust::Write>, PrimError> {
    let (entry, path) = (entry_of(args, 0)?, path(args, 1, "path")?);
    let Some(text) = args.get(2).and_then(Value::as_str) else { return Ok(Vec::new()) };
    let Ok(list) = parse_many(text.as_bytes(), "content") else { return Ok(Vec::new()) };
    let certs = trust::Certs(list.iter().map(|c| c.der().clone()).collect());
    let anchors = list.first().is_some_and(crate::cert::Certificate::is_ca);
    Ok(vec![trust::Write {
        place: change::place(&entry.name, path),
        chain: (!anchors).then(|| certs.clone()),
        anchors: anchors.then_some(certs),
    }])
}

/// What a swapped pair makes parties present.
fn forecast_pair(_: &World, args: &[Value]) -> Result<Vec<trust::Write>, PrimError> {
    let (entry, path) = (entry_of(args, 0)?, path(args, 1, "cert")?);
    let pem = args::field(args::map(args, 3, "identity")?, "cert", "identity")?;
    let list = parse_many(pem.as_bytes(), "identity.cert")?;
    let certs = trust::Certs(list.iter().map(|c| c.der().clone()).collect());
    Ok(vec![trust::Write { place: change::place(&entry.name, path), chain: Some(certs), anchors: None }])
}
