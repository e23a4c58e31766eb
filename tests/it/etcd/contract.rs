//! What a member answers: one talk with a real one and with the sandbox's.

use std::path::Path;
use std::sync::Arc;

use etcd_client::proto::PbAlarmMember;
use etcd_client::{
    AlarmAction, AlarmOptions, AlarmType, Client, Error, GetOptions, ResponseHeader, StatusResponse,
};
use stdlib::World;
use stdlib::etcd::{Access, Endpoint, connect};

use super::client::access;
use super::members::Cluster;

struct Talk<'a> {
    world: World,
    access: Access,
    endpoints: &'a [Endpoint],
}

/// Every number of it is there.
fn whole(header: Option<&ResponseHeader>, revision: bool) -> u64 {
    let header = header.unwrap();
    assert!(header.cluster_id() > 0 && header.member_id() > 0 && header.raft_term() > 0, "{header:?}");
    assert_eq!(header.revision() > 0, revision, "{header:?}");
    header.cluster_id()
}

impl Talk<'_> {
    /// Asks a member, on a connection of its own; how it refuses, where it does.
    async fn asks<T>(
        &self,
        at: usize,
        question: impl AsyncFnOnce(&mut Client) -> Result<T, Error>,
    ) -> Result<T, String> {
        // A talk is long, and a test's stack is not.
        let asked = Box::pin(async {
            let member = connect(&self.world, &self.endpoints[at], &self.access).await.unwrap();
            let mut client = member.client();
            member.ask(question(&mut client)).await
        });
        asked.await.map_err(|error| error.message)
    }

    async fn status(&self, at: usize) -> StatusResponse {
        self.asks(at, async |client| client.status().await).await.unwrap()
    }

    async fn id(&self, at: usize) -> u64 {
        self.status(at).await.header().unwrap().member_id()
    }

    /// Which of them leads, once all agree.
    async fn leader(&self) -> usize {
        for _ in 0..200 {
            let mut all = Vec::new();
            for at in 0..self.endpoints.len() {
                all.push(self.status(at).await);
            }
            let first = all[0].leader();
            if first != 0 && all.iter().all(|status| status.leader() == first) {
                return all.iter().position(|s| s.header().unwrap().member_id() == first).unwrap();
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("they never agree on a leader");
    }

    async fn put(&self, at: usize, key: &str, value: &str) -> Result<u64, String> {
        let put = self.asks(at, async |client| client.put(key, value, None).await).await?;
        Ok(whole(put.header(), true))
    }

    async fn moves(&self, at: usize, to: u64) -> Result<(), String> {
        let moved = self.asks(at, async |client| client.move_leader(to).await).await?;
        assert!(moved.header().is_none());
        Ok(())
    }

    async fn alarm(&self, at: usize, action: AlarmAction, of: u64) -> Vec<PbAlarmMember> {
        let mut options = AlarmOptions::new();
        options.with_member(of);
        let kind = if action == AlarmAction::Get { AlarmType::None } else { AlarmType::Nospace };
        let told = self.asks(at, async |client| client.alarm(action, kind, Some(options)).await).await;
        let told = told.unwrap().0;
        assert!(told.header.is_none(), "{told:?}");
        told.alarms
    }
}

async fn holds(endpoints: &[Endpoint], files: &Path, stranger: &Path) {
    let world = World::system(None, "/".into());
    let talk = Talk { world, access: access(files), endpoints };
    let leader = talk.leader().await;
    let (one, two) = ((leader + 1) % 3, (leader + 2) % 3);

    let status = talk.status(one).await;
    let cluster = whole(status.header(), true);
    assert!(status.version().starts_with("3."), "{status:?}");
    assert!(status.db_size() > 0 && status.raft_used_db_size() > 0, "{status:?}");
    assert!(
        status.raft_index() >= status.raft_applied_index() && status.raft_applied_index() > 0,
        "{status:?}"
    );
    assert!(status.raft_term() > 0 && !status.is_learner() && status.errors().is_empty(), "{status:?}");
    let list = talk.asks(two, async |client| client.member_list().await).await.unwrap();
    assert_eq!(whole(list.header(), false), cluster);
    assert_eq!(list.members().len(), 3);
    for member in list.members() {
        assert!(member.id() > 0 && !member.name().is_empty() && !member.is_learner(), "{member:?}");
        let urls = [member.peer_urls(), member.client_urls()];
        assert!(urls.iter().all(|urls| urls.len() == 1 && urls[0].starts_with("https://")), "{member:?}");
    }
    assert_eq!(talk.alarm(one, AlarmAction::Get, 0).await, []);

    // What one acknowledges every other has.
    talk.put(one, "talk/a", "1").await.unwrap();
    talk.put(two, "talk/a", "2").await.unwrap();
    talk.put(leader, "talk/b", "3").await.unwrap();
    for at in 0..3 {
        let found = talk.asks(at, async |client| client.get("talk/a", None).await).await.unwrap();
        whole(found.header(), true);
        let [row] = found.kvs() else { panic!("{found:?}") };
        assert_eq!((found.count(), row.key(), row.value(), row.version()), (1, &b"talk/a"[..], &b"2"[..], 2));
        // Whoever else writes to the cluster may come between the two.
        assert!(row.create_revision() < row.mod_revision(), "{row:?}");
        let both = Some(GetOptions::new().with_range("talk0"));
        let found = talk.asks(at, async |client| client.get("talk/", both).await).await.unwrap();
        assert_eq!((found.count(), found.more()), (2, false));
    }
    let none = talk.asks(one, async |client| client.get("talk/none", None).await).await.unwrap();
    assert_eq!((whole(none.header(), true), none.count()), (cluster, 0));

    // A snapshot comes in parts, and says how much is to come.
    let parts = talk.asks(one, async |client| {
        let (mut stream, mut parts) = (client.snapshot().await?, Vec::new());
        while let Some(part) = stream.message().await? {
            parts.push((part.remaining_bytes(), part.blob().len() as u64));
        }
        Ok(parts)
    });
    let parts = parts.await.unwrap();
    let (hash, database) = parts.split_last().unwrap();
    assert_eq!(*hash, (0, 32), "behind the database comes its hash");
    let size: u64 = database.iter().map(|(_, part)| part).sum();
    let mut left = size;
    for (said, part) in database {
        left -= part;
        assert_eq!(*said, left);
    }
    assert!(size.is_multiple_of(512), "{size}");

    // The leadership moves from the leader alone, to a member.
    let own = talk.id(one).await;
    let refused = talk.moves(one, own).await.unwrap_err();
    assert_eq!(refused, "it answers FailedPrecondition: etcdserver: not leader");
    let refused = talk.moves(leader, 5).await.unwrap_err();
    assert_eq!(refused, "it answers FailedPrecondition: etcdserver: bad leader transferee");
    talk.moves(leader, own).await.unwrap();
    assert_eq!(talk.leader().await, one);

    // Without space nothing is written, and every member says why.
    let raised = [PbAlarmMember { member_id: own, alarm: AlarmType::Nospace as i32 }];
    assert_eq!(talk.alarm(one, AlarmAction::Activate, own).await, raised);
    assert_eq!(talk.alarm(two, AlarmAction::Get, 0).await, raised);
    assert_eq!(talk.status(two).await.errors(), [format!("memberID:{own} alarm:NOSPACE ")]);
    let refused = talk.put(two, "talk/c", "4").await.unwrap_err();
    assert_eq!(refused, "it answers ResourceExhausted: etcdserver: mvcc: database space exceeded");
    assert_eq!(talk.alarm(one, AlarmAction::Deactivate, own).await, raised);
    assert_eq!(talk.alarm(two, AlarmAction::Get, 0).await, []);
    talk.put(two, "talk/c", "4").await.unwrap();

    // What nobody may ask.
    let refused = talk.put(one, "", "5").await.unwrap_err();
    assert_eq!(refused, "it answers InvalidArgument: etcdserver: key is not provided");
    let anchors = Arc::clone(&talk.access.anchors);
    let stranger = Talk { access: Access { anchors, ..access(stranger) }, ..talk };
    let refused = stranger.asks(one, async |client| client.status().await).await.unwrap_err();
    assert!(refused.contains("refuses our certificate"), "{refused}");
}

fn endpoints(texts: &[String]) -> Vec<Endpoint> {
    texts.iter().map(|text| Endpoint::of(text).unwrap()).collect()
}

/// A sandbox's hosts on the loopback interface.
async fn hosts(root: &Path) -> sandbox::hosts::World {
    sandbox::hosts::World::start(sandbox::hosts::Options::process(root.to_owned(), 1)).await.unwrap()
}

#[tokio::test]
async fn members_of_the_sandbox_answer_as_real_ones() {
    let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (world, stranger) = (hosts(root.path()).await, hosts(other.path()).await);
    drop(stranger);
    let files = |root: &Path| root.join("app1/etc/etcd/pki");
    holds(&endpoints(&world.endpoints()), &files(root.path()), &files(other.path())).await;
}

#[tokio::test]
async fn real_members_answer_so() {
    let (cluster, other) = (Cluster::start(3), tempfile::tempdir().unwrap());
    drop(hosts(other.path()).await);
    let files = cluster.machines.root.path().join("app");
    holds(&endpoints(&cluster.endpoints()), &files, &other.path().join("app1/etc/etcd/pki")).await;
}
