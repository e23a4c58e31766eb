//! One run a target: the Lease, and the mark that outlives it (law 7).
//!
//! The Lease keeps two runs from working at the same time; it ends by itself when its holder dies. The mark, an
//! annotation on the target, says that a run is unfinished, so that after a crash only that run goes on. Both are written
//! for the version that was read. Every taking has a token of its own: a holder that slept through its Lease finds another
//! token there, and stops.
//!
//! A Lease fences nothing by itself: a process may be stopped after it was sure of its Lease and before it writes. So it
//! asks ([`Held::holds`]) *after* the read that a write is conditional upon, and whoever takes the Lease from a process
//! that may still live writes every object that the run may change once ([`Held::fence`]): whatever was read before that
//! has another version now.

mod fence;
mod mark;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

use crate::error::{Code, PrimError};
use crate::k8s::client::Objects;
use crate::k8s::object::{Ref, number, text};
use crate::registry::Touch;
use crate::world::World;

pub use self::fence::FENCE;
pub(crate) use self::mark::seconds;
pub(crate) use self::mark::unfinished;
pub use self::mark::{LAST, Last, Leave, MARK, Mark, unfinished_run};
use self::mark::{annotation, busy, locked, mark_of, micros, version};

/// How long a Lease lasts without renewal.
pub const DURATION: Duration = Duration::from_secs(30);
/// How often it is renewed.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// For how long after a renewal a holder is sure that nobody else has the Lease, without asking.
const SURE: Duration = Duration::from_secs(20);
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

/// A lock that is held.
#[derive(Clone)]
pub struct Held {
    world: World,
    target: Target,
    holder: Holder,
    token: String,
    since: String,
    renewed: Arc<Mutex<Renewed>>,
    /// Whom the Lease was taken from, where that process may still live.
    from: Option<String>,
}

/// When the last renewal that succeeded was begun. By two clocks: the one stands still while the machine sleeps, the other
/// may be set back.
#[derive(Debug, Clone, Copy)]
struct Renewed {
    timer: Instant,
    wall: OffsetDateTime,
}

impl Renewed {
    fn now(world: &World) -> Self {
        Self { timer: Instant::now(), wall: world.clock.now() }
    }

    fn age(self, world: &World) -> Duration {
        let wall = Duration::try_from(world.clock.now() - self.wall).unwrap_or_default();
        wall.max(self.timer.elapsed())
    }
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
        return Err(unfinished(&target.object.to_string(), mark));
    }
    let token = format!("{:016x}", rand::random::<u64>());
    let since = mark.map_or_else(|| seconds(world.clock.now()), |mark| mark.since);
    let mut held = Held {
        world: world.clone(),
        target: target.clone(),
        holder: holder.clone(),
        token,
        since,
        renewed: Arc::new(Mutex::new(Renewed::now(world))),
        from: None,
    };
    held.from = held.take_lease(&objects).await?;
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
    clear_leaving(world, object, run, &Leave::Nothing).await
}

async fn clear_leaving(world: &World, object: &Ref, run: &str, leave: &Leave) -> Result<(), PrimError> {
    match remove_mark(&lock_objects(world)?, object, leave, |mark| mark.run == run).await? {
        Some(other) => Err(locked(&object.to_string(), &other)),
        None => Ok(()),
    }
}

/// Removes the mark of whoever is meant; another's is left, and returned.
async fn remove_mark(
    objects: &Objects<'_>,
    object: &Ref,
    leave: &Leave,
    ours: impl Fn(&Mark) -> bool,
) -> Result<Option<Mark>, PrimError> {
    let Some(annotations) = leave.annotations() else { return Ok(None) };
    for _ in 0..ROUNDS {
        let Some(value) = objects.find(object).await? else { return Ok(None) };
        let Some(mark) = mark_of(&value) else { return Ok(None) };
        if !ours(&mark) {
            return Ok(Some(mark));
        }
        match objects.merge(object, version(&value), annotations.clone()).await {
            Err(error) if error.code == Code::Conflict => {}
            other => return other.map(|_| None),
        }
    }
    Err(busy(object))
}

/// Clears what a run that is over has left on its target because it died between its last record and letting go: the
/// mark and the Lease. What is another run's stays.
///
/// # Errors
/// The target or the Lease cannot be read or written.
pub async fn forget(world: &World, target: &Target, last: &Last) -> Result<(), PrimError> {
    let run = &last.run;
    match clear_leaving(world, &target.object, run, &Leave::Last(last.clone())).await {
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
            let begun = Renewed::now(&self.world);
            let value = objects.find(&lease).await?.ok_or_else(|| self.lost("the Lease is gone"))?;
            if text(&value, &["spec", "holderIdentity"]) != self.identity() {
                return Err(self
                    .lost(&format!("`{}` holds the Lease now", text(&value, &["spec", "holderIdentity"]))));
            }
            let patch = json!({ "spec": { "renewTime": micros(begun.wall) } });
            match objects.merge(&lease, version(&value), patch).await {
                Err(error) if error.code == Code::Conflict => {}
                other => {
                    other?;
                    *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = begun;
                    return Ok(());
                }
            }
        }
        Err(busy(&lease))
    }

    /// That nobody else has the Lease. To be asked after the read that a write is conditional upon: whoever takes the
    /// Lease later writes the object first, and the write comes late.
    ///
    /// # Errors
    /// As [`Self::renew`], which is done when the last time was long ago: the process may have been stopped.
    pub async fn holds(&self) -> Result<(), PrimError> {
        let renewed = *self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        if renewed.age(&self.world) < SURE { Ok(()) } else { self.renew().await }
    }

    /// Whom the Lease was taken from, where that process may still live and believe that it has it.
    pub fn taken_from(&self) -> Option<&str> {
        self.from.as_deref()
    }

    /// Writes step and head of the record into the mark.
    ///
    /// # Errors
    /// [`Code::Locked`] when the mark is another's, or the target cannot be written.
    pub async fn note(&self, step: &str, head: &Value) -> Result<(), PrimError> {
        self.write_mark(&lock_objects(&self.world)?, false, step, head).await
    }

    /// Lets go of the Lease, after taking the mark off where nothing is left unfinished.
    ///
    /// # Errors
    /// The target or the Lease cannot be written.
    pub async fn release(&self, leave: &Leave) -> Result<(), PrimError> {
        let objects = lock_objects(&self.world)?;
        // The same run may go on elsewhere by now: then the mark is its, by another token.
        let ours = |mark: &Mark| mark.run == self.holder.run && mark.token == self.token;
        remove_mark(&objects, &self.target.object, leave, ours).await?;
        self.drop_lease(&objects).await
    }

    fn identity(&self) -> String {
        let process = std::process::id();
        format!("{}@{}/{process}-{}", self.holder.run, self.holder.host, self.token)
    }

    /// Takes the Lease. Returns from whom, where that process may still live.
    async fn take_lease(&self, objects: &Objects<'_>) -> Result<Option<String>, PrimError> {
        let lease = lease_ref(&self.target);
        for _ in 0..ROUNDS {
            let begun = Renewed::now(&self.world);
            let now = begun.wall;
            let mut from = None;
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
                    from = self.may_take(&value, now)?;
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
                other => {
                    other?;
                    *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = begun;
                    return Ok(from);
                }
            }
        }
        Err(busy(&lease))
    }

    /// Whether the Lease may be taken: it is free, it has ended, or a process of this run held it on this machine and is
    /// dead. Returns who held it, where that process may still live.
    fn may_take(&self, lease: &Value, now: OffsetDateTime) -> Result<Option<String>, PrimError> {
        let identity = text(lease, &["spec", "holderIdentity"]);
        let (who, process) = identity.split_once('/').unwrap_or((identity, ""));
        let process = process.split_once('-').map_or("", |(process, _)| process);
        let here = format!("{}@{}", self.holder.run, self.holder.host);
        if identity.is_empty() || (who == here && fence::is_dead(process)) {
            return Ok(None);
        }
        let who =
            if process.is_empty() { format!("`{who}`") } else { format!("`{who}` (process {process})") };
        let renewed = OffsetDateTime::parse(text(lease, &["spec", "renewTime"]), &Rfc3339);
        let lasts = number(lease, &["spec", "leaseDurationSeconds"]);
        let Ok(renewed) = renewed else { return Ok(Some(who)) };
        let ends = renewed + time::Duration::seconds(lasts) + SKEW;
        if now > ends {
            return Ok(Some(who));
        }
        Err(PrimError::new(Code::Locked, format!("run {who} holds the Lease, renewed {}", seconds(renewed)))
            .on(self.target.object.to_string())
            .hint(format!(
                "wait until it is done; should it be dead or stopped, its Lease ends at {}",
                seconds(ends)
            )))
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
                Some(mark) if mark.run != self.holder.run => {
                    return Err(unfinished(&self.target.object.to_string(), mark));
                }
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
            self.holds().await?;
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
