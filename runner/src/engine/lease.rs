//! The lock on a Kubernetes object: [`stdlib::lease`] behind the engine's port.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use stdlib::PrimError;
use stdlib::k8s::object::Ref;
use stdlib::lease::{self, Held, Holder, Last, Leave};
use stdlib::registry::Touch;
use stdlib::world::World;

use super::lock::{HeldLock, TargetLock};
use crate::events::Head;
use crate::plan::Target;

/// Locks targets by a Lease and a mark.
#[derive(Clone)]
pub struct LeaseLock {
    /// The cluster, and the clock.
    pub world: World,
    /// The machine, for whoever finds the target locked.
    pub host: String,
    /// The person.
    pub user: String,
}

/// The target as the lock needs it; also for the capabilities of a workflow.
pub fn lease_target(target: &Target) -> lease::Target {
    lease::Target {
        object: Ref::new(&target.api_version, &target.kind, &target.namespace, &target.name),
        uid: target.uid.clone(),
        namespace: target.namespace.clone(),
        lease: target.lease.clone(),
    }
}

impl TargetLock for LeaseLock {
    fn take<'a>(
        &'a self,
        target: &'a Target,
        run: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn HeldLock>, PrimError>> {
        Box::pin(async move {
            if !target.hosts.is_empty() {
                return super::hosts::take(self, target, run).await;
            }
            let holder = Holder { run: run.to_owned(), host: self.host.clone(), user: self.user.clone() };
            let held = lease::acquire(&self.world, &lease_target(target), &holder).await?;
            Ok(Arc::new(held) as Arc<dyn HeldLock>)
        })
    }

    fn forget<'a>(&'a self, target: &'a Target, last: &'a Last) -> BoxFuture<'a, Result<(), PrimError>> {
        Box::pin(async move {
            if !target.hosts.is_empty() {
                return super::hosts::forget(self, target, last).await;
            }
            lease::forget(&self.world, &lease_target(target), last).await
        })
    }

    fn disarm<'a>(&'a self, target: &'a Target, run: &'a str) -> BoxFuture<'a, Result<(), PrimError>> {
        Box::pin(super::hosts::disarm(self, target, run))
    }
}

impl HeldLock for Held {
    fn interval(&self) -> Duration {
        lease::INTERVAL
    }

    fn renew(&self) -> BoxFuture<'_, Result<(), PrimError>> {
        Box::pin(Held::renew(self))
    }

    fn holds(&self) -> BoxFuture<'_, Result<(), PrimError>> {
        Box::pin(Held::holds(self))
    }

    fn taken_from(&self) -> Option<String> {
        Held::taken_from(self).map(str::to_owned)
    }

    fn fence<'a>(&'a self, touched: &'a [Touch]) -> BoxFuture<'a, Vec<String>> {
        Box::pin(Held::fence(self, touched))
    }

    fn note<'a>(&'a self, step: &'a str, head: &'a Head) -> BoxFuture<'a, Result<(), PrimError>> {
        Box::pin(async move {
            Held::note(self, step, &serde_json::json!({ "size": head.size, "root": head.root })).await
        })
    }

    fn release<'a>(&'a self, leave: &'a Leave) -> BoxFuture<'a, Result<(), PrimError>> {
        Box::pin(Held::release(self, leave))
    }
}
