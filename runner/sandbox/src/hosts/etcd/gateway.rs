//! The JSON gateway of a member: what a rotation asks and an application needs, in the words of etcd 3.4.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::time::Duration;

use super::member::Member;
use super::store::Kept;

/// The version whose answers these are.
const VERSION: &str = "3.4.23";
/// How long a member looks for a leader before it gives up on a request.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(50);
/// How much of a snapshot one line carries.
const CHUNK: usize = 32 << 10;

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub status: u16,
    pub kind: &'static str,
    pub body: Vec<u8>,
}

impl Answer {
    fn json(status: u16, value: &Value) -> Self {
        Self { status, kind: "application/json", body: value.to_string().into_bytes() }
    }
    fn text(status: u16, text: &str) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", body: format!("{text}\n").into_bytes() }
    }
    /// As an API server answers whoever looks after it.
    pub(crate) fn healthy() -> Self {
        Self { status: 200, kind: "text/plain; charset=utf-8", body: b"ok".to_vec() }
    }
    /// As the gateway tells an error of gRPC.
    fn error(status: u16, code: u8, text: &str) -> Self {
        Self::json(status, &json!({ "error": text, "message": text, "code": code }))
    }
    /// The answer as whoever asked takes it.
    pub(crate) fn value(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

fn bytes(body: &Value, field: &str) -> Result<Vec<u8>, Answer> {
    let text = body.get(field).and_then(Value::as_str).unwrap_or_default();
    STANDARD.decode(text).map_err(|error| Answer::error(400, 3, &error.to_string()))
}

fn number(body: &Value, field: &str) -> u64 {
    let value = body.get(field);
    value.and_then(|value| value.as_u64().or_else(|| value.as_str()?.parse().ok())).unwrap_or(0)
}

/// Answers a request.
pub(crate) async fn respond(member: &Member, method: &str, path: &str, body: &[u8]) -> Answer {
    match (method, path) {
        ("GET", "/health") => return health(member),
        ("GET", "/version") => {
            return Answer::json(200, &json!({ "etcdserver": VERSION, "etcdcluster": "3.4.0" }));
        }
        ("POST", path) if path.starts_with("/v3/") => {}
        (_, path) if path.starts_with("/v3/") => return Answer::text(405, "Method Not Allowed"),
        _ => return Answer::text(404, "404 page not found"),
    }
    let body: Value = match serde_json::from_slice(body) {
        Ok(body) => body,
        Err(_) if body.is_empty() => return Answer::error(400, 3, "EOF"),
        Err(error) if error.is_eof() => return Answer::error(400, 3, "unexpected EOF"),
        Err(error) => return Answer::error(400, 3, &error.to_string()),
    };
    let answer = match path {
        "/v3/maintenance/status" => Ok(status(member)),
        "/v3/cluster/member/list" => Ok(members(member)),
        "/v3/maintenance/alarm" => alarm(member, &body),
        "/v3/maintenance/snapshot" => Ok(snapshot(member)),
        "/v3/maintenance/transfer-leadership" => Ok(transfer(member, &body)),
        "/v3/kv/put" => put(member, &body).await,
        "/v3/kv/range" => range(member, &body).await,
        _ => Ok(Answer::text(404, "Not Found")),
    };
    answer.unwrap_or_else(|refused| refused)
}

fn header(member: &Member, revision: Option<u64>) -> Value {
    let mut header = Map::new();
    let mut set = |name: &str, value: u64| header.insert(name.to_owned(), value.to_string().into());
    set("cluster_id", member.cluster_id());
    set("member_id", member.id());
    if let Some(revision) = revision {
        set("revision", revision);
    }
    set("raft_term", member.raft().status(member.number()).term);
    Value::Object(header)
}

/// What real members say to whoever writes while there is an alarm.
const FULL: &str = "etcdserver: mvcc: database space exceeded";

/// The one alarm that there is here: that a member has no more space.
fn alarm(member: &Member, body: &Value) -> Result<Answer, Answer> {
    let told = |numbers: Vec<usize>| {
        let rows: Vec<Value> = numbers
            .into_iter()
            .map(|number| json!({ "memberID": member.id_of(number).to_string(), "alarm": "NOSPACE" }))
            .collect();
        Answer::json(200, &if rows.is_empty() { json!({}) } else { json!({ "alarms": rows }) })
    };
    let of = member.number_of(number(body, "memberID"));
    let raise = match body.get("action").and_then(Value::as_str) {
        None | Some("GET") => return Ok(told(member.raft().full())),
        Some("ACTIVATE") => true,
        Some("DEACTIVATE") => false,
        Some(other) => return Err(Answer::error(400, 3, &format!("unknown value {other:?} for enum"))),
    };
    let Some(of) = of.filter(|_| body.get("alarm").is_some_and(|alarm| alarm == "NOSPACE")) else {
        return Ok(told(Vec::new()));
    };
    member.raft().set_full(of, raise);
    Ok(told(vec![of]))
}

fn health(member: &Member) -> Answer {
    let (led, full) = {
        let raft = member.raft();
        (raft.status(member.number()).leader.is_some(), !raft.full().is_empty())
    };
    let led = led && !full;
    let text = if led { r#"{"health":"true"}"# } else { r#"{"health":"false"}"# };
    Answer { status: if led { 200 } else { 503 }, kind: "text/plain; charset=utf-8", body: text.into() }
}

fn status(member: &Member) -> Answer {
    let (status, size, revision) = {
        let raft = member.raft();
        let store = raft.store(member.number());
        (
            raft.status(member.number()),
            store.map_or(0, super::store::Store::size),
            store.map_or(0, |s| s.revision),
        )
    };
    let mut answer = json!({
        "header": header(member, Some(revision)), "version": VERSION, "dbSize": size.to_string(),
        "raftIndex": status.index.to_string(), "raftTerm": status.term.to_string(),
        "raftAppliedIndex": status.applied.to_string(), "dbSizeInUse": (size - 4096).to_string(),
    });
    if let Some(fields) = answer.as_object_mut() {
        match status.leader {
            Some(leader) => fields.insert("leader".into(), member.id_of(leader).to_string().into()),
            None => fields.insert("errors".into(), json!(["etcdserver: no leader"])),
        };
        let full = member.raft().full();
        if !full.is_empty() {
            let told = |number: usize| format!("memberID:{} alarm:NOSPACE ", member.id_of(number));
            fields.insert("errors".into(), full.into_iter().map(told).collect::<Vec<_>>().into());
        }
    }
    Answer::json(200, &answer)
}

fn members(member: &Member) -> Answer {
    let rows: Vec<Value> = member
        .all()
        .map(|(id, name, ip)| {
            json!({
                "ID": id.to_string(), "name": name, "peerURLs": [format!("https://{ip}:{}", super::PEERS)],
                "clientURLs": [format!("https://{ip}:{}", super::CLIENTS)],
            })
        })
        .collect();
    Answer::json(200, &json!({ "header": header(member, None), "members": rows }))
}

fn transfer(member: &Member, body: &Value) -> Answer {
    let target = member.number_of(number(body, "targetID"));
    let done = member.raft().transfer(member.number(), target);
    match done {
        Ok(()) => Answer::json(200, &json!({ "header": header(member, None) })),
        Err(why) if why.contains("timed out") => Answer::error(503, 14, why),
        Err(why) => Answer::error(412, 9, why),
    }
}

fn snapshot(member: &Member) -> Answer {
    let database = member.raft().store(member.number()).map(super::store::Store::dump).unwrap_or_default();
    let hash = Sha256::digest(&database);
    let mut lines = Vec::new();
    let mut left = database.len();
    for chunk in database.chunks(CHUNK) {
        left -= chunk.len();
        // What is nothing is left out, as JSON of protobuf does.
        let mut result = json!({ "blob": STANDARD.encode(chunk) });
        if left > 0
            && let Some(result) = result.as_object_mut()
        {
            result.insert("remaining_bytes".into(), left.to_string().into());
        }
        lines.push(json!({ "result": result }).to_string());
    }
    lines.push(json!({ "result": { "blob": STANDARD.encode(hash) } }).to_string());
    Answer { status: 200, kind: "application/json", body: (lines.join("\n") + "\n").into_bytes() }
}

/// Tries until there is a leader with a majority, as long as a member has patience.
async fn patiently<T>(member: &Member, mut attempt: impl FnMut() -> Option<T>) -> Result<T, Answer> {
    let end = member.clock().now() + PATIENCE;
    loop {
        if let Some(done) = attempt() {
            return Ok(done);
        }
        if member.clock().now() >= end {
            return Err(Answer::error(503, 14, "etcdserver: request timed out"));
        }
        member.clock().sleep(PAUSE).await;
    }
}

async fn put(member: &Member, body: &Value) -> Result<Answer, Answer> {
    let (key, value) = (bytes(body, "key")?, bytes(body, "value")?);
    if key.is_empty() {
        return Err(Answer::error(400, 3, "etcdserver: key is not provided"));
    }
    if !member.raft().full().is_empty() {
        return Err(Answer::error(429, 8, FULL));
    }
    let revision = patiently(member, || member.raft().put(member.number(), &key, &value)).await?;
    Ok(Answer::json(200, &json!({ "header": header(member, Some(revision)) })))
}

async fn range(member: &Member, body: &Value) -> Result<Answer, Answer> {
    let (key, end) = (bytes(body, "key")?, bytes(body, "range_end")?);
    if key.is_empty() {
        return Err(Answer::error(400, 3, "etcdserver: key is not provided"));
    }
    let local = body.get("serializable").and_then(Value::as_bool).unwrap_or(false);
    let found = patiently(member, || {
        let mut raft = member.raft();
        let store = if local { raft.store(member.number()) } else { raft.read(member.number()) }?;
        let rows: Vec<Value> = store.range(&key, &end).map(|(key, kept)| row(key, kept)).collect();
        Some((store.revision, rows))
    });
    let (revision, rows) = found.await?;
    let mut answer = json!({ "header": header(member, Some(revision)) });
    if let Some(fields) = answer.as_object_mut().filter(|_| !rows.is_empty()) {
        fields.insert("count".into(), rows.len().to_string().into());
        fields.insert("kvs".into(), rows.into());
    }
    Ok(Answer::json(200, &answer))
}

fn row(key: &[u8], kept: &Kept) -> Value {
    json!({
        "key": STANDARD.encode(key), "create_revision": kept.created.to_string(), "mod_revision": kept.modified.to_string(),
        "version": kept.version.to_string(), "value": STANDARD.encode(&kept.value),
    })
}
