//! How the operator asks PD: over TLS, with the identity and the trust store of the client Secret as it is in the API
//! now. It builds its clients anew each time, so it needs no restart when that Secret changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use stdlib::trust::Verifier;

use super::upgrade::{Member, PdView, Store};
use crate::world::ctx::Ctx;
use crate::world::directory::Target;
use crate::world::json as js;
use crate::world::pod::dial::{Ask, Outcome, dial};
use crate::world::pod::party::Party;
use crate::world::pod::program::{By, Dials, Leaf};
use crate::world::volume::{Volume, secret_files};

const PD: &[Dials] = &[Dials { target: "pd", port: 2379, by: By::Service, needed: true }];

/// The operator's identity for a cluster.
///
/// # Errors
/// The Secret is not there or holds no usable key pair.
pub(crate) fn party(ctx: &Ctx, secret: Option<&Value>) -> Result<Arc<Party>, String> {
    let secret = secret.ok_or("the client Secret is not there")?;
    let volume = Volume::default();
    volume.put(secret_files(secret));
    let who = ("operator".to_owned(), "operator");
    Party::start(who, ctx.operator_ip(), Verifier::Go, Leaf::EachConnection, volume, Vec::new()).map(Arc::new)
}

/// A client of one cluster's PD.
pub(crate) struct PdClient<'a> {
    /// The world.
    pub ctx: &'a Ctx,
    /// Who asks.
    pub party: &'a Party,
    /// Namespace of the cluster.
    pub namespace: &'a str,
    /// Its name.
    pub cluster: &'a str,
}

impl PdClient<'_> {
    fn targets(&self) -> Vec<Target> {
        self.ctx.directory.targets(self.namespace, self.cluster, PD, None)
    }

    /// Asks any member behind the service.
    ///
    /// # Errors
    /// None answers, or one refuses.
    pub(crate) async fn call(&self, ask: &Ask<'_>) -> Result<Value, String> {
        let mut last = "no PD pod is ready".to_owned();
        for target in self.targets() {
            match dial(self.ctx, self.party, &target, ask).await {
                Outcome::Held(200, answer) => return Ok(answer),
                Outcome::Held(code, answer) => last = format!("{code}: {answer}"),
                Outcome::Refused(refusal) => return Err(refusal.why),
                Outcome::Unreachable(kind) => last = format!("{}: {kind}", target.name),
            }
        }
        Err(last)
    }

    async fn get(&self, path: &str) -> Result<Value, String> {
        self.call(&Ask { method: "GET", path, body: Value::Null }).await
    }

    /// Everything that an upgrade looks at.
    ///
    /// # Errors
    /// As [`PdClient::call`].
    pub(crate) async fn view(&self) -> Result<PdView, String> {
        let health = self.get("/pd/api/v1/health").await?;
        let leader = self.get("/pd/api/v1/leader").await?;
        let stores = self.get("/pd/api/v1/stores").await?;
        let schedulers = self.get("/pd/api/v1/schedulers").await?;
        let evicting =
            |id: u64| js::items(&schedulers, "").contains(&json!(format!("evict-leader-scheduler-{id}")));
        let members: BTreeMap<String, Member> = js::items(&health, "")
            .iter()
            .map(|m| {
                let id = m.get("member_id").and_then(Value::as_u64).unwrap_or(0);
                let url = js::text(m, "/client_urls/0").to_owned();
                let health = m.get("health") == Some(&json!(true));
                (js::text(m, "/name").to_owned(), Member { id, url, health })
            })
            .collect();
        let stores = js::items(&stores, "/stores").iter().filter_map(|s| {
            let id = s.pointer("/store/id")?.as_u64()?;
            Some(Store {
                id,
                pod: js::text(s, "/store/address").to_owned(),
                component: js::text(s, "/store/labels/0/value").to_owned(),
                up: js::text(s, "/store/state_name") == "Up",
                leaders: u32::try_from(js::number(s, "/status/leader_count")?).ok()?,
                evicting: evicting(id),
            })
        });
        Ok(PdView { members, leader: js::text(&leader, "/name").to_owned(), stores: stores.collect() })
    }
}
