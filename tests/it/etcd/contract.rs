//! What a member answers: one talk with a real one and with the sandbox's.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use stdlib::etcd::{Access, Endpoint, ask};
use stdlib::tls::config::Identity;
use stdlib::trust::Certs;
use stdlib::{Secret, World};

use super::members::Cluster;

/// As whom a client with these files asks.
fn access(folder: &Path, cert: &str, key: &str) -> Access {
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let key = Secret::new(text(key).into_bytes(), "key");
    let chain = Certs::from_pem(&text(cert)).unwrap();
    let anchors = Arc::new(Certs::from_pem(&text("ca.pem")).unwrap());
    Access { identity: Identity::new(&chain, &key).unwrap(), anchors }
}

/// Which fields an answer has, and of which kind.
fn shape(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.iter().collect();
            let fields: Vec<_> =
                fields.iter().map(|(name, value)| format!("{name}:{}", shape(value))).collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => format!("[{}]", items.first().map(shape).unwrap_or_default()),
        Value::String(text) if text.parse::<u64>().is_ok() => "n".into(),
        Value::String(_) => "s".into(),
        other => other.to_string(),
    }
}

const HEADER: &str = "header:{cluster_id:n,member_id:n,raft_term:n,revision:n}";

struct Talk<'a> {
    world: World,
    access: Access,
    endpoints: &'a [Endpoint],
}

impl Talk<'_> {
    async fn says(&self, at: usize, path: &str, body: Value) -> Value {
        ask(&self.world, &self.endpoints[at], &self.access, path, Some(&body)).await.unwrap()
    }

    async fn refuses(&self, at: usize, path: &str, body: Value) -> String {
        ask(&self.world, &self.endpoints[at], &self.access, path, Some(&body)).await.err().unwrap().message
    }

    async fn status(&self, at: usize) -> Value {
        self.says(at, "/v3/maintenance/status", json!({})).await
    }

    /// Which of them leads, once all agree.
    async fn leader(&self) -> usize {
        for _ in 0..200 {
            let mut all = Vec::new();
            for at in 0..self.endpoints.len() {
                all.push(self.status(at).await);
            }
            let first = &all[0]["leader"];
            if first.is_string() && all.iter().all(|status| status["leader"] == *first) {
                return all.iter().position(|status| status["header"]["member_id"] == *first).unwrap();
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("they never agree on a leader");
    }
}

fn of(text: &str) -> String {
    STANDARD.encode(text)
}

async fn holds(endpoints: &[Endpoint], files: &Path, stranger: &Path) {
    let access = access(files, "client.pem", "client-key.pem");
    let talk = Talk { world: World::system(None, "/".into()), access, endpoints };
    let leader = talk.leader().await;
    let (one, two) = ((leader + 1) % 3, (leader + 2) % 3);

    let status = talk.status(one).await;
    let fields = "leader:n,raftAppliedIndex:n,raftIndex:n,raftTerm:n,version:s}";
    assert_eq!(shape(&status), format!("{{dbSize:n,dbSizeInUse:n,{HEADER},{fields}"));
    let list = talk.says(two, "/v3/cluster/member/list", json!({})).await;
    assert_eq!(
        shape(&list),
        "{header:{cluster_id:n,member_id:n,raft_term:n},members:[{ID:n,clientURLs:[s],name:s,peerURLs:[s]}]}"
    );
    assert_eq!(list["members"].as_array().unwrap().len(), 3);
    assert_eq!(list["header"]["cluster_id"], status["header"]["cluster_id"]);
    assert_eq!(talk.says(one, "/v3/maintenance/alarm", json!({ "action": "GET" })).await, json!({}));

    // What one acknowledges every other has.
    let put = |key: &str, value: &str| json!({ "key": of(key), "value": of(value) });
    let written = talk.says(one, "/v3/kv/put", put("talk/a", "1")).await;
    assert_eq!(shape(&written), format!("{{{HEADER}}}"));
    talk.says(two, "/v3/kv/put", put("talk/a", "2")).await;
    talk.says(leader, "/v3/kv/put", put("talk/b", "3")).await;
    for at in 0..3 {
        let found = talk.says(at, "/v3/kv/range", json!({ "key": of("talk/a") })).await;
        let row = "{create_revision:n,key:s,mod_revision:n,value:s,version:n}";
        assert_eq!(shape(&found), format!("{{count:n,{HEADER},kvs:[{row}]}}"));
        let row = &found["kvs"][0];
        assert_eq!((&row["value"], &row["version"]), (&json!(of("2")), &json!("2")));
        let number = |name: &str| row[name].as_str().unwrap().parse::<u64>().unwrap();
        // Whoever else writes to the cluster may come between the two.
        assert!(number("create_revision") < number("mod_revision"), "{row}");
        let both = json!({ "key": of("talk/"), "range_end": of("talk0") });
        assert_eq!(talk.says(at, "/v3/kv/range", both).await["count"], json!("2"));
    }
    let none = talk.says(one, "/v3/kv/range", json!({ "key": of("talk/none") })).await;
    assert_eq!(shape(&none), format!("{{{HEADER}}}"));

    // The leadership moves from the leader alone, to a member.
    let target = |id: &Value| json!({ "targetID": id });
    let own = talk.status(one).await["header"]["member_id"].clone();
    let path = "/v3/maintenance/transfer-leadership";
    assert_eq!(talk.refuses(one, path, target(&own)).await, "it answers 412: etcdserver: not leader");
    let nobody = talk.refuses(leader, path, target(&json!("5"))).await;
    assert_eq!(nobody, "it answers 412: etcdserver: bad leader transferee");
    talk.says(leader, path, target(&own)).await;
    assert_eq!(talk.leader().await, one);

    // Without space nothing is written, every member says that it is not healthy, and why.
    let full = |action: &str| json!({ "action": action, "memberID": own, "alarm": "NOSPACE" });
    let alarm = "/v3/maintenance/alarm";
    let health = |at: usize| ask(&talk.world, &endpoints[at], &talk.access, "/health", None);
    assert_eq!(health(two).await.unwrap(), json!({ "health": "true" }));
    let raised = json!({ "alarms": [{ "memberID": own, "alarm": "NOSPACE" }] });
    assert_eq!(talk.says(one, alarm, full("ACTIVATE")).await, raised);
    assert_eq!(talk.says(two, alarm, json!({ "action": "GET" })).await, raised);
    let ill = health(two).await.err().unwrap();
    assert!(ill.message.starts_with("it answers 503"), "{ill}");
    let status = talk.status(two).await;
    assert_eq!(status["errors"], json!([format!("memberID:{} alarm:NOSPACE ", own.as_str().unwrap())]));
    let refused = talk.refuses(two, "/v3/kv/put", put("talk/c", "4")).await;
    assert!(refused.ends_with(": etcdserver: mvcc: database space exceeded"), "{refused}");
    assert_eq!(talk.says(one, alarm, full("DEACTIVATE")).await, raised);
    assert_eq!(talk.says(two, alarm, json!({ "action": "GET" })).await, json!({}));
    assert_eq!(health(two).await.unwrap(), json!({ "health": "true" }));
    talk.says(two, "/v3/kv/put", put("talk/c", "4")).await;

    // What nobody may ask.
    assert_eq!(
        talk.refuses(one, "/v3/kv/put", json!({})).await,
        "it answers 400: etcdserver: key is not provided"
    );
    assert!(talk.refuses(one, "/v3/no/such/thing", json!({})).await.starts_with("it answers 404"));
    let stranger = Talk { access: self::access(stranger, "client.pem", "client-key.pem"), ..talk };
    let anchors = Arc::clone(&self::access(files, "client.pem", "client-key.pem").anchors);
    let stranger = Talk { access: Access { anchors, ..stranger.access }, ..stranger };
    let refused = stranger.refuses(one, "/v3/maintenance/status", json!({})).await;
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
