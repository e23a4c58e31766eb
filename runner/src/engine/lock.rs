//! The port to the lock on a target (law 7): a Lease that ends by itself, and a mark that outlives it.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use stdlib::PrimError;
use stdlib::lease::{Last, Leave};
use stdlib::registry::Touch;

use crate::events::Head;
use crate::plan::Target;

/// Takes locks on targets.
pub trait TargetLock: Send + Sync {
    /// Takes the lock and sets the mark, or says who holds it ([`stdlib::error::Code::Locked`]). Taking it again for
    /// the same run succeeds.
    fn take<'a>(
        &'a self,
        target: &'a Target,
        run: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn HeldLock>, PrimError>>;

    /// Clears what a run that is over left behind when it died before it let go.
    fn forget<'a>(&'a self, target: &'a Target, last: &'a Last) -> BoxFuture<'a, Result<(), PrimError>>;

    /// Tells the target to do nothing by itself any more for a run that is given up and keeps its mark.
    fn disarm<'a>(&'a self, _target: &'a Target, _run: &'a str) -> BoxFuture<'a, Result<(), PrimError>> {
        Box::pin(async { Ok(()) })
    }
}

/// A lock that is held.
pub trait HeldLock: Send + Sync {
    /// How often it must be renewed.
    fn interval(&self) -> Duration;
    /// Renews it. An error that may pass is [`stdlib::error::Code::Unavailable`]; a lock that is lost is
    /// [`stdlib::error::Code::Locked`].
    fn renew(&self) -> BoxFuture<'_, Result<(), PrimError>>;
    /// That it is still held: asked before each write and after the read that the write is conditional upon.
    fn holds(&self) -> BoxFuture<'_, Result<(), PrimError>> {
        Box::pin(async { Ok(()) })
    }
    /// From whom it was taken, where that process may still live and go on.
    fn taken_from(&self) -> Option<String> {
        None
    }
    /// Makes whatever that process was about to write come late. Returns what this cannot be done for, in words.
    fn fence<'a>(&'a self, _touched: &'a [Touch]) -> BoxFuture<'a, Vec<String>> {
        Box::pin(async { Vec::new() })
    }
    /// Writes the head of the record beside the mark, so that a cut of the record can be found.
    fn note<'a>(&'a self, step: &'a str, head: &'a Head) -> BoxFuture<'a, Result<(), PrimError>>;
    /// Lets go of the lock; takes the mark off too where the run leaves nothing unfinished.
    fn release<'a>(&'a self, leave: &'a Leave) -> BoxFuture<'a, Result<(), PrimError>>;
}

/// For plans without a target, and for targets nobody else can reach.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoLock;

impl TargetLock for NoLock {
    fn take<'a>(&'a self, _: &'a Target, _: &'a str) -> BoxFuture<'a, Result<Arc<dyn HeldLock>, PrimError>> {
        Box::pin(async { Ok(Arc::new(NoLock) as Arc<dyn HeldLock>) })
    }

    fn forget<'a>(&'a self, _: &'a Target, _: &'a Last) -> BoxFuture<'a, Result<(), PrimError>> {
        Box::pin(async { Ok(()) })
    }
}

impl HeldLock for NoLock {
    fn interval(&self) -> Duration {
        Duration::from_secs(3600)
    }
    fn renew(&self) -> BoxFuture<'_, Result<(), PrimError>> {
        Box::pin(async { Ok(()) })
    }
    fn note<'a>(&'a self, _: &'a str, _: &'a Head) -> BoxFuture<'a, Result<(), PrimError>> {
        Box::pin(async { Ok(()) })
    }
    fn release<'a>(&'a self, _: &'a Leave) -> BoxFuture<'a, Result<(), PrimError>> {
        Box::pin(async { Ok(()) })
    }
}
