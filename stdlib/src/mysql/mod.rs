//! MySQL servers: logging in to them, and having them load their certificates again.

mod login;
mod ready;
mod reload;
mod servers;
pub mod session;

use crate::k8s::param;
use crate::registry::{Kind, Param, Primitive, Touch, Type};
use crate::tidb::sql_servers::Servers;

pub use reload::STATEMENT;

const COMPONENT: Param = param("component", Type::Map, "The servers, as `tidb::sql` gave them as `server`.");
const LOGIN: Param = param(
    "login",
    Type::Map,
    "`user`, and its password: `secret`, `namespace` and `key` (the user's name if left out) of a Secret, which is read when it is needed; or `password`, the handle of a parameter with `secret: true`. Neither means no password.",
);

/// The primitives of this namespace.
pub const PRIMITIVES: &[Primitive] = &[
    Primitive {
        name: "mysql::reload_tls",
        kind: Kind::Settle,
        params: &[
            COMPONENT,
            LOGIN,
            Param {
                name: "options",
                ty: Type::Map,
                optional: true,
                doc: "`clients`: `[{cert, key}]` by which it is seen which authorities a server has loaded: each must be accepted or refused as `ca.crt` of the servers' Secret says. `within`: how long the kubelet may take to bring the Secret into the pods, `5m` if left out.",
            },
        ],
        returns: "`{servers: [{pod, version, fingerprint}], marker}`",
        doc: "Has every server load what its Secret holds, by `ALTER INSTANCE RELOAD TLS` on each: certificate, key and authorities. Each is told again until a new connection presents the certificate of the Secret, since the kubelet brings files in its own time. Connections that are open stay as they are.\n\nThe password is sent only over TLS, to a server whose certificate the clients' Secret trusts. Fails with `forbidden` when the account may not, `invalid` when a server cannot use the files (it keeps those that it had), `unproved` when they do not arrive.",
        example: "p.settle(\"load\", mysql::reload_tls(tidb.server, #{ user: \"root\", namespace: \"tidb\", secret: \"tidb-secret\" })).deadline(\"10m\");",
        run: |world, args, gate| Box::pin(reload::run(world, args, gate)),
        restore: None,
        forecast: None,
        touches,
    },
    Primitive {
        name: "mysql::can_reload",
        kind: Kind::Prove,
        params: &[COMPONENT, LOGIN],
        returns: "`{servers: [{pod, version, not_after}]}`",
        doc: "Proves that an account can log in to every server and has the right to have it load its certificate again.\n\nFails with `forbidden`, naming the server and the privilege to grant, or `unproved`.",
        example: "p.prove(\"login\", mysql::can_reload(tidb.server, #{ user: \"root\", namespace: \"tidb\", secret: \"tidb-secret\" }));",
        run: |world, args, gate| Box::pin(ready::run(world, args, gate)),
        restore: None,
        forecast: None,
        touches,
    },
];

fn touches(args: &[serde_json::Value]) -> Vec<Touch> {
    let mut touches = Servers::touches(args, 0);
    touches.extend(login::touches(args, 1));
    touches
}
