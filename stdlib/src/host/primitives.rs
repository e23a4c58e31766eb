//! The namespace `host`.

use serde_json::Value;

use super::calls::{
    NAME_FIELD, active, entries_of, entry_of, forecast_pair, forecast_write, path, read_inventory, ready,
    restart_service, status, texts, touch, touches, touches_hosts, touches_restart, touches_service,
    touches_verified, verified, write, write_pair,
};
use super::trust::Named;
use super::{acting, change, command, compare, facts, stage, stop};
use crate::error::PrimError;
use crate::k8s::args;
use crate::registry::{Kind, Param, Primitive, Touch, Type};

const HOST: Param = Param::required("host", Type::Map, "A host, as `host::inventory` gives it.");
const PATH: Param = Param::required("path", Type::Text, "Absolute path on the host. A link is followed.");
const SERVICE: Param = Param::required(
    "service",
    Type::Any,
    "A unit of systemd (`\"etcd\"`); or a map: `manifest`, the file of a static pod, which is moved out of the kubelet's folder \
     and back, and `container`, as the file is called if left out; `container`, docker's or the kubelet's, and `runtime`, \
     `docker` or `crictl`, whichever is there if left out; or commands: `name`; `restart`, which returns when it is done; \
     `status`, which ends with 0 while it runs and prints what is another after each start, as its process id; and perhaps \
     `stop`, after which it stays down until it is restarted.",
);
const WRITING: Param = Param::optional(
    "options",
    Type::Map,
    "`mode`, its permissions in octal, `owner`, as `user:group`. Without them a file that is there keeps those it has, \
     and a new one is the user's that writes it, 0600 for secrets and keys and else 0644. `beside: true`: it is laid beside its \
     place, which stays as it is, with the mode and owner of what lies there, to be installed by `host::install`.",
);

/// The files that a call compares.
fn touches_compared(args: &[Value]) -> Vec<Touch> {
    let host = args::hint(args, 0, NAME_FIELD);
    compare::paths(args).into_iter().map(|path| touch(host, path, false)).collect()
}

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
              `local`, `group_vars` and `host_vars` beside the inventory. Errors: `not-found`, `invalid`.",
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
        touches: touches_hosts,
    },
    Primitive {
        name: "host::root",
        kind: Kind::Read,
        params: &[Param::required("hosts", Type::List, "Hosts, as `host::inventory` gives them.")],
        returns: "a list of maps: `host`, `uid`",
        doc: "That we reach these hosts without a password and act as root on each: asked before anything is planned, so that a \
              missing `sudo` is not found half-way.\n\nAll are asked at once, and what each lacks is said, with what to type. \
              Fails with `forbidden`, `unavailable`.",
        example: "host::root(masters);",
        run: |world, args, _| Box::pin(async move { acting::root(world, &entries_of(args)?).await }),
        restore: None,
        forecast: None,
        touches: touches_hosts,
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
        returns: "a list of maps: `host`, `path`, `real` (behind links), `key` (the path of the key beside it, `X-key.pem` \
                  or `X.key`, empty where there is none), `subject`, `issuer`, `is_ca`, `not_before`, `not_after`, \
                  `fingerprint`, `pem`",
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
        name: "host::digest",
        kind: Kind::Read,
        params: &[HOST, Param::required("paths", Type::List, "Files, by their absolute paths.")],
        returns: "a list of maps: `path`, `digest` (`absent` where nothing is there), `mode`, `owner` (`user:group`), `size` \
                  (a text)",
        doc: "What files are, without what they hold: the digests by which the record knows them. A private key is known by \
              its public half.\n\nErrors: `invalid` for what is no file or larger than 4 MiB, `forbidden`, `unavailable`.",
        example: r#"let before = host::digest(m, ["/etc/etcd/ca.pem", "/etc/default/etcd"]);"#,
        run: |world, args, _| Box::pin(compare::digest(world, args)),
        restore: None,
        forecast: None,
        touches: touches_compared,
    },
    Primitive {
        name: "host::compare",
        kind: Kind::Prove,
        params: &[
            HOST,
            Param::required(
                "files",
                Type::List,
                "Maps with `path` and `digest`, as `host::digest` gives them, in one list or in several; `mode` and `owner` are \
                 compared where they are there.",
            ),
        ],
        returns: "a map: `host`, `files`, as `host::digest` gives them",
        doc: "Proves that files are as they were: what a run must not have changed, or what a restore by hand has put back. \
              (What a run changes needs none of this: its record has the digests, and going back compares with them.)\n\n\
              Fails with `unproved`, naming the file and what is another of it.",
        example: "p.prove(m.name, host::compare(m, before));",
        run: |world, args, gate| Box::pin(compare::compare(world, args, gate)),
        restore: None,
        forecast: None,
        touches: touches_compared,
    },
    Primitive {
        name: "host::run",
        kind: Kind::Prove,
        params: &[
            HOST,
            Param::required(
                "command",
                Type::List,
                "A program and its arguments. No shell takes them apart; where one is wanted, it is the program.",
            ),
            Param::optional(
                "options",
                Type::Map,
                "`stdin`, a text or the handle of a secret, at most 1 MiB; `within`, how long it may take, `30s` if left out; \
                 `exit`, the exit code that it must end with, 0 if left out; `stdout`, what it must print somewhere.",
            ),
        ],
        returns: "a map: `host`, `exit`, `stdout` and `stderr` (8 KiB of each), `cut`, whether more was printed",
        doc: "Runs a command on a host and proves that it ends as it should.\n\nWhatever it runs must only look: what a \
              command does cannot be known, announced or put back. What it prints becomes part of the record; where that is a \
              private key or the secret that it was given, nothing is kept and the step fails with `invalid`. The manifest names \
              the command: `- hosts: { name: \"*\", commands: [\"openssl version\"] }`, where `*` stands for any text, several \
              arguments among it. Fails with `unproved`; `timeout` (it is ended on the host); `unavailable`, `forbidden`.",
        example: r#"p.prove(m.name, host::run(m, ["systemctl", "is-active", "kubelet"], #{ stdout: "active" }));"#,
        run: |world, args, gate| Box::pin(command::run(world, args, gate)),
        restore: None,
        forecast: None,
        touches: command::touches,
    },
    Primitive {
        name: "host::ready",
        kind: Kind::Prove,
        params: &[
            Param::required("hosts", Type::List, "Hosts, as `host::inventory` gives them."),
            Param::optional(
                "options",
                Type::Map,
                "`paths`: where there must be room, or would be were they made; `free_kib`: how much, 16384 if left out; `skew`: how far their clocks \
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
        touches: touches_hosts,
    },
    Primitive {
        name: "host::verified",
        kind: Kind::Prove,
        params: &[
            Param::required("hosts", Type::List, "Hosts, as `host::inventory` gives them."),
            Param::required(
                "options",
                Type::Map,
                "`folders`: files, and folders whose files named `.pem`, `.crt` or `.cer` are read (not those below them), or a map \
                 of such lists by the hosts' names; \
                 `ports` of the hosts' addresses that are dialled, if left out those of etcd (2379, 2380) and of API servers \
                 (6443) whose certificates lie there, as far as they answer; `soon`, how long before its end a \
                 certificate is a finding, `720h` if left out; `lasts`, in its place: for how long everything was made anew, \
                 of which a tenth may have passed.",
            ),
        ],
        returns: "`{certificates: [{host, place, what, name, not_after, days_left, fingerprint, findings}]}`",
        doc: "Looks at every certificate of hosts, shows a table of them, and proves that none is damaged, expired or about to \
              expire, that the key beside it (`X-key.pem` or `X.key`) belongs to it and is not everybody's to read, that its \
              issuer lies on the same host, and that ports serve what lies in the files: a port that serves another has not \
              loaded what was renewed.\n\nChanges nothing. Hosts of which no port was looked at are named in a note. Fails with `unproved`, naming every finding; `not-found` where \
              there is no certificate at all; `unavailable`, `forbidden`.",
        example: r#"p.prove("certificates", host::verified(masters, #{ folders: ["/etc/kubernetes/pki"], ports: [6443] }));"#,
        run: |world, args, gate| Box::pin(verified(world, args, gate)),
        restore: None,
        forecast: None,
        touches: touches_verified,
    },
    Primitive {
        name: "host::status",
        kind: Kind::Read,
        params: &[HOST, SERVICE],
        returns: "a map: `host`, `service`, `active`, whether it runs, and `words`, what it is",
        doc: "Looks whether a service runs: what a plan depends on. `host::active` proves it.\n\nErrors: `not-found` for a unit that \
              systemd does not know; `unavailable`.",
        example: r#"if !host::status(m, "etcd").active { note(`${m.name}: etcd does not run`); }"#,
        run: |world, args, _| Box::pin(async move { status(world, args).await }),
        restore: None,
        forecast: None,
        touches: |args| touches_service(args, false),
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
        returns: "a map: `host`, `path`, and `changed`, whether it had to be written; with `beside` also `files`, a list of maps \
                  as `host::digest` gives them and `host::compare` and `host::install` take them",
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
        returns: "a map: `host`, `cert`, `key`, `changed`, `fingerprint`; with `beside` also `files`, as `host::write` has them",
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
        name: "host::install",
        kind: Kind::Change,
        params: &[
            HOST,
            Param::required(
                "files",
                Type::List,
                "What lies beside its place: the `files` of steps that wrote with `beside: true`, one list or several.",
            ),
        ],
        returns: "a map: `host`, `installed`, how many files were renamed",
        doc: "Puts files in place that were laid beside it: all are compared with what was laid there, then all are renamed, then \
              their folders are synced. No byte is written, so it needs no room, and a file is the old one or the new one at any \
              moment. What is in place already, from an attempt that was ended amid them, is left as it is.\n\n\
              Effect: restorable, each file for itself. Fails with `conflict` where what was laid there is gone or is another; \
              `forbidden`, `unavailable`, `locked` as `host::write`.",
        example: "p.change(m.name, host::install(m, [laid_ca.files, laid_pair.files]));",
        run: |world, args, gate| Box::pin(stage::install(world, args, gate)),
        restore: Some(|world, effect, gate| Box::pin(change::restore(world, effect, gate))),
        forecast: Some(stage::forecast),
        touches: |args| {
            stage::places(args)
                .iter()
                .map(|path| touch(args::hint(args, 0, NAME_FIELD), path, true))
                .collect()
        },
    },
    Primitive {
        name: "host::stop",
        kind: Kind::Change,
        params: &[HOST, SERVICE],
        returns: "a map: `host`, `service`, and `stopped`, false where it runs on",
        doc: "Stops a service, so that it stays down until `host::restart`. A static pod's manifest lies meanwhile beside its folder \
              (`.NAME.yaml.parked`), where a restart finds it.\n\nA container that the kubelet keeps would be started again, and of \
              commands that are given without `stop` nobody knows how: both run on, which is noted.\n\nEffect: compensable: going back restarts it. \
              Fails with `unproved` where it runs all the same, `unavailable` where its command fails.",
        example: r#"p.change(m.name, host::stop(m, "etcd")).parallel(64);"#,
        run: |world, args, gate| Box::pin(stop::stop(world, args, gate)),
        restore: None,
        forecast: None,
        touches: |args| touches_service(args, true),
    },
    Primitive {
        name: "host::restart",
        kind: Kind::Settle,
        params: &[
            HOST,
            SERVICE,
            Param::optional(
                "options",
                Type::Map,
                "`confirm`: how long the host waits for us (`5m`) before it puts back what this phase changed of `loads`, \
                 paths of files that the service loads, and restarts it by itself. Left out or empty, it never does. \
                 `serves`: a listener and what it must serve before this is over, as `tls::serves` takes both, in one map \
                 (`endpoints`, `verifier`, `trusted_by`, `within`).",
            ),
        ],
        returns: "a map: `host`, `service`, `restarted`, false where it was by this very step, before a resume, and \
                  `came_back`, whether the host had taken the change back by itself before",
        doc: "Restarts a service and waits until it runs, started anew.\n\nA marker on the host says by which run and phase \
              it was restarted last. Fails with `unproved` where it does not come up, was not restarted or does not serve, `unavailable` \
              where its command fails.",
        example: r#"p.settle(m.name, host::restart(m, "kube-apiserver"));"#,
        run: |world, args, gate| Box::pin(restart_service(world, args, gate)),
        restore: None,
        forecast: None,
        touches: touches_restart,
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
        touches: |args| touches_service(args, false),
    },
];
