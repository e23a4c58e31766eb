//! Kubernetes objects: reading them, changing them in place, restarting what has loaded them.
//!
//! Objects are plain JSON here. Every write carries the version that was read, so nobody's change is overwritten, and
//! is announced at the gate before it is made.

mod annotate;
mod apply;
pub mod args;
pub mod budget;
mod channels;
pub mod client;
mod config_map;
pub mod connect;
pub mod content;
mod create_secret;
pub mod data;
mod delete;
pub(crate) mod delete_secret;
pub mod discovery;
pub mod errors;
mod exec;
pub(crate) mod field;
mod fields;
pub mod forward;
mod get;
pub mod kinds;
mod managers;
pub mod marker;
pub mod object;
pub mod owned;
pub mod owner;
pub mod partition;
mod patch;
mod patch_secret;
pub mod patience;
pub mod pod;
mod recreate_pods;
mod replace_secret;
pub mod restart;
pub mod rollout;
pub(crate) mod sealed;
pub mod secret;
mod wait;
mod watch;
pub mod why;

use crate::registry::{Kind, Param, Primitive, Type};

const NAMESPACE: Param = param("namespace", Type::Text, "Namespace of the object.");
const NAME: Param = param("name", Type::Text, "Name of the object.");

/// A parameter that must be given.
pub(crate) const fn param(name: &'static str, ty: Type, doc: &'static str) -> Param {
    Param { name, ty, optional: false, doc }
}

/// The primitives of this namespace.
pub const PRIMITIVES: &[Primitive] = &[
    Primitive {
        name: "k8s::secret",
        kind: Kind::Read,
        params: &[NAMESPACE, NAME],
        returns: "`{namespace, name, type, uid, keys, immutable, \"tls.crt\": PEM, \"tls.key\": secret, \"ca.crt\": PEM, fingerprint, ca_fingerprints, warnings}`",
        doc: "Reads a TLS Secret and checks it: all three keys are there, and the private key belongs to the certificate.\n\nFails with `not-found` when the Secret or a key is missing, `invalid` when the key does not match the certificate or the PEM text is malformed, `forbidden` with the RBAC rule to add.",
        example: "let s = k8s::secret(\"tidb\", \"basic-pd-cluster-secret\");",
        run: |world, args, gate| Box::pin(secret::read(world, args, gate)),
        restore: None,
        forecast: None,
        touches: |args| {
            vec![object::touch("v1", "Secret", args::hint(args, 0, ""), args::hint(args, 1, ""), &["get"])]
        },
    },
    Primitive {
        name: "k8s::patch_secret",
        kind: Kind::Change,
        params: &[
            param(
                "secret",
                Type::Map,
                "The Secret, as `k8s::secret` or `tidb::cluster` gave it (`namespace` and `name` are used).",
            ),
            param("data", Type::Map, "Values by key: text, or a secret handle for a private key."),
            Param {
                name: "options",
                ty: Type::Map,
                optional: true,
                doc: "`immutable`: `refuse` (as it is when left out), or `replace`: an immutable Secret is deleted and made again with the new data.",
            },
        ],
        returns: "`{namespace, name, uid, changed, fingerprint, warnings}`",
        doc: "Sets keys of a Secret in one write, and keeps its type, labels, annotations, owners and other keys. What says the same already is left alone.\n\nThe write carries the version that was read; when somebody else wrote in between, it is decided anew. Undone by putting the whole data back, where nobody changed it since. Fails with `invalid` when certificate and key would not fit together, or the Secret is immutable.\n\nWith `immutable: \"replace\"` an immutable one gets a successor of its name, with its type, labels, annotations, owners and finalizers, immutable again: one effect, put back in the same way, and finished by whoever resumes a run that was killed between the two. For that moment there is none: a pod that starts then waits for it. A kubelet never looks at an immutable Secret again, so pods hold the old data until they are replaced.",
        example: "p.change(s.name, k8s::patch_secret(s, #{ \"ca.crt\": both }));",
        run: |world, args, gate| Box::pin(patch_secret::run(world, args, gate)),
        restore: Some(|world, effect, gate| Box::pin(patch_secret::restore(world, effect, gate))),
        forecast: Some(patch_secret::forecast),
        touches: patch_secret::touches,
    },
    Primitive {
        name: "k8s::create_secret",
        kind: Kind::Change,
        params: &[
            NAMESPACE,
            NAME,
            param("data", Type::Map, "Values by key: text, or a secret handle for a private key."),
            Param {
                name: "options",
                ty: Type::Map,
                optional: true,
                doc: "`type`, `Opaque` when left out, e.g. `kubernetes.io/tls`; `labels` and `annotations`: texts by key; `immutable`: true or false.",
            },
        ],
        returns: "`{namespace, name, uid, changed}`",
        doc: "Makes a Secret. One that is there already and says the same is left alone.\n\nUndone by deleting it, where it is still as it was made. Fails with `conflict` where there is another one of its name, and with `invalid` when certificate and key do not fit together.",
        example: "p.change(\"web\", k8s::create_secret(\"shop\", \"web-tls\", #{ \"tls.crt\": leaf.cert, \"tls.key\": leaf.key, \"ca.crt\": ca.cert }, #{ type: \"kubernetes.io/tls\", labels: #{ app: \"web\" } }));",
        run: |world, args, gate| Box::pin(create_secret::run(world, args, gate)),
        restore: Some(|world, effect, gate| Box::pin(create_secret::restore(world, effect, gate))),
        forecast: None,
        touches: |args| {
            let (namespace, name) = (args::hint(args, 0, ""), args::hint(args, 1, ""));
            vec![
                object::touch("v1", "Secret", namespace, name, &["get", "delete"]),
                object::touch("v1", "Secret", namespace, "", &["create"]),
            ]
        },
    },
    Primitive {
        name: "k8s::get",
        kind: Kind::Read,
        params: &[
            param("api_version", Type::Text, "e.g. `v1`, `apps/v1`."),
            param("kind", Type::Text, "e.g. `Deployment`."),
            param("namespace", Type::Text, "Namespace; empty for a cluster-scoped object."),
            NAME,
        ],
        returns: "the object as the API server gives it; of a Secret's data only certificates, and fingerprints of the rest",
        doc: "Reads any object.\n\nFails with `not-found`, or with `forbidden` and the RBAC rule to add.",
        example: "let d = k8s::get(\"apps/v1\", \"Deployment\", \"tidb\", \"basic-client\");",
        run: |world, args, gate| Box::pin(get::run(world, args, gate)),
        restore: None,
        forecast: None,
        touches: |args| {
            let hint = |n| args::hint(args, n, "");
            vec![object::touch(hint(0), hint(1), hint(2), hint(3), &["get"])]
        },
    },
    Primitive {
        name: "k8s::list",
        kind: Kind::Read,
        params: &[
            param("api_version", Type::Text, "e.g. `v1`, `apps/v1`."),
            param("kind", Type::Text, "e.g. `Secret`."),
            param("namespace", Type::Text, "Namespace; empty for all of them, and for what has none."),
            Param {
                name: "options",
                ty: Type::Map,
                optional: true,
                doc: "`labels` and `fields`: selectors, e.g. `app=db,tier!=test` and `metadata.name=a`.",
            },
        ],
        returns: "the objects, each as `k8s::get` gives it",
        doc: "Reads all objects of a kind, or those that the selectors find.\n\nFails with `forbidden` and the RBAC rule to add, and with `not-found` where the server has no such kind.",
        example: "let secrets = k8s::list(\"v1\", \"Secret\", \"tidb\", #{ labels: \"app=db\" });",
        run: |world, args, gate| Box::pin(get::list(world, args, gate)),
        restore: None,
        forecast: None,
        touches: |args| {
            let hint = |n| args::hint(args, n, "");
            vec![object::touch(hint(0), hint(1), hint(2), "", &["list"])]
        },
    },
    Primitive {
        name: "k8s::config_map",
        kind: Kind::Change,
        params: &[NAMESPACE, NAME, param("data", Type::Map, "Texts by key.")],
        returns: "`{namespace, name, uid, changed, warnings}`",
        doc: "Sets keys of a ConfigMap, which is made where there is none.\n\nUndone by putting the data back, or deleting what was made, where nobody changed it since.",
        example: "p.change(\"roots\", k8s::config_map(\"tidb\", \"roots\", #{ \"ca.crt\": both }));",
        run: |world, args, gate| Box::pin(config_map::run(world, args, gate)),
        restore: Some(|world, effect, gate| Box::pin(patch_secret::restore(world, effect, gate))),
        forecast: None,
        touches: |args| {
            let (namespace, name) = (args::hint(args, 0, ""), args::hint(args, 1, ""));
            vec![
                object::touch("v1", "ConfigMap", namespace, name, &["get", "patch", "delete"]),
                object::touch("v1", "ConfigMap", namespace, "", &["create"]),
            ]
        },
    },
    Primitive {
        name: "k8s::annotate",
        kind: Kind::Change,
        params: &[
            param("api_version", Type::Text, "e.g. `v1`, `apps/v1`."),
            param("kind", Type::Text, "e.g. `Deployment`."),
            param("namespace", Type::Text, "Namespace; empty for a cluster-scoped object."),
            NAME,
            param("annotations", Type::Map, "Texts by key; `()` removes one."),
        ],
        returns: "`{changed}`",
        doc: "Sets annotations of an object.\n\nUndone key by key, where nobody changed these keys since.",
        example: "p.change(\"pause\", k8s::annotate(\"v1\", \"Secret\", \"tidb\", \"a\", #{ \"example.com/paused\": \"true\" }));",
        run: |world, args, gate| Box::pin(annotate::run(world, args, gate)),
        restore: Some(|world, effect, gate| Box::pin(patch::restore(world, effect, gate))),
        forecast: None,
        touches: |args| {
            let hint = |n| args::hint(args, n, "");
            vec![object::touch(hint(0), hint(1), hint(2), hint(3), &["get", "patch"])]
        },
    },
    Primitive {
        name: "k8s::patch",
        kind: Kind::Change,
        params: &[
            param("api_version", Type::Text, "e.g. `v1`, `apps/v1`."),
            param("kind", Type::Text, "e.g. `Deployment`; a Secret has `k8s::patch_secret`."),
            param("namespace", Type::Text, "Namespace; empty for a cluster-scoped object."),
            NAME,
            param(
                "patch",
                Type::Any,
                "A map is a merge patch (`()` removes a field); a list is a JSON patch of operations `op`, `path`, `value`.",
            ),
        ],
        returns: "`{changed}`",
        doc: "Changes fields of an object, at the version that was read. The server is asked beforehand, without effect, what would come of it: an admission rule that says no does so before anything is announced.\n\nUndone field by field, where nobody changed them since. Fails with `conflict` where a JSON patch does not fit what is there.",
        example: "p.change(\"pause\", k8s::patch(\"apps/v1\", \"Deployment\", \"tidb\", \"importer\", #{ spec: #{ paused: true } }));",
        run: |world, args, gate| Box::pin(patch::run(world, args, gate)),
        restore: Some(|world, effect, gate| Box::pin(patch::restore(world, effect, gate))),
        forecast: None,
        touches: |args| {
            let hint = |n| args::hint(args, n, "");
            vec![object::touch(hint(0), hint(1), hint(2), hint(3), &["get", "patch"])]
        },
    },
    Primitive {
        name: "k8s::apply",
        kind: Kind::Change,
        params: &[
            param(
                "object",
                Type::Map,
                "The object as its manifest has it: `apiVersion`, `kind`, `metadata` with name and namespace, and what it shall have.",
            ),
            Param {
                name: "options",
                ty: Type::Map,
                optional: true,
                doc: "`force`: true takes over fields that another manager owns; without it they are a `conflict`.",
            },
        ],
        returns: "`{changed}`",
        doc: "Makes an object, or its fields, as a manifest has them: server-side apply under the manager `rollover`, asked beforehand without effect. Other fields are left alone.\n\nUndone field by field, where nobody changed them since; an object that was not there is deleted.",
        example: "p.change(\"limits\", k8s::apply(#{ apiVersion: \"v1\", kind: \"ConfigMap\", metadata: #{ namespace: \"tidb\", name: \"limits\" }, data: #{ most: \"3\" } }));",
        run: |world, args, gate| Box::pin(apply::run(world, args, gate)),
        restore: Some(|world, effect, gate| Box::pin(apply::restore(world, effect, gate))),
        forecast: None,
        touches: |args| {
            let object = args.first().map_or_else(|| apply::named(&serde_json::Value::Null), apply::named);
            let all = object::touch(&object.api_version, &object.kind, &object.namespace, "", &["create"]);
            vec![object.touch(&["get", "patch", "delete"]), all]
        },
    },
    Primitive {
        name: "k8s::delete_secret",
        kind: Kind::Change,
        params: &[
            param("secret", Type::Map, "The Secret: `namespace` and `name` are used."),
            Param {
                name: "options",
                ty: Type::Map,
                optional: true,
                doc: "`propagation`: what becomes of its dependents, `background` (as it is when left out), `foreground` or `orphan`.",
            },
        ],
        returns: "`{namespace, name, deleted: uid or nothing}`",
        doc: "Deletes a Secret, this very one and at the version that was read, and waits until it has gone. One that is not there is done; so is one that somebody has made again since this step deleted it.\n\nUndone by making it again with its data, type, labels, annotations, owners and finalizers. Fails with `conflict` on the way back where somebody else has made it again.",
        example: "p.change(s.name, k8s::delete_secret(s));",
        run: |world, args, gate| Box::pin(delete_secret::run(world, args, gate)),
        restore: Some(|world, effect, gate| Box::pin(delete_secret::restore(world, effect, gate))),
        forecast: None,
        touches: |args| {
            let (namespace, name) = (args::hint(args, 0, "namespace"), args::hint(args, 0, "name"));
            vec![
                object::touch("v1", "Secret", namespace, name, &["get", "delete"]),
                object::touch("v1", "Secret", namespace, "", &["create"]),
            ]
        },
    },
    Primitive {
        name: "k8s::delete",
        kind: Kind::Change,
        params: &[
            param("api_version", Type::Text, "e.g. `v1`, `apps/v1`."),
            param("kind", Type::Text, "e.g. `Deployment`; a Secret has `k8s::delete_secret`."),
            param("namespace", Type::Text, "Namespace; empty for a cluster-scoped object."),
            NAME,
            Param {
                name: "options",
                ty: Type::Map,
                optional: true,
                doc: "`propagation`: what becomes of its dependents, `background` (as it is when left out), `foreground` or `orphan`; `force`: for a pod alone, true for a grace period of 0, `stateful` where it is one of a StatefulSet; `wait`: false goes on before it has gone.",
            },
        ],
        returns: "`{namespace, name, deleted: uid or nothing}`",
        doc: "Deletes an object, this very one and at the version that was read, and waits until it has gone, which its finalizers may hold up. One that is not there is done; so is one that somebody has made again since this step deleted it.\n\nUndone by making it again, with a new uid and without its status; not its dependents, which its controllers make: `orphan` keeps those that nobody would. What a controller keeps is made again by that, and not put back. Force has the server forget a pod while its processes may still run: never for a member of a database whose node still lives.\n\nFails with `argument` for a Namespace, a CustomResourceDefinition, a PersistentVolume or its claim, since what goes with them could not be made again, with `refused` for a StatefulSet whose claims go with it or a pod of one by force, and with `conflict` on the way back where somebody else has made it again.",
        example: "p.change(\"old policy\", k8s::delete(\"networking.k8s.io/v1\", \"NetworkPolicy\", \"tidb\", \"allow-old-ca\", #{ propagation: \"orphan\" }));",
        run: |world, args, gate| Box::pin(delete::run(world, args, gate)),
        restore: Some(|world, effect, gate| Box::pin(delete::restore(world, effect, gate))),
        forecast: None,
        touches: |args| {
            let hint = |n| args::hint(args, n, "");
            vec![
                object::touch(hint(0), hint(1), hint(2), hint(3), &["get", "delete"]),
                object::touch(hint(0), hint(1), hint(2), "", &["create"]),
            ]
        },
    },
    Primitive {
        name: "k8s::recreate_pods",
        kind: Kind::Settle,
        params: &[
            param(
                "workloads",
                Type::List,
                "StatefulSets whose pods go together: `{namespace, name, selector, replicas}` of each, as `tidb::cluster` gives its components.",
            ),
            Param {
                name: "options",
                ty: Type::Map,
                optional: true,
                doc: "`force`: true for a grace period of 0, where a node has gone and never confirms; two pods of one name may then run.",
            },
        ],
        returns: "`{pods, marker}`",
        doc: "Deletes all pods of some StatefulSets at once, and waits until as many successors are ready: for what a rolling restart cannot do, since old and new pods refuse each other. It is an outage, and does not ask PodDisruptionBudgets.\n\nA pod is theirs where its StatefulSet has made it, or, where there is none of that name, TiDB operator by objects of its own: what a selector finds of others is left alone. Each pod is deleted by its uid, so none is deleted twice. Fails with `unproved` when a successor does not start or become ready, judged as in a restart.",
        example: "p.settle(\"all pods\", k8s::recreate_pods(tidb.components));",
        run: |world, args, gate| Box::pin(recreate_pods::run(world, args, gate)),
        restore: None,
        forecast: None,
        touches: |args| {
            let list = args.first().and_then(serde_json::Value::as_array);
            let mut namespaces: Vec<&str> =
                list.into_iter().flatten().map(|set| object::text(set, &["namespace"])).collect();
            namespaces.sort_unstable();
            namespaces.dedup();
            if namespaces.is_empty() {
                namespaces.push("");
            }
            let (version, kind) = recreate_pods::SET;
            let touches = |ns: &&str| {
                [
                    object::touch("v1", "Pod", ns, "", &["list", "get", "delete"]),
                    object::touch(version, kind, ns, "", &["get"]),
                ]
            };
            namespaces.iter().flat_map(touches).collect()
        },
    },
    Primitive {
        name: "k8s::exec",
        kind: Kind::Prove,
        params: &[
            param(
                "pod",
                Type::Map,
                "`{namespace, name}` of a pod, or `{namespace, selector}` for every ready pod that the selector finds when the step runs, as `tidb::cluster` gives its components.",
            ),
            param("container", Type::Text, "The container; empty for the pod's only one."),
            param(
                "command",
                Type::List,
                "The program and its arguments. There is no shell: where one is wanted, it is the program.",
            ),
            Param {
                name: "options",
                ty: Type::Map,
                optional: true,
                doc: "`stdin`: a text or a secret handle for it to read, at most 1 MiB; `within`: how long it may take, `30s` when left out; `exit`: the exit code that it must end with, 0 when left out; `stdout`: a text that it must print.",
            },
        ],
        returns: "`{pods: [{pod, exit, stdout, stderr, cut}]}`; of what is printed the first 8 KiB are kept, `cut` says that there was more",
        doc: "Runs a command in a container and judges how it ended: for what only the inside of a pod shows. It must only look: what it does is not announced and cannot be taken back, and it is run again when the step is.\n\nSecrets go in by `stdin` alone, never among the arguments, which are part of the record; where the command prints one, nothing of it is kept. Servers before 1.30 cannot tell a command that its input has ended. Fails with `unproved` when it ends otherwise or does not print what it must, with `timeout`, and with `forbidden` and the RBAC rule to add.",
        example: "p.prove(\"the new CA is in the pods\", k8s::exec(c, c.component, [\"grep\", \"-c\", \"BEGIN CERTIFICATE\", \"/var/lib/pd-tls/ca.crt\"], #{ stdout: \"2\" }));",
        run: |world, args, gate| Box::pin(exec::run(world, args, gate)),
        restore: None,
        forecast: None,
        touches: exec::touches,
    },
    Primitive {
        name: "k8s::wait",
        kind: Kind::Prove,
        params: &[
            param("api_version", Type::Text, "e.g. `v1`, `apps/v1`."),
            param("kind", Type::Text, "e.g. `Certificate`."),
            param("namespace", Type::Text, "Namespace; empty for all of them, and for what has none."),
            param(
                "options",
                Type::Map,
                "Which objects: `name`, or `labels` and `fields`, selectors. What each of them shall have: `condition` with `status` (`True` when left out), or `field`, a path such as `status.phase`, with `value` (any when left out); neither: to be there. `count`: how many there must be at least, 1 when left out; `within`: how long it may take, `10m` when left out.",
            ),
        ],
        returns: "`{objects: [name]}`",
        doc: "Waits until objects are as they shall be, by a watch: it asks once, and is told what changes. A watch that is cut goes on where it was; where the server has forgotten that moment, it asks anew.\n\nA condition counts once its controller has looked at the object as it is now. Fails with `unproved` when it takes too long, and with `forbidden` and the RBAC rule to add: it needs `list` and `watch`.",
        example: "p.prove(\"issued\", k8s::wait(\"cert-manager.io/v1\", \"Certificate\", \"tidb\", #{ labels: \"app=db\", condition: \"Ready\", within: \"5m\" }));",
        run: |world, args, gate| Box::pin(wait::run(world, args, gate)),
        restore: None,
        forecast: None,
        touches: wait::touches,
    },
    Primitive {
        name: "k8s::managers",
        kind: Kind::Read,
        params: &[
            param(
                "objects",
                Type::List,
                "The objects, each `{namespace, name}` with `api_version` and `kind` where it is no Secret; `content: false` where a run leaves only markers on it.",
            ),
            Param {
                name: "options",
                ty: Type::Map,
                optional: true,
                doc: "`argocd_namespace`: where Argo CD's Applications lie, `argocd` when left out.",
            },
        ],
        returns: "`{managers, others}`; each manager `{api_version, kind, namespace, name, title, keeps}` as `k8s::pause` takes it; `others` says of which objects the manager cannot be paused, and why",
        doc: "Finds the Applications of Argo CD and the Kustomizations and HelmReleases of Flux that keep some objects, by what these say in labels and annotations.\n\nFails with `not-found`, or with `forbidden` and the RBAC rule to add.",
        example: "let found = k8s::managers([#{ namespace: \"tidb\", name: \"basic-pd-cluster-secret\" }]);",
        run: |world, args, gate| Box::pin(managers::find(world, args, gate)),
        restore: None,
        forecast: None,
        touches: managers::find_touches,
    },
    Primitive {
        name: "k8s::tracked",
        kind: Kind::Read,
        params: &[
            param(
                "objects",
                Type::List,
                "The objects, as the field `labelled` of `tidb::cluster`, `tidb::sql` and `certmanager::certificates` has them: each `{api_version, kind, namespace, name, instance}`, where `instance` is its label `app.kubernetes.io/instance`.",
            ),
            Param {
                name: "options",
                ty: Type::Map,
                optional: true,
                doc: "`argocd_namespace`: where Argo CD's Applications lie, `argocd` when left out.",
            },
        ],
        returns: "`{managed, unread, applications}`; `managed` says of which objects an Application would put its own version back, `unread` of which that is not known since the Application may not be read; `applications` are those that were found",
        doc: "Asks Argo CD about objects that have a label by which it may know them, as it does before 3.0 unless told otherwise, and which Helm and operators set too: an object is Argo CD's where the Application of that name lists it. Each Application is read once; where the server has no such kind, nothing more is asked.",
        example: "let seen = k8s::tracked(cluster.labelled);",
        run: |world, args, gate| Box::pin(managers::tracked(world, args, gate)),
        restore: None,
        forecast: None,
        touches: managers::tracked_touches,
    },
    Primitive {
        name: "k8s::pause",
        kind: Kind::Change,
        params: &[param("manager", Type::Map, "A manager, as `k8s::managers` gives it.")],
        returns: "`{paused, was}`, for `k8s::resume`; `paused` is false where somebody else had paused it before",
        doc: "Pauses a manager: takes an Application's policy of automated sync away, or suspends a Kustomization or HelmRelease; then waits until what it was at has ended.\n\nUndone by putting that field back as it was.",
        example: "let paused = p.change(m.title, k8s::pause(m));",
        run: |world, args, gate| Box::pin(managers::pause(world, args, gate)),
        restore: Some(|world, effect, gate| Box::pin(managers::restore(world, effect, gate))),
        forecast: None,
        touches: |args| {
            let hint = |field| args::hint(args, 0, field);
            let manager = (hint("api_version"), hint("kind"), hint("namespace"), hint("name"));
            vec![object::touch(manager.0, manager.1, manager.2, manager.3, &["get", "patch"])]
        },
    },
    Primitive {
        name: "k8s::resume",
        kind: Kind::Change,
        params: &[
            param("manager", Type::Map, "The manager that was paused, as `k8s::managers` gives it."),
            param("paused", Type::Map, "What `k8s::pause` returned."),
        ],
        returns: "`{resumed}`; false where it had not been paused by this run, or somebody has let it go on meanwhile",
        doc: "Lets a manager go on exactly as before, once it is proved that it leaves what this run has written; then waits until it has looked, and checks that it has.\n\nUndone by pausing it again. Fails with `owed` where that is not proved, and leaves it paused: the text says what to do; tried again, it looks again. Fails with `conflict` where an object does not hold any more what this run wrote.",
        example: "p.change(m.title, k8s::resume(m, paused));",
        run: |world, args, gate| Box::pin(managers::resume(world, args, gate)),
        restore: Some(|world, effect, gate| Box::pin(managers::restore(world, effect, gate))),
        forecast: None,
        touches: managers::resume_touches,
    },
    Primitive {
        name: "k8s::rollout_restart",
        kind: Kind::Settle,
        params: &[
            param(
                "workload",
                Type::Map,
                "`{kind, namespace, name}` of a Deployment, StatefulSet or DaemonSet.",
            ),
            Param {
                name: "options",
                ty: Type::Map,
                optional: true,
                doc: "`budgets`: `respect` (as it is when left out) or `ignore`, of PodDisruptionBudgets; `partition`: `refuse` (as it is when left out) or `lower`, of a StatefulSet's update partition.",
            },
        ],
        returns: "`{marker}`",
        doc: "Restarts a workload by a marker in its pod template that is unique to run and phase, and waits until no old pod lives and every new one is ready. It begins when the PodDisruptionBudgets of its pods let one be missing; where the update strategy is `OnDelete`, it evicts the pods one by one. A partition that keeps pods of a StatefulSet back is refused before anything is written, or with `lower` 0 as long as the restart takes and then as it was.\n\nA pod is the workload's own where its selector finds it and its controller made it; no other is counted or evicted.

Fails with `refused` when a budget never lets a pod be missing, with `invalid` when its selector would find every pod of the namespace, and with `unproved` when the rollout cannot finish by itself: paused, given up by its controller, a pod that was started in vain five times, or one that for ten minutes does not begin or become ready.",
        example: "p.settle(\"client\", k8s::rollout_restart(#{ kind: \"deployment\", namespace: \"tidb\", name: \"basic-client\" }));",
        run: |world, args, gate| Box::pin(restart::run(world, args, gate)),
        restore: None,
        forecast: None,
        touches: |args| {
            let kind = match args::hint(args, 0, "kind") {
                "statefulset" | "StatefulSet" => "StatefulSet",
                "daemonset" | "DaemonSet" => "DaemonSet",
                _ => "Deployment",
            };
            let (namespace, name) = (args::hint(args, 0, "namespace"), args::hint(args, 0, "name"));
            restart::touches(kind, namespace, name)
        },
    },
];
