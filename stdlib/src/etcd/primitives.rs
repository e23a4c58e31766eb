//! The namespace `etcd`.

use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::{Cluster, member};
use super::look::{Look, until};
use super::{leader, restart, snapshot};
use crate::error::PrimError;
use crate::gate::Gate;
use crate::k8s::args;
use crate::registry::{Kind, Param, Primitive, Touch, Type};
use crate::world::World;

/// How long a cluster may need to be well, unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

const CLUSTER: Param = Param::required(
    "cluster",
    Type::Map,
    "`members`, a list of maps `host` (as `host::inventory` gives it), `endpoint` (`host:port` for clients, port 2379 of \
     the host's address if left out), `service` (`\"etcd\"` if left out, as for `host::restart`) and `loads` (files that it \
     loads when it starts); `identity`, \
     `{cert, key}` to show; `trusted_by`, PEM of whom we trust.",
);

/// The primitives of this namespace.
pub const PRIMITIVES: &[Primitive] = &[
    Primitive {
        name: "etcd::members",
        kind: Kind::Read,
        params: &[CLUSTER],
        returns: "a map: `members`, a list of maps `host`, `endpoint`, `name`, `id`, `learner`, `leader`, `version`, \
                  `term`, `index`, `applied`, `db_size` (texts), `problem` where it does not answer; `alarms`; `trouble`, \
                  what keeps the cluster from being well, or nothing",
        doc: "Asks every member what it is and whom it follows.\n\nFails with `unavailable` where none answers.",
        example: "let seen = etcd::members(cluster); if seen.trouble != () { throw seen.trouble; }",
        run: |world, args, _| {
            Box::pin(async move { Ok(Cluster::of(world, args, 0)?.look(world).await?.to_value()) })
        },
        restore: None,
        forecast: None,
        touches,
    },
    Primitive {
        name: "etcd::order",
        kind: Kind::Read,
        params: &[CLUSTER],
        returns: "`cluster.members` in another order",
        doc: "Members as they are best restarted: followers first, in the order given, the leader last.\n\nFails with \
              `unavailable` where none answers.",
        example: r#"p.settle("restart", etcd::restart(cluster, item())).each(etcd::order(cluster));"#,
        run: |world, args, _| Box::pin(order(world, args)),
        restore: None,
        forecast: None,
        touches,
    },
    Primitive {
        name: "etcd::healthy",
        kind: Kind::Prove,
        params: &[
            CLUSTER,
            Param::optional("options", Type::Map, "`within`: how long to wait, `1m` if left out."),
        ],
        returns: "as `etcd::members`",
        doc: "Proves that every member answers and accepts our certificate, that all follow one leader and none lags far \
              behind, that no alarm is raised, nobody is a learner, and the cluster has no member that is not named.\n\n\
              Fails with `unproved`, saying what is in the way.",
        example: r#"p.prove("healthy", etcd::healthy(cluster));"#,
        run: |world, args, gate| Box::pin(healthy(world, args, gate)),
        restore: None,
        forecast: None,
        touches,
    },
    Primitive {
        name: "etcd::snapshot",
        kind: Kind::Change,
        params: &[
            CLUSTER,
            Param::required(
                "path",
                Type::Text,
                "The file, on this machine; a relative path starts from the folder in which rollover was started. One that \
                 ends with `/` is a folder, in which the file is called as the run is: `RUN.db`.",
            ),
        ],
        returns: "a map: `path`, `size`, `hash`, `from`, the endpoint",
        doc: "Saves the database of one member, the one that has most, as `etcdctl snapshot save` does, and checks it by the \
              hash behind it. The file holds everything that the cluster holds, secrets too: it is made 0600.\n\nEffect: it \
              stays when the run goes back; restoring a snapshot loses writes and is never part of a way back. A whole \
              snapshot that is there is never written over. Errors: `conflict`, `unavailable`, `forbidden`.",
        example: r#"inventory.change("snapshot", etcd::snapshot(cluster, "/var/backups/etcd.db"));"#,
        run: |world, args, gate| {
            Box::pin(async move {
                let cluster = Cluster::of(world, args, 0)?;
                let path = snapshot::named(args::text(args, 1, "path")?, &gate.marker())?;
                snapshot::save(world, &cluster, &path, gate).await
            })
        },
        restore: None,
        forecast: None,
        touches: |args| {
            let mut touched = touches(args);
            touched.push(Touch::File { path: args::hint(args, 1, "").to_owned(), write: true });
            touched
        },
    },
    Primitive {
        name: "etcd::move_leader",
        kind: Kind::Settle,
        params: &[
            CLUSTER,
            Param::required("member", Type::Map, "The one of `cluster.members` that is to lead."),
        ],
        returns: "a map: `host`, `moved`, false where it led already, `from`, the host of the member that led before",
        doc: "Has a member lead, and waits until all follow it: before the host of the one that led is worked on.\n\nAsked of \
              the leader alone, once every member is well; the cluster takes no longer than an election. Does nothing where the \
              member leads already. Never put back: on the way back it is asked again. Fails with `unproved` where the cluster is \
              not well (nothing is moved then) or another leads afterwards. `etcd::restart` needs none of this: it moves the \
              leadership away by itself.",
        example: r#"p.settle("lead", etcd::move_leader(cluster, cluster.members[0]));"#,
        run: |world, args, gate| {
            Box::pin(async move {
                let cluster = Cluster::of(world, args, 0)?;
                let member = member(args.get(1).unwrap_or(&Value::Null))?;
                leader::lead(world, &cluster, &member, gate).await
            })
        },
        restore: None,
        forecast: None,
        touches: |args| {
            let mut touched = touches(args);
            touched.extend(args.get(1).and_then(|value| member(value).ok()).map(|member| Touch::Host {
                what: format!("service:{}", member.service.name()),
                host: member.host.name,
                write: true,
            }));
            touched
        },
    },
    Primitive {
        name: "etcd::restart",
        kind: Kind::Settle,
        params: &[
            CLUSTER,
            Param::required("member", Type::Map, "One of `cluster.members`."),
            Param::optional(
                "options",
                Type::Map,
                "`confirm`: how long the member's host waits for us (`5m`) before it puts back what this phase changed of \
                 the member's `loads` and restarts it by itself. Left out or empty, it never does.",
            ),
        ],
        returns: "a map: `host`, `restarted` (false where it was by this very step, before a resume), `came_back`, whether \
                  its host had taken the change back by itself before, `led`, whether the leadership was moved away first, \
                  `applied`",
        doc: "Restarts one member without costing the quorum: waits until all others are well and none of their hosts waits \
              to be confirmed, moves the leadership away from it, asks once more, arms the timer, restarts its service, \
              waits until it has caught up, and confirms.\n\nThe timer runs on the host and needs no connection; it does not \
              survive a reboot. A resume that finds it fired puts the run's files in place again and restarts the member \
              anew. Fails with `unproved` where the others are not well (nothing is stopped then), it does not come back, or \
              the proof comes too late; what the host will do by itself is said.",
        example: r#"p.settle("restart", etcd::restart(cluster, item(), #{ confirm: "5m" })).each(etcd::order(cluster)).deadline("10m");"#,
        run: |world, args, gate| {
            Box::pin(async move {
                let cluster = Cluster::of(world, args, 0)?;
                let member = member(args.get(1).unwrap_or(&Value::Null))?;
                let guarded = restart::guarded(&member, args.get(2))?;
                restart::run(world, &cluster, &member, guarded.as_ref(), gate).await
            })
        },
        restore: None,
        forecast: None,
        touches: |args| {
            let mut touched = touches(args);
            // Which of them it is may be known only when it is restarted.
            touched.extend(members(args).map(|member| Touch::Host {
                what: format!("service:{}", member.service.name()),
                host: member.host.name,
                write: true,
            }));
            touched
        },
    },
];

/// The members that a call's arguments name.
fn members(args: &[Value]) -> impl Iterator<Item = super::Member> {
    let members = args.first().and_then(|cluster| cluster.get("members")).and_then(Value::as_array);
    members.into_iter().flatten().filter_map(|value| member(value).ok())
}

/// The endpoints that a call's arguments name.
fn touches(args: &[Value]) -> Vec<Touch> {
    members(args)
        .map(|member| Touch::Net { host: member.endpoint.host, port: member.endpoint.port })
        .collect()
}

async fn order(world: &World, args: &[Value]) -> Result<Value, PrimError> {
    let cluster = Cluster::of(world, args, 0)?;
    let order = restart::order(&cluster.look(world).await?);
    let members = args.first().and_then(|cluster| cluster.get("members")).and_then(Value::as_array);
    let by_name = |name: &str| {
        members.into_iter().flatten().find(|member| {
            member.get("host").and_then(|host| host.get("name")).and_then(Value::as_str) == Some(name)
        })
    };
    Ok(order.iter().filter_map(|name| by_name(name)).cloned().collect())
}

async fn healthy(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let cluster = Cluster::of(world, args, 0)?;
    let within = match args.get(1).and_then(|options| options.get("within")).and_then(Value::as_str) {
        Some(text) => crate::duration::parse(text).map_err(PrimError::argument)?,
        None => PATIENCE,
    };
    let well = |look: &Look| look.trouble().map_or_else(|| Ok(look.to_value()), Err);
    let found: Value = until(world, &cluster, within, gate, &well).await?;
    Ok(json!(found))
}
