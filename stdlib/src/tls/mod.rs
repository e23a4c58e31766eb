//! TLS: configurations that judge a peer by the rules of a component, handshakes that count as accepted only when the
//! peer has judged us too, probes of endpoints.

pub mod config;
mod handshake;
mod judge;
mod looking;
pub mod mysql;
mod observe;
pub mod probe;
mod prove;
mod question;
#[cfg(test)]
mod tests;

pub(crate) use handshake::server_name;
pub use handshake::{GREETING, Handshake, TlsFailure, Wait, handshake_client, handshake_server};
pub use looking::answer;
pub use observe::{Observed, observe};
pub(crate) use prove::{addresses, serves};
pub use question::{ASKED, handshake_asking};

use crate::registry::{Kind, Param, Primitive, Touch, Type};

const COMPONENT: Param = Param {
    name: "component",
    ty: Type::Map,
    optional: false,
    doc: "A component with `endpoints` (`[{pod, host, port, names}]`), its `verifier` (`go`, `openssl` or `webpki`; \
          `go` if left out) and, where its servers ask for one, the client `identity` (`{cert, key}`) to dial with; `closes`, true where it closes connections of strangers \
          after it has judged their certificate, as an etcd member does on its port for peers when the certificate does \
          not name the address that it is dialled from: such an end, without an alert, is no refusal.",
};

/// The primitives of this namespace.
pub const PRIMITIVES: &[Primitive] = &[
    Primitive {
        name: "tls::probe",
        kind: Kind::Read,
        params: &[
            Param { name: "host", ty: Type::Text, optional: false, doc: "DNS name or IP address." },
            Param { name: "port", ty: Type::Int, optional: false, doc: "Port, 1 to 65535." },
            Param {
                name: "options",
                ty: Type::Any,
                optional: true,
                doc: "The name to ask for (SNI), where it is not the host; or a map: `name`; `mysql`, true for a MySQL \
                      port, whose TLS begins after a greeting; `identity`, `{cert, key}` to show; `anchors` to trust, as \
                      PEM, and `verifier` whose rules to judge by (`go` if left out); `within`, the deadline of each \
                      connection, `5s` if left out.",
            },
        ],
        returns: "`{chain: PEM, fingerprint, subject, issuer, not_after, protocol, asks_client}`; `server`, the version of a \
                  MySQL server; and where there was something to try (an identity, anchors, or a server that asks for a \
                  client certificate) `accepted`, and where not, `refused_by` (`us` or `server`) and `reason`, and where we refuse it, `server_accepts`; with \
                  anchors `opinions` and `differences`, as `cert::opinions` gives them",
        doc: "Shows what an endpoint serves, whether it asks for a client certificate, and whether it and a client with this \
              identity and trust accept each other.\n\nEvery answer comes from a new connection with a deadline. Fails with \
              `unavailable` when nobody answers, or no TLS; a refusal is an answer.",
        example: "let seen = tls::probe(\"10.0.0.7\", 2379, #{ identity: leaf, anchors: both });",
        run: |world, args, _| Box::pin(looking::probe(world, args)),
        restore: None,
        forecast: None,
        touches: |args| {
            let host = args.first().and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
            let port =
                args.get(1).and_then(serde_json::Value::as_u64).and_then(|port| u16::try_from(port).ok());
            vec![Touch::Net { host, port: port.unwrap_or_default() }]
        },
    },
    Primitive {
        name: "tls::serves",
        kind: Kind::Prove,
        params: &[
            COMPONENT,
            Param {
                name: "expected",
                ty: Type::Map,
                optional: false,
                doc: "`issued_by`: the CA that every served chain must verify against alone. `trusted_by`: a bundle that it must verify against. At least one of them, as PEM. `identity`: whom to dial as, in place of the component's. `within`: how long to wait for endpoints that lag, `2m` if left out.",
            },
        ],
        returns: "`{endpoints: [{pod, host, port, fingerprint, subject, issuer, not_after, protocol}]}`",
        doc: "Proves on the wire that every endpoint serves such a certificate, under every name by which it is dialled and by its component's rules, and accepts the identity presented.\n\nA new connection to each, without resumption; asked again while some lag behind. Fails with `unproved`, naming the pod, the issuer expected and what was found.",
        example: "leaves.prove(c.name, tls::serves(c, #{ issued_by: ca.cert }));",
        run: |world, args, gate| Box::pin(prove::serves(world, args, gate)),
        restore: None,
        forecast: None,
        touches,
    },
    Primitive {
        name: "tls::refuses",
        kind: Kind::Prove,
        params: &[
            COMPONENT,
            Param {
                name: "options",
                ty: Type::Map,
                optional: false,
                doc: "`identity`: `{cert, key}`, which every endpoint must refuse. `within`: how long to wait for endpoints that lag, `2m` if left out.",
            },
        ],
        returns: "`{endpoints: [{pod, host, port, alert}]}`",
        doc: "Proves on the wire that every endpoint refuses an identity, e.g. one of the old CA after it was distrusted.\n\nOnly an alert counts: an endpoint that does not answer proves nothing. Fails with `unproved`, naming the pod that still accepts it.",
        example: "p.prove(c.name, tls::refuses(c, #{ identity: old }));",
        run: |world, args, gate| Box::pin(prove::refuses(world, args, gate)),
        restore: None,
        forecast: None,
        touches,
    },
];

fn touches(args: &[serde_json::Value]) -> Vec<Touch> {
    prove::addresses(args).into_iter().map(|(host, port)| Touch::Net { host, port }).collect()
}
