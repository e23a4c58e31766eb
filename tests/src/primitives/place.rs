//! The two servers that stories are told on: what each gives them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::LocalBoxFuture;
use kube::Client;
use sandbox::api::{Fault, FaultId, Options, Rule, Server};
use stdlib::world::{Clock, TokioClock};

/// A server, and what a story needs of it.
pub(super) trait Place: Send + Sync {
    /// A client of a user who may do everything.
    fn client(&self, user: &str) -> Client;
    /// A client of somebody who may do this in a namespace, and nothing else.
    fn limited<'a>(&'a self, ns: &'a str, rule: Rule) -> LocalBoxFuture<'a, Client>;
    /// The time there.
    fn clock(&self) -> Arc<dyn Clock>;
    /// Whether time passes for the server too as soon as everybody waits.
    fn turns_clocks(&self) -> bool;
    /// A namespace's name that nobody has yet.
    fn namespace(&self, story: &str) -> String;
    /// Adds a fault.
    fn inject(&self, fault: Fault) -> FaultId;
    /// How often a fault has struck.
    fn hits(&self, fault: FaultId) -> u64;
    /// Ends a fault.
    fn heal(&self, fault: FaultId);
    /// How often `rollover` has asked so for these in a namespace.
    fn counted(&self, ns: &str, verb: &str, resource: &str) -> u64;
    /// Whether the server breaks every connection of `rollover` that asks for this namespace.
    fn set_down(&self, ns: &str, down: bool);
    /// Ends the watches of `rollover` in this namespace; `abort` breaks the connection instead of closing it. Returns how
    /// many.
    fn drop_watches(&self, ns: &str, abort: bool) -> usize;
}

/// The sandbox's server, in this process and on virtual time. It has one story.
pub(super) struct InMemory {
    pub(super) server: Arc<Server>,
    clock: TokioClock,
    namespaces: AtomicUsize,
}

impl Default for InMemory {
    fn default() -> Self {
        let clock = TokioClock::starting_at(time::macros::datetime!(2026-11-22 06:00:00 UTC));
        let server = Server::new(Options::new(Arc::new(clock)).seed(7));
        Self { server, clock, namespaces: AtomicUsize::new(0) }
    }
}

impl Place for InMemory {
    fn client(&self, user: &str) -> Client {
        self.server.client(user)
    }

    fn limited<'a>(&'a self, _: &'a str, rule: Rule) -> LocalBoxFuture<'a, Client> {
        self.server.set_rules("limited", Some(vec![rule]));
        Box::pin(async { self.server.client("limited") })
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(self.clock)
    }

    fn turns_clocks(&self) -> bool {
        true
    }

    fn namespace(&self, _: &str) -> String {
        match self.namespaces.fetch_add(1, Ordering::Relaxed) {
            0 => "tidb".into(),
            n => format!("tidb-{n}"),
        }
    }

    fn inject(&self, fault: Fault) -> FaultId {
        self.server.inject(fault)
    }

    fn hits(&self, fault: FaultId) -> u64 {
        self.server.hits(fault)
    }

    fn heal(&self, fault: FaultId) {
        self.server.heal(fault);
    }

    fn counted(&self, _: &str, verb: &str, resource: &str) -> u64 {
        let counters = self.server.counters();
        counters.get(&("rollover".into(), verb.into(), resource.into())).copied().unwrap_or_default()
    }

    fn set_down(&self, _: &str, down: bool) {
        self.server.set_down(down);
    }

    fn drop_watches(&self, _: &str, abort: bool) -> usize {
        self.server.drop_watches(None, Some("rollover"), abort)
    }
}
