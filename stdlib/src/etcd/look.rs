//! The members of a cluster as they are now.

use std::time::Duration;

use etcd_client::proto::PbAlarmMember;
use etcd_client::{AlarmAction, AlarmType, ResponseHeader};
use futures::future::join_all;
use serde_json::{Value, json};

use super::client::{Access, Connection, Endpoint, connect, fail};
use super::cluster::{Cluster, Member};
use super::quorum::Voter;
use crate::error::{Code, PrimError};
use crate::world::World;

/// How far a member may lag behind the one that is ahead: entries that are being written while all are asked.
pub(super) const LAG: u64 = 5_000;
/// How long trouble that a person has to end is waited out: it may just be ending.
const MOMENT: Duration = Duration::from_secs(5);
/// How long a member that is well may take for a read.
const HEALTHY: Duration = Duration::from_secs(1);

/// One member as it is now.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its host's name.
    pub host: String,
    /// Where it was asked.
    pub endpoint: String,
    /// Its own name, as the members know it; empty where it is not known.
    pub name: String,
    /// Its id; 0 where it does not answer.
    pub id: u64,
    /// Whether it has no vote yet.
    pub learner: bool,
    /// What it says of itself, or why it says nothing.
    pub status: Result<Status, String>,
}

/// What a member says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whom it follows; 0 for nobody.
    pub leader: u64,
    /// The term.
    pub term: u64,
    /// What it has of the log.
    pub index: u64,
    /// What it has applied.
    pub applied: u64,
    /// Bytes of its database.
    pub db_size: u64,
    /// Its version.
    pub version: String,
}

/// A member that the script does not name: nothing is known of it but that it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// Its name, or its id where it has not started yet.
    pub name: String,
    /// Whether it has no vote yet.
    pub learner: bool,
}

/// All members at one moment.
#[derive(Debug, Clone)]
pub struct Look {
    /// In the order of the script.
    pub members: Vec<Seen>,
    /// Members that the cluster has and the script does not name.
    pub strangers: Vec<Stranger>,
    /// Alarms that are raised.
    pub alarms: Vec<String>,
}

impl Cluster {
    /// All members, asked at once.
    ///
    /// # Errors
    /// None of them answers.
    pub async fn look(&self, world: &World) -> Result<Look, PrimError> {
        let access = &self.access;
        let asked = self.members.iter().map(|member| async move {
            let said = said(world, &member.endpoint, access).await;
            (member, said)
        });
        let asked = join_all(asked).await;
        let mut known = Vec::new();
        let mut alarms = Vec::new();
        let mut last = None;
        for (_, said) in &asked {
            let said = match said {
                Ok(said) => said,
                Err(error) => {
                    last = Some(error.clone());
                    continue;
                }
            };
            // One that is not healthy still tells why: of an alarm every member says that it is not.
            match told(&said.connection).await {
                Ok((members, raised)) => {
                    alarms = alarms_of(&raised, &members);
                    known = members;
                    break;
                }
                Err(error) if said.status.is_ok() => last = Some(error),
                // Without a quorum nobody tells, and each takes its time.
                Err(error) => {
                    last = Some(said.status.as_ref().err().cloned().unwrap_or(error));
                    break;
                }
            }
        }
        if known.is_empty() {
            return Err(last.unwrap_or_else(|| PrimError::new(Code::Unavailable, "no member answers")));
        }
        let members: Vec<Seen> = asked.into_iter().map(|(member, said)| seen(member, said, &known)).collect();
        let strangers = strangers(&members, &known);
        Ok(Look { members, strangers, alarms })
    }
}

struct Known {
    id: u64,
    name: String,
    learner: bool,
    urls: Vec<String>,
}

/// Who is a member, and which alarms are raised, as one member tells it.
async fn told(member: &Connection) -> Result<(Vec<Known>, Vec<PbAlarmMember>), PrimError> {
    let list = member.ask(member.client().member_list()).await?;
    let raised = member.ask(member.client().alarm(AlarmAction::Get, AlarmType::None, None)).await?;
    let known = list.members().iter().map(|member| Known {
        id: member.id(),
        name: member.name().to_owned(),
        learner: member.is_learner(),
        urls: member.client_urls().to_vec(),
    });
    Ok((known.collect(), raised.0.alarms))
}

/// Alarms in words; one that only later versions know is one all the same.
fn alarms_of(raised: &[PbAlarmMember], known: &[Known]) -> Vec<String> {
    let alarm = |alarm: i32| match AlarmType::try_from(alarm) {
        Ok(AlarmType::Nospace) => "NOSPACE".to_owned(),
        Ok(AlarmType::Corrupt) => "CORRUPT".to_owned(),
        Ok(AlarmType::None) | Err(_) => format!("alarm {alarm}"),
    };
    let name = |id: u64| known.iter().find(|known| known.id == id).map_or("a member", |known| &known.name);
    raised.iter().map(|raised| format!("{} at {}", alarm(raised.alarm), name(raised.member_id))).collect()
}

/// Members that are none of those that were asked.
fn strangers(members: &[Seen], known: &[Known]) -> Vec<Stranger> {
    let strange = known.iter().filter(|known| !members.iter().any(|seen| seen.id == known.id));
    let name =
        |known: &Known| if known.name.is_empty() { format!("{:x}", known.id) } else { known.name.clone() };
    strange.map(|known| Stranger { name: name(known), learner: known.learner }).collect()
}

fn seen(member: &Member, said: Result<Said, PrimError>, known: &[Known]) -> Seen {
    let named = match &said {
        Ok(said) => known.iter().find(|known| known.id == said.id),
        Err(_) => known.iter().find(|known| {
            known.urls.iter().any(|url| Endpoint::of(url).is_ok_and(|endpoint| endpoint == member.endpoint))
        }),
    };
    Seen {
        host: member.host.name.clone(),
        endpoint: member.endpoint.to_string(),
        name: named.map(|known| known.name.clone()).unwrap_or_default(),
        id: named.map_or(0, |known| known.id),
        learner: named.is_some_and(|known| known.learner),
        status: said.and_then(|said| said.status).map_err(|error| error.message),
    }
}

/// Whether a member is of a version that does not say what it has applied and what ails it.
fn too_old(endpoint: &Endpoint, version: &str) -> Option<PrimError> {
    let mut parts = version.split('.').map(|part| part.parse::<u64>().ok());
    let (major, minor) = (parts.next()??, parts.next()??);
    if (major, minor) >= (3, 4) {
        return None;
    }
    Some(
        fail(endpoint, format!("it is etcd {version}, which does not say what it has applied, as 3.4 and later do"))
            .expected("etcd 3.4 or later", version.to_owned())
            .hint("bring the members to 3.4 first, one minor version at a time; their certificates can be replaced by hand meanwhile"),
    )
}

/// What a member that answers says.
struct Said {
    connection: Connection,
    id: u64,
    /// Or why it is not healthy.
    status: Result<Status, PrimError>,
}

/// Asks one member how it is, and judges its health as `etcdctl endpoint health` does: by a read that needs the quorum.
async fn said(world: &World, endpoint: &Endpoint, access: &Access) -> Result<Said, PrimError> {
    let connection = connect(world, endpoint, access).await?;
    let answer = connection.ask(connection.client().status()).await?;
    if let Some(error) = too_old(endpoint, answer.version()) {
        return Err(error);
    }
    let id = answer.header().map_or(0, ResponseHeader::member_id);
    let ill = if answer.errors().is_empty() {
        let mut client = connection.client();
        let read = connection.ask_within(HEALTHY, client.get("health", None)).await;
        // Who may not read it is told so by a member that is well.
        let why = read.err().map(|error| error.message).filter(|why| !why.contains("permission denied"));
        why.map(|why| format!("a read that needs the quorum failed: {why}"))
    } else {
        Some(answer.errors().join(", "))
    };
    let status = match ill {
        // It answered just now, so whatever it says here is of itself.
        Some(why) => Err(PrimError {
            code: Code::Unproved,
            ..fail(endpoint, format!("it is not healthy: {}", why.trim()))
        }),
        None => Ok(Status {
            leader: answer.leader(),
            term: answer.raft_term(),
            index: answer.raft_index(),
            applied: answer.raft_applied_index(),
            db_size: u64::try_from(answer.db_size()).unwrap_or(0),
            version: answer.version().to_owned(),
        }),
    };
    Ok(Said { connection, id, status })
}

impl Look {
    /// The highest index that a member has.
    pub fn index(&self) -> u64 {
        self.members
            .iter()
            .filter_map(|seen| seen.status.as_ref().ok())
            .map(|status| status.index)
            .max()
            .unwrap_or(0)
    }

    /// The id of the leader, where all who answer agree on one that is a member.
    pub fn leader(&self) -> Option<u64> {
        let mut leaders =
            self.members.iter().filter_map(|seen| seen.status.as_ref().ok()).map(|status| status.leader);
        let first = leaders.next().filter(|id| *id != 0)?;
        leaders.all(|id| id == first).then_some(first)
    }

    /// Members as a quorum counts them: up is who answers, follows the leader and is not far behind. A member that is not
    /// named here has its vote all the same; it was not asked, so nobody counts on it.
    pub fn voters(&self) -> Vec<Voter> {
        let (leader, index) = (self.leader(), self.index());
        let up = |seen: &Seen| {
            seen.status
                .as_ref()
                .is_ok_and(|status| Some(status.leader) == leader && status.applied + LAG >= index)
        };
        let strange = |stranger: &Stranger| Voter {
            name: format!("{} (not named here)", stranger.name),
            up: false,
            learner: stranger.learner,
        };
        let named = self.members.iter();
        let named = named.map(|seen| Voter { name: seen.host.clone(), up: up(seen), learner: seen.learner });
        named.chain(self.strangers.iter().map(strange)).collect()
    }

    /// What keeps the cluster from being well, in words; nothing where it is.
    pub fn trouble(&self) -> Option<String> {
        // While there is one every member says that it is not healthy, and a learner always does.
        if !self.alarms.is_empty() {
            return Some(format!("alarms are raised: {}", self.alarms.join(", ")));
        }
        if let Some(learner) = self.members.iter().find(|seen| seen.learner) {
            return Some(format!("{} is a learner that has not joined yet", learner.host));
        }
        if let Some(seen) = self.members.iter().find(|seen| seen.status.is_err()) {
            let why = seen.status.as_ref().err().cloned().unwrap_or_default();
            return Some(format!("{} ({}): {why}", seen.host, seen.endpoint));
        }
        if !self.strangers.is_empty() {
            let names: Vec<&str> = self.strangers.iter().map(|stranger| stranger.name.as_str()).collect();
            return Some(format!("it has members that are not named here: {}", names.join(", ")));
        }
        if self.leader().is_none() {
            return Some("the members do not agree on a leader".into());
        }
        let index = self.index();
        self.voters()
            .iter()
            .find(|voter| !voter.up)
            .map(|voter| format!("{} lags far behind index {index}", voter.name))
    }

    /// Whether its trouble is one that a person has to end: to wait for that is no use.
    fn needs_a_person(&self) -> bool {
        !self.alarms.is_empty() || !self.strangers.is_empty() || self.members.iter().any(|seen| seen.learner)
    }

    /// As scripts have it.
    pub fn to_value(&self) -> Value {
        let leader = self.leader();
        let rows = self.members.iter().map(|seen| {
            let mut row = json!({
                "host": seen.host,
                "endpoint": seen.endpoint,
                "name": seen.name,
                "id": format!("{:x}", seen.id),
                "learner": seen.learner,
                "leader": leader.is_some_and(|id| id == seen.id),
            });
            let more = match &seen.status {
                Ok(status) => json!({
                    "version": status.version, "term": status.term.to_string(), "index": status.index.to_string(),
                    "applied": status.applied.to_string(), "db_size": status.db_size.to_string(), "problem": null,
                }),
                Err(why) => json!({ "problem": why }),
            };
            if let (Some(row), Value::Object(more)) = (row.as_object_mut(), more) {
                row.extend(more);
            }
            row
        });
        json!({ "members": rows.collect::<Vec<_>>(), "alarms": self.alarms, "trouble": self.trouble() })
    }
}

/// Looks until a condition holds; what is still in the way when `within` has passed is told.
pub(super) async fn until<T>(
    world: &World,
    cluster: &Cluster,
    within: Duration,
    gate: &dyn crate::gate::Gate,
    holds: &(dyn Fn(&Look) -> Result<T, String> + Send + Sync),
) -> Result<T, PrimError> {
    let begun = world.clock.now();
    // A member that is up again in a moment is not waited for longer.
    let mut pause = Duration::from_millis(50);
    loop {
        let (why, patience) = match cluster.look(world).await {
            Ok(look) => match holds(&look) {
                Ok(found) => return Ok(found),
                Err(why) if look.needs_a_person() => (why, within.min(MOMENT)),
                Err(why) => (why, within),
            },
            Err(error) => (error.to_string(), within),
        };
        if world.clock.now() >= begun + patience {
            return Err(PrimError::new(Code::Unproved, why).on("etcd"));
        }
        gate.progress(crate::gate::Progress { text: format!("etcd: {why}"), done: None });
        world.clock.sleep(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_millis(300));
    }
}

#[cfg(test)]
#[path = "look_tests.rs"]
mod tests;
