//! One run a target: the Lease, and the mark that outlives it (law 7).
//!
//! The Lease keeps two runs from working at the same time; it ends by itself when its holder dies. The mark, an
//! annotation on the target, says that a run is unfinished, so that after a crash only that run goes on. Both are written
//! for the version that was read. Every taking has a token of its own: a holder that slept through its Lease finds another
//! token there, and stops.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use crate::error::{Code, PrimError};
use crate::k8s::client::Objects;
use crate::k8s::object::{Ref, at, number, text};
use crate::registry::Touch;
use crate::world::World;

/// The annotation on the target.
pub const MARK: &str = "rollover.dev/run";
/// How long a Lease lasts without renewal.
pub const DURATION: Duration = Duration::from_secs(30);
/// How often it is renewed.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// By how much clocks may differ before an expired Lease is taken for one.
const SKEW: Duration = Duration::from_secs(5);
const ROUNDS: usize = 6;

/// What is locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The object that carries the mark.
    pub object: Ref,
    /// Its uid; a re-created object is another target.
    pub uid: String,
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub lease: String,
}

/// Who locks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Id of the run.
    pub run: String,
    /// The machine.
    pub host: String,
    /// The person.
    pub user: String,
}

/// The mark, as it stands in the annotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Id of the run.
    pub run: String,
    /// When it took the target first.
    pub since: String,
    /// The step that it was at.
    #[serde(default)]
    pub step: String,
    /// The head of its record.
    #[serde(default)]
    pub head: Value,
    /// The machine.
    #[serde(default)]
    pub host: String,
    /// The person.
    #[serde(default)]
    pub user: String,
    /// The token of the taking.
    #[serde(default)]
    pub token: String,
}

/// A lock that is held.
#[derive(Clone)]
pub struct Held {
    world: World,
    target: Target,
    holder: Holder,
    token: String,
    since: String,
}

/// What taking, renewing and releasing needs.
pub fn touches(target: &Target) -> Vec<Touch> {
    let lease = lease_ref(target);
    vec![
        target.object.touch(&["get", "patch"]),
        lease.touch(&["get", "patch", "delete"]),
        Ref::new(&lease.api_version, &lease.kind, &target.namespace, "").touch(&["create"]),
    ]
}

/// The mark on a target, if there is one.
///
/// # Errors
/// The target cannot be read.
pub async fn mark(world: &World, object: &Ref) -> Result<Option<Mark>, PrimError> {
    let objects = Objects::of(world)?;
    Ok(objects.find(object).await?.as_ref().and_then(mark_of))
}

/// Takes the Lease and sets the mark. The run that left the mark may take it again.
///
/// # Errors
/// [`Code::Locked`], with the holder, since when and at which step; [`Code::NoTarget`] when the target is gone or
/// another object has its name.
pub async fn acquire(world: &World, target: &Target, holder: &Holder) -> Result<Held, PrimError> {
    let objects = lock_objects(world)?;
    let value = find_target(&objects, target).await?;
    let mark = mark_of(&value);
    if let Some(mark) = mark.as_ref().filter(|mark| mark.run != holder.run) {
        return Err(unfinished(target, mark));
    }
    let token = format!("{:016x}", rand::random::<u64>());
    let since = mark.map_or_else(|| seconds(world.clock.now()), |mark| mark.since);
    let held = Held { world: world.clone(), target: target.clone(), holder: holder.clone(), token, since };
    held.take_lease(&objects).await?;
    if let Err(error) = held.write_mark(&objects, true, "", &Value::Null).await {
        // Somebody else's mark came first: our Lease must not keep its owner out.
        let _ = held.drop_lease(&objects).await;
        return Err(error);
    }
    Ok(held)
}

/// Clears a run's mark without its lock, for `abort --leave-mixed` and the like.
///
/// # Errors
/// Another run's mark is there, or the target cannot be written.
pub async fn clear(world: &World, object: &Ref, run: &str) -> Result<(), PrimError> {
    let objects = lock_objects(world)?;
    for _ in 0..ROUNDS {
        let Some(value) = objects.find(object).await? else { return Ok(()) };
        let Some(mark) = mark_of(&value) else { return Ok(()) };
        if mark.run != run {
            return Err(locked(object, &mark));
        }
        match objects.merge(object, version(&value), annotation(&Value::Null)).await {
            Err(error) if error.code == Code::Conflict => {}
            other => return other.map(|_| ()),
        }
    }
    Err(busy(object))
}

/// Clears what a run that is over has left on its target because it died between its last record and letting go: the
/// mark and the Lease. What is another run's stays.
///
/// # Errors
/// The target or the Lease cannot be read or written.
pub async fn forget(world: &World, target: &Target, run: &str) -> Result<(), PrimError> {
    match clear(world, &target.object, run).await {
        Err(error) if error.code == Code::Locked => return Ok(()),
        other => other?,
    }
    let objects = lock_objects(world)?;
    remove_lease(&objects, target, |identity| identity.starts_with(&format!("{run}@"))).await
}

/// Deletes the Lease of whoever is meant.
async fn remove_lease(
    objects: &Objects<'_>,
    target: &Target,
    ours: impl Fn(&str) -> bool,
) -> Result<(), PrimError> {
    let lease = lease_ref(target);
    for _ in 0..ROUNDS {
        let Some(value) = objects.find(&lease).await? else { return Ok(()) };
        if !ours(text(&value, &["spec", "holderIdentity"])) {
            return Ok(());
        }
        match objects.delete(&lease, text(&value, &["metadata", "uid"]), version(&value)).await {
            Err(error) if error.code == Code::Conflict => {}
            other => return other,
        }
    }
    Err(busy(&lease))
}

impl Held {
    /// Renews the Lease.
    ///
    /// # Errors
    /// [`Code::Locked`] when somebody else has it now; [`Code::Unavailable`] when the server does not answer.
    pub async fn renew(&self) -> Result<(), PrimError> {
        let objects = lock_objects(&self.world)?;
        let lease = lease_ref(&self.target);
        for _ in 0..ROUNDS {
            let value = objects.find(&lease).await?.ok_or_else(|| self.lost("the Lease is gone"))?;
            if text(&value, &["spec", "holderIdentity"]) != self.identity() {
                return Err(self
                    .lost(&format!("`{}` holds the Lease now", text(&value, &["spec", "holderIdentity"]))));
            }
            let patch = json!({ "spec": { "renewTime": micros(self.world.clock.now()) } });
            match objects.merge(&lease, version(&value), patch).await {
                Err(error) if error.code == Code::Conflict => {}
                other => return other.map(|_| ()),
            }
        }
        Err(busy(&lease))
    }

    /// Writes step and head of the record into the mark.
    ///
    /// # Errors
    /// [`Code::Locked`] when the mark is another's, or the target cannot be written.
    pub async fn note(&self, step: &str, head: &Value) -> Result<(), PrimError> {
        self.write_mark(&lock_objects(&self.world)?, false, step, head).await
    }

    /// Lets go of the Lease, after clearing the mark where nothing is left unfinished.
    ///
    /// # Errors
    /// The target or the Lease cannot be written.
    pub async fn release(&self, clear_mark: bool) -> Result<(), PrimError> {
        let objects = lock_objects(&self.world)?;
        if clear_mark {
            clear(&self.world, &self.target.object, &self.holder.run).await?;
        }
        self.drop_lease(&objects).await
    }

    fn identity(&self) -> String {
        format!("{}@{}/{}", self.holder.run, self.holder.host, self.token)
    }

    async fn take_lease(&self, objects: &Objects<'_>) -> Result<(), PrimError> {
        let lease = lease_ref(&self.target);
        for _ in 0..ROUNDS {
            let now = self.world.clock.now();
            let spec = json!({
                "holderIdentity": self.identity(),
                "leaseDurationSeconds": DURATION.as_secs(),
                "acquireTime": micros(now),
                "renewTime": micros(now),
            });
            let written = match objects.find(&lease).await? {
                None => {
                    let body = json!({
                        "apiVersion": lease.api_version,
                        "kind": lease.kind,
                        "metadata": { "name": lease.name, "namespace": lease.namespace },
                        "spec": spec,
                    });
                    objects.create(&lease, &body).await
                }
                Some(value) => {
                    self.may_take(&value, now)?;
                    let transitions = number(&value, &["spec", "leaseTransitions"]) + 1;
                    let mut patch = json!({ "spec": spec });
                    if let Some(spec) = patch.get_mut("spec").and_then(Value::as_object_mut) {
                        spec.insert("leaseTransitions".into(), transitions.into());
                    }
                    objects.merge(&lease, version(&value), patch).await
                }
            };
            match written {
                Err(error) if error.code == Code::Conflict => {}
                other => return other.map(|_| ()),
            }
        }
        Err(busy(&lease))
    }

    /// Whether the Lease may be taken over: it is free, it has ended, or this run held it on this machine, where the
    /// folder of the run keeps a second process out.
    fn may_take(&self, lease: &Value, now: OffsetDateTime) -> Result<(), PrimError> {
        let identity = text(lease, &["spec", "holderIdentity"]);
        let ours = format!("{}@{}/", self.holder.run, self.holder.host);
        if identity.is_empty() || identity.starts_with(&ours) {
            return Ok(());
        }
        let renewed = OffsetDateTime::parse(text(lease, &["spec", "renewTime"]), &Rfc3339);
        let lasts = number(lease, &["spec", "leaseDurationSeconds"]);
        let Ok(renewed) = renewed else { return Ok(()) };
        let ends = renewed + time::Duration::seconds(lasts) + SKEW;
        if now > ends {
            return Ok(());
        }
        let who = identity.split('/').next().unwrap_or(identity);
        Err(PrimError::new(
            Code::Locked,
            format!("run `{who}` holds the Lease, renewed {}", seconds(renewed)),
        )
        .on(self.target.object.to_string())
        .hint(format!("wait until it is done; should it be dead, its Lease ends at {}", seconds(ends))))
    }

    async fn drop_lease(&self, objects: &Objects<'_>) -> Result<(), PrimError> {
        remove_lease(objects, &self.target, |identity| identity == self.identity()).await
    }

    async fn write_mark(
        &self,
        objects: &Objects<'_>,
        taking: bool,
        step: &str,
        head: &Value,
    ) -> Result<(), PrimError> {
        for _ in 0..ROUNDS {
            let value = find_target(objects, &self.target).await?;
            let present = mark_of(&value);
            match &present {
                Some(mark) if mark.run != self.holder.run => return Err(unfinished(&self.target, mark)),
                Some(mark) if !taking && mark.token != self.token => {
                    return Err(self.lost(&format!("run `{}` was resumed on {}", mark.run, mark.host)));
                }
                None if !taking => return Err(self.lost("its mark was removed")),
                _ => {}
            }
            // Taken again, the mark keeps saying where the run had come to.
            let (step, head) = match (&present, taking) {
                (Some(mark), true) => (mark.step.as_str(), &mark.head),
                _ => (step, head),
            };
            let mark = Mark {
                run: self.holder.run.clone(),
                since: self.since.clone(),
                step: step.to_owned(),
                head: head.clone(),
                host: self.holder.host.clone(),
                user: self.holder.user.clone(),
                token: self.token.clone(),
            };
            let written = serde_json::to_string(&mark).map_err(|e| PrimError::internal(e.to_string()))?;
            match objects.merge(&self.target.object, version(&value), annotation(&written.into())).await {
                Err(error) if error.code == Code::Conflict => {}
                other => return other.map(|_| ()),
            }
        }
        Err(busy(&self.target.object))
    }

    fn lost(&self, why: &str) -> PrimError {
        PrimError::new(Code::Locked, format!("this process lost its lock: {why}"))
            .on(self.target.object.to_string())
            .hint(format!("`rollover status {}`", self.holder.run))
    }
}

fn lock_objects(world: &World) -> Result<Objects<'_>, PrimError> {
    // A manager of its own: how long a restart has been going on is read from the times of the other.
    Ok(Objects::of(world)?.managed_by(format!("{}-lock", world.manager)))
}

async fn find_target(objects: &Objects<'_>, target: &Target) -> Result<Value, PrimError> {
    let value = objects.find(&target.object).await?.ok_or_else(|| {
        PrimError::new(Code::NoTarget, "it does not exist any more").on(target.object.to_string())
    })?;
    let uid = text(&value, &["metadata", "uid"]);
    if !target.uid.is_empty() && uid != target.uid {
        return Err(PrimError::new(Code::NoTarget, "it was deleted and made again since the plan was made")
            .on(target.object.to_string())
            .expected(format!("uid {}", target.uid), uid));
    }
    Ok(value)
}

fn lease_ref(target: &Target) -> Ref {
    Ref::new("coordination.k8s.io/v1", "Lease", &target.namespace, &target.lease)
}

fn mark_of(value: &Value) -> Option<Mark> {
    let written = at(value, &["metadata", "annotations", MARK])?.as_str()?;
    // What cannot be read was written by somebody all the same.
    Some(serde_json::from_str(written).unwrap_or_else(|_| Mark {
        run: written.chars().take(64).collect(),
        since: String::new(),
        step: String::new(),
        head: Value::Null,
        host: String::new(),
        user: String::new(),
        token: String::new(),
    }))
}

fn annotation(mark: &Value) -> Value {
    json!({ "metadata": { "annotations": { MARK: mark } } })
}

fn version(value: &Value) -> &str {
    text(value, &["metadata", "resourceVersion"])
}

fn locked(object: &Ref, mark: &Mark) -> PrimError {
    let step = if mark.step.is_empty() { String::new() } else { format!(", at step `{}`", mark.step) };
    PrimError::new(
        Code::Locked,
        format!("run `{}` of {}@{} has it since {}{step}", mark.run, mark.user, mark.host, mark.since),
    )
    .on(object.to_string())
}

fn unfinished(target: &Target, mark: &Mark) -> PrimError {
    locked(&target.object, mark).hint(format!(
        "that run is not finished: `rollover resume {0}`, `rollover rollback {0}` or `rollover abort {0}`, on {1} or with its folder",
        mark.run, mark.host
    ))
}

fn busy(object: &Ref) -> PrimError {
    PrimError::new(Code::Unavailable, "it changes so often that our write always comes late")
        .on(object.to_string())
}

fn micros(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
    at.to_offset(time::UtcOffset::UTC).format(format).unwrap_or_default()
}

fn seconds(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    at.to_offset(time::UtcOffset::UTC).format(format).unwrap_or_default()
}
