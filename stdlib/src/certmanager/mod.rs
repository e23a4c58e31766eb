//! Certificates that cert-manager keeps: reading them, having them issued again, and putting back what was there before.
//!
//! cert-manager takes orders and no content: what it will issue is not known before it has. So a step here announces that
//! it gives the order, keeps what lies in the Secret, waits, and proves by the chain what came of it.

mod fact;
mod issued;
mod reissue;
mod since;
mod state;
mod store_in;
mod undo;

use serde_json::Value;

use crate::k8s::args::hint;
use crate::k8s::object::{resource, text, touch};
use crate::k8s::param;
use crate::registry::{Kind, Obstacle, Param, Primitive, Touch, Type};

/// `apiVersion` of its objects.
pub const API_VERSION: &str = "cert-manager.io/v1";

/// The change that can tell beforehand what stands in the way of putting it back.
pub const OBSTACLE: (&str, Obstacle) =
    ("certmanager::reissue", |world, effects, gate| Box::pin(since::obstacle(world, effects, gate)));

const CERTIFICATE: Param = param(
    "certificate",
    Type::Map,
    "A Certificate, as `certmanager::certificates` gives it: `namespace`, `name` and `secret` are used.",
);

/// The primitives of this namespace.
pub const PRIMITIVES: &[Primitive] = &[
    Primitive {
        name: "certmanager::certificates",
        kind: Kind::Read,
        params: &[
            param("namespace", Type::Text, "Namespace of the Secrets."),
            param("secrets", Type::List, "Names of Secrets that cert-manager keeps."),
        ],
        returns: "`{issuer: {kind, name}, ca, certificates, managed, labelled, warnings}`; each certificate, and `ca` (nothing where the issuer is no `Issuer` of kind `ca`, or nobody keeps its Secret), has `{namespace, name, secret, revision, immutable, rotation_policy, renewal_time, cert, fingerprint}`",
        doc: "Reads the Certificates behind some Secrets, and the one of the CA that issues them.\n\nFails with `invalid` where a Secret belongs to no Certificate or the Certificates have several issuers, and with `unproved` where one is not ready or is being issued.",
        example: "let issued = certmanager::certificates(\"tidb\", [\"basic-pd-cluster-secret\"]);",
        run: |world, args, gate| Box::pin(fact::run(world, args, gate)),
        restore: None,
        forecast: None,
        touches: |args| {
            let namespace = hint(args, 0, "");
            let mut touches = vec![touch(API_VERSION, "Certificate", namespace, "", &["list"])];
            let get = |kind: &str, name: &str| {
                touch(if kind == "Secret" { "v1" } else { API_VERSION }, kind, namespace, name, &["get"])
            };
            touches.extend(names(args.get(1)).map(|name| get("Secret", name)));
            // What it found: the issuer and the Certificates by their names.
            if let Some(found) = args.get(2) {
                let listed = found.get("certificates").and_then(Value::as_array).into_iter().flatten();
                for certificate in listed.chain(found.get("ca").filter(|ca| ca.is_object())) {
                    touches.push(get("Certificate", text(certificate, &["name"])));
                    touches.push(get("Secret", text(certificate, &["secret"])));
                }
                if text(found, &["issuer", "kind"]) == "Issuer" {
                    touches.push(get("Issuer", text(found, &["issuer", "name"])));
                }
            }
            touches
        },
    },
    Primitive {
        name: "certmanager::reissue",
        kind: Kind::Change,
        params: &[
            CERTIFICATE,
            Param {
                name: "options",
                ty: Type::Map,
                optional: true,
                doc: "`by`: `renewal` (as when left out: what `cmctl renew` does; the old Secret serves meanwhile, and the key is kept where the policy says so) or `deletion` of the Secret (always a new key); `issued_by`: the CA that must have signed the new one.",
            },
        ],
        returns: "`{namespace, name, secret, revision, cert, key, ca, fingerprint}`",
        doc: "Has a certificate issued again, and waits for the new revision: ready, another than before, its key its own, and signed by the CA that stands beside it (and by `issued_by`). What was signed by another CA, since cert-manager still had the one before in mind, is issued once more.\n\nUndone by deleting the newer CertificateRequests and then putting the Secret's content back: in this order cert-manager takes it for valid. What cert-manager has renewed by itself meanwhile, by the same CA, is replaced too, with a note in the record and a copy kept; what anybody else has written there, or another CA has signed, is a `conflict`. Fails with `unproved` where cert-manager says that it cannot issue it.",
        example: "p.change(c.name, certmanager::reissue(c, #{ issued_by: ca.cert }));",
        run: |world, args, gate| Box::pin(reissue::run(world, args, gate)),
        restore: Some(|world, effect, gate| Box::pin(undo::restore(world, effect, gate))),
        forecast: Some(reissue::forecast),
        touches: |args| {
            let (namespace, secret) = (hint(args, 0, "namespace"), hint(args, 0, "secret"));
            let mut touches = orders(args);
            touches.push(touch("v1", "Secret", namespace, secret, &["get", "patch"]));
            if hint(args, 1, "by") == "deletion" {
                touches.push(touch("v1", "Secret", namespace, secret, &["delete"]));
                touches.push(touch("v1", "Secret", namespace, "", &["create"]));
            } else {
                touches.push(status(namespace, hint(args, 0, "name")));
            }
            touches
        },
    },
    Primitive {
        name: "certmanager::store_in",
        kind: Kind::Change,
        params: &[
            CERTIFICATE,
            param("secret", Type::Text, "Name of the Secret that cert-manager is to keep it in from now on."),
        ],
        returns: "`{namespace, name, secret, changed}`: the Certificate with its new Secret",
        doc: "Points a Certificate at another Secret, and waits until cert-manager keeps it there. The Secret that it kept before stays as it is, for whoever uses it.\n\nUndone by deleting CertificateRequests of later revisions and pointing it back, so that what lies there counts as valid; a Secret that this step had made is deleted then. Fails with `conflict` where a Secret of that name belongs to somebody else.",
        example: "p.change(c.name, certmanager::store_in(c, `${c.secret}-issued`));",
        run: |world, args, gate| Box::pin(store_in::run(world, args, gate)),
        restore: Some(|world, effect, gate| Box::pin(undo::restore(world, effect, gate))),
        forecast: None,
        touches: |args| {
            let (namespace, name) = (hint(args, 0, "namespace"), hint(args, 0, "name"));
            let mut touches = orders(args);
            touches.push(touch(API_VERSION, "Certificate", namespace, name, &["patch"]));
            touches.push(touch("v1", "Secret", namespace, hint(args, 0, "secret"), &["get"]));
            touches.push(touch("v1", "Secret", namespace, hint(args, 1, ""), &["get", "delete"]));
            touches
        },
    },
    Primitive {
        name: "certmanager::issued",
        kind: Kind::Prove,
        params: &[
            CERTIFICATE,
            param(
                "expected",
                Type::Map,
                "`issued_by`: the CA that must have signed what lies in its Secret; `same_key_as`: a certificate whose key it must have; at least one of them. `in_force_for`: how long ago it must have begun to be valid (`6m`); waits until then, since cert-manager backdates nothing and clocks differ.",
            ),
        ],
        returns: "`{revision, fingerprint}`",
        doc: "Proves what cert-manager keeps: the Certificate is ready in its present form and nothing is being issued, and its Secret holds a valid pair that the CA has signed.\n\nFails with `unproved`.",
        example: "p.prove(c.name, certmanager::issued(c, #{ issued_by: ca.cert }));",
        run: |world, args, gate| Box::pin(issued::run(world, args, gate)),
        restore: None,
        forecast: None,
        touches: |args| {
            let (namespace, name) = (hint(args, 0, "namespace"), hint(args, 0, "name"));
            vec![
                touch(API_VERSION, "Certificate", namespace, name, &["get"]),
                touch("v1", "Secret", namespace, hint(args, 0, "secret"), &["get"]),
            ]
        },
    },
];

/// What every order to cert-manager needs, and taking it back.
fn orders(args: &[Value]) -> Vec<Touch> {
    let (namespace, name) = (hint(args, 0, "namespace"), hint(args, 0, "name"));
    vec![
        touch(API_VERSION, "Certificate", namespace, name, &["get"]),
        touch(API_VERSION, "CertificateRequest", namespace, "", &["get", "list", "delete"]),
    ]
}

fn status(namespace: &str, name: &str) -> Touch {
    let certificates = resource(API_VERSION, "Certificate");
    Touch::Kube {
        group: certificates.group,
        resource: format!("{}/status", certificates.plural),
        namespace: namespace.into(),
        name: name.into(),
        verbs: vec!["patch".into()],
    }
}

fn names(list: Option<&Value>) -> impl Iterator<Item = &str> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}
