//! A policy that says no, in the sandbox: the story of `tests::admission`.

use std::sync::{Arc, Mutex};

use sandbox::api::{Effect, Fault, FaultId, Server};
use tests::admission::{Denied, Policy, WEBHOOK, WORDS, story};

use crate::lab::{Lab, virtual_time};

/// The sandbox's server, which answers as if it had asked a webhook.
struct Pretended(Arc<Server>, Mutex<Option<FaultId>>);

impl Policy for Pretended {
    async fn denies(&self, denied: Denied) {
        self.allows().await;
        let said = format!("admission webhook \"{WEBHOOK}\" denied the request: {WORDS}");
        let fault = Fault::new(Effect::Status(denied.code, said))
            .verb("patch")
            .resource(denied.resource)
            .name(denied.name);
        let fault = denied.times.map_or_else(|| fault.clone(), |times| fault.clone().times(times));
        *self.1.lock().unwrap() = Some(self.0.inject(fault));
    }
    async fn allows(&self) {
        if let Some(fault) = self.1.lock().unwrap().take() {
            self.0.heal(fault);
        }
    }
}

#[test]
fn what_a_policy_denies_is_explained_and_nothing_is_lost() {
    virtual_time(async {
        let lab = Lab::new(32).await;
        let policy = Pretended(Arc::clone(lab.world.server().unwrap()), Mutex::default());
        story(&lab, &policy).await;
    });
}
