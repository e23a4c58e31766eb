//! `certmanager::certificates`: who keeps the Secrets of a cluster, and who signs what lies in them.

use serde_json::{Value, json};

use crate::error::{Code, PrimError};
use crate::gate::Gate;
use crate::k8s::client::Objects;
use crate::k8s::object::{Ref, text};
use crate::k8s::{args, owner};
use crate::world::World;

use super::state::State;
use super::{API_VERSION, names};

/// `certmanager::certificates(namespace, secrets)`.
pub(super) async fn run(world: &World, args: &[Value], _gate: &dyn Gate) -> Result<Value, PrimError> {
    let namespace = args::text(args, 0, "namespace")?;
    let objects = Objects::of(world)?;
    let all = objects.list(API_VERSION, "Certificate", namespace, "").await.map_err(|error| {
        if error.code == Code::NotFound {
            return PrimError::new(
                Code::NoTarget,
                "this cluster has no Certificates: cert-manager is not installed",
            )
            .on(format!("namespace {namespace}"))
            .hint("where a person keeps the Secrets with cfssl, it is `tidb/cfssl-rotate`");
        }
        error
    })?;
    let wanted: Vec<&str> = names(args.get(1)).collect();
    let (mut found, mut warnings, mut managed) = (Vec::new(), Vec::new(), Vec::new());
    let mut issuers: Vec<(String, String)> = Vec::new();
    for secret in &wanted {
        let certificate = keeper(&all, namespace, secret)?;
        let state = settled(world, &objects, certificate).await?;
        let issuer = issuer_of(certificate);
        if !issuers.contains(&issuer) {
            issuers.push(issuer);
        }
        managed.extend(warning(&state));
        found.push(state);
    }
    let [(kind, name)] = issuers.as_slice() else {
        let said: Vec<String> = issuers.iter().map(|(kind, name)| format!("{kind} `{name}`")).collect();
        return Err(PrimError::invalid("its Certificates do not have one issuer")
            .on(format!("namespace {namespace}"))
            .expected("one issuer for all of a cluster's Secrets", said.join(", ")));
    };
    let ca = authority(world, &objects, &all, namespace, (kind, name)).await?;
    if let Some(ca) = &ca {
        managed.extend(warning(ca));
        let others = all.iter().filter(|c| issuer_of(c) == (kind.clone(), name.clone()));
        for other in others.filter(|c| !wanted.contains(&text(c, &["spec", "secretName"]))) {
            warnings.push(format!(
                "Certificate {namespace}/{} has the same issuer and is no part of this: whoever trusts its CA must be given a new one too",
                text(other, &["metadata", "name"])
            ));
        }
    }
    let certificates = found.iter().map(told).collect::<Result<Vec<_>, _>>()?;
    Ok(json!({
        "issuer": { "kind": kind, "name": name },
        "ca": ca.as_ref().map(told).transpose()?,
        "certificates": certificates,
        "managed": managed,
        "labelled": owner::labelled(found.iter().chain(&ca).map(|state| (state.object.clone(), &state.certificate))),
        "warnings": warnings,
    }))
}

/// The Certificate as facts tell of it, with what lies in its Secret.
fn told(state: &State) -> Result<Value, PrimError> {
    let pair = state.pair()?;
    let leaf = state.chained(&pair, None)?;
    let mut fact = state.fact();
    if let Some(fields) = fact.as_object_mut() {
        fields.insert("cert".into(), leaf.pem().into());
        fields.insert("fingerprint".into(), leaf.fingerprint().into());
    }
    Ok(fact)
}

/// The one Certificate that a Secret belongs to.
fn keeper<'a>(all: &'a [Value], namespace: &str, secret: &str) -> Result<&'a Value, PrimError> {
    let mut keepers = all.iter().filter(|c| text(c, &["spec", "secretName"]) == secret);
    match (keepers.next(), keepers.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(PrimError::invalid("no Certificate of cert-manager keeps this Secret")
            .on(Ref::secret(namespace, secret).to_string())
            .hint("where a person keeps it with cfssl, it is `tidb/cfssl-rotate`")),
        (Some(_), Some(_)) => {
            Err(PrimError::invalid("several Certificates claim this Secret, and overwrite each other's")
                .on(Ref::secret(namespace, secret).to_string())
                .hint("give all but one another `spec.secretName`"))
        }
    }
}

fn issuer_of(certificate: &Value) -> (String, String) {
    let kind = match text(certificate, &["spec", "issuerRef", "kind"]) {
        "" => "Issuer",
        kind => kind,
    };
    (kind.to_owned(), text(certificate, &["spec", "issuerRef", "name"]).to_owned())
}

/// The Certificate of the CA that an issuer signs with; nothing where it cannot be replaced through cert-manager, or is
/// used beyond this namespace.
async fn authority(
    world: &World,
    objects: &Objects<'_>,
    all: &[Value],
    namespace: &str,
    (kind, name): (&str, &str),
) -> Result<Option<State>, PrimError> {
    if kind != "Issuer" {
        return Ok(None);
    }
    let issuer = objects.get(&Ref::new(API_VERSION, "Issuer", namespace, name)).await?;
    let secret = text(&issuer, &["spec", "ca", "secretName"]);
    let certificate = all.iter().find(|c| !secret.is_empty() && text(c, &["spec", "secretName"]) == secret);
    match certificate {
        Some(certificate) => settled(world, objects, certificate).await.map(Some),
        None => Ok(None),
    }
}

async fn settled(world: &World, objects: &Objects<'_>, certificate: &Value) -> Result<State, PrimError> {
    let metadata = |field: &str| text(certificate, &["metadata", field]);
    let object = Ref::new(API_VERSION, "Certificate", metadata("namespace"), metadata("name"));
    let state = State::read(world, objects, &object).await?;
    match state.open() {
        None => Ok(state),
        Some(why) => Err(PrimError::new(Code::Unproved, why).on(object.to_string()).hint(format!(
            "wait until it is, or repair it first: `kubectl --namespace {} describe certificate {}`",
            object.namespace, object.name
        ))),
    }
}

/// Who else would put their own version of the Certificate back.
fn warning(state: &State) -> Option<String> {
    owner::warning(&state.object, &state.certificate).filter(|_| owner::reconciled(&state.certificate))
}
