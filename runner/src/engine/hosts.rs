//! The lock on hosts: [`stdlib::host::lock`] behind the engine's port.
//!
//! Nothing runs out, so nothing is renewed: what another process of this run writes is refused by the host itself, which
//! compares the token of every change with that of its mark.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use stdlib::PrimError;
use stdlib::host::Entry;
use stdlib::host::lock::{self, Held, Holder};
use stdlib::lease::{Last, Leave};

use super::lease::LeaseLock;
use super::lock::HeldLock;
use crate::events::Head;
use crate::plan::Target;

/// How often the marks are told where the run stands.
const INTERVAL: Duration = Duration::from_secs(20);

fn entries(target: &Target) -> Result<Vec<Entry>, PrimError> {
    let hosts =
        target.hosts.iter().map(|host| serde_json::from_value(host.clone())).collect::<Result<_, _>>();
    hosts.map_err(|error| PrimError::argument(format!("a host of the target cannot be read: {error}")))
}

pub(super) async fn take(by: &LeaseLock, target: &Target, run: &str) -> Result<Arc<dyn HeldLock>, PrimError> {
    let holder = Holder { run: run.to_owned(), host: by.host.clone(), user: by.user.clone() };
    Ok(Arc::new(lock::acquire(&by.world, &entries(target)?, &holder).await?))
}

pub(super) async fn forget(by: &LeaseLock, target: &Target, last: &Last) -> Result<(), PrimError> {
    lock::forget(&by.world, &entries(target)?, last).await
}

pub(super) async fn disarm(by: &LeaseLock, target: &Target, run: &str) -> Result<(), PrimError> {
    lock::disarm(&by.world, &entries(target)?, run).await
}

impl HeldLock for Held {
    fn interval(&self) -> Duration {
        INTERVAL
    }

    fn renew(&self) -> BoxFuture<'_, Result<(), PrimError>> {
        Box::pin(async { Ok(()) })
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
