//! What all actors of one world share.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use stdlib::world::Clock;
use tokio::sync::broadcast;

use super::bell::Bell;
use super::counters::Counters;
use super::directory::Directory;
use super::faults::Faults;
use super::kubelet::inside::Pods;
use super::memo::Memo;
use super::net::Network;
use super::pacer::Pacer;
use super::pd::Pd;
use super::timing::{Dice, Pace, Span, Timing};
use super::tls::Configs;

/// Shared by kubelet, operator, controllers and pods of one world.
pub struct Ctx {
    /// The world's clock.
    pub clock: Arc<dyn Clock>,
    /// From which everything random comes.
    pub seed: u64,
    /// How long things take.
    pub timing: Timing,
    /// Whether the start state was reached.
    pub pace: Pace,
    /// Addresses and connections.
    pub net: Arc<dyn Network>,
    /// Who runs.
    pub directory: Directory,
    /// What the links have seen.
    pub counters: Counters,
    /// Verdicts of identical handshakes; `None` shakes hands every time.
    pub memo: Option<Arc<Memo>>,
    /// Keeps real dialling within bounds.
    pub pacer: Pacer,
    /// TLS configurations, by what they are made of.
    pub configs: Configs,
    /// Faults in force.
    pub faults: Faults,
    /// Rings when a process started or stopped, became ready, or has other files mounted.
    pub bell: Bell,
    /// Leaders that each TiKV store holds.
    pub leaders_per_store: u32,
    /// Why servers refused, by the address of the client, until the client has asked.
    pub refused: Mutex<HashMap<SocketAddr, String>>,
    /// Pods that streams lead into.
    pub(crate) pods: Pods,
    /// Orders to restart a pod's container now, by the pod's name.
    pub kicks: broadcast::Sender<String>,
    operator: OnceLock<IpAddr>,
    pds: Mutex<BTreeMap<(String, String), Arc<Pd>>>,
}

impl Ctx {
    /// A world with nothing in it.
    pub fn new(
        (clock, seed, timing): (Arc<dyn Clock>, u64, Timing),
        net: Arc<dyn Network>,
        memo: Option<Arc<Memo>>,
        leaders_per_store: u32,
    ) -> Self {
        Self {
            clock,
            seed,
            timing,
            pace: Pace::default(),
            net,
            directory: Directory::default(),
            counters: Counters::default(),
            memo,
            pacer: Pacer::default(),
            configs: Configs::default(),
            faults: Faults::default(),
            bell: Bell::default(),
            leaders_per_store,
            refused: Mutex::default(),
            pods: Pods::default(),
            kicks: broadcast::Sender::new(64),
            operator: OnceLock::new(),
            pds: Mutex::default(),
        }
    }

    /// The address that the operator dials from.
    pub fn operator_ip(&self) -> Option<IpAddr> {
        if self.operator.get().is_none() {
            let _ = self.operator.set(self.net.allocate().ok()?);
        }
        self.operator.get().copied()
    }

    /// Dice of one actor.
    pub fn dice(&self, actor: &str) -> Dice {
        Dice::new(self.seed, actor)
    }

    /// Waits for a drawn time; not at all before the start state is reached.
    pub async fn pause(&self, dice: &Dice, span: Span) {
        if self.pace.settled() {
            self.clock.sleep(dice.span(span)).await;
        }
    }

    /// The agreed state of a cluster's PD.
    pub fn pd(&self, namespace: &str, cluster: &str) -> Arc<Pd> {
        let mut pds = self.pds.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (namespace.to_owned(), cluster.to_owned());
        let made = || {
            let dice = self.dice(&format!("pd/{namespace}/{cluster}"));
            Arc::new(Pd::new(self.timing.clone(), dice, self.leaders_per_store))
        };
        Arc::clone(pds.entry(key).or_insert_with(made))
    }

    /// The time now, as Kubernetes writes it.
    pub fn now(&self) -> String {
        kube_time(self.clock.now())
    }
}

/// A moment as Kubernetes writes it, to the second.
pub fn kube_time(at: time::OffsetDateTime) -> String {
    let format = time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    at.to_offset(time::UtcOffset::UTC).format(format).unwrap_or_default()
}
