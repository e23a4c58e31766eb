//! What a member answers by gRPC: what a rotation asks and an application needs, in the words of etcd 3.4.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::proto::{
    PbAlarmMember, PbAlarmRequest, PbAlarmResponse, PbClusterServer, PbClusterService, PbCompactionRequest,
    PbCompactionResponse, PbDefragmentRequest, PbDefragmentResponse, PbDeleteRequest, PbDeleteResponse,
    PbDowngradeRequest, PbDowngradeResponse, PbHashKvRequest, PbHashKvResponse, PbHashRequest,
    PbHashResponse, PbKeyValue, PbKvServer, PbKvService, PbMaintenanceServer, PbMaintenanceService, PbMember,
    PbMemberAddRequest, PbMemberAddResponse, PbMemberListRequest, PbMemberListResponse,
    PbMemberPromoteRequest, PbMemberPromoteResponse, PbMemberRemoveRequest, PbMemberRemoveResponse,
    PbMemberUpdateRequest, PbMemberUpdateResponse, PbMoveLeaderRequest, PbMoveLeaderResponse, PbPutRequest,
    PbPutResponse, PbRangeRequest, PbRangeResponse, PbRangeStreamResponse, PbResponseHeader,
    PbSnapshotRequest, PbSnapshotResponse, PbStatusRequest, PbStatusResponse, PbTxnRequest, PbTxnResponse,
};
use etcd_client::{AlarmAction, AlarmType};
use sha2::{Digest as _, Sha256};
use tonic::service::Routes;
use tonic::{Request, Response, Status, async_trait};

use super::member::Member;
use super::store::{Kept, Store};

/// The version whose answers these are.
const VERSION: &str = "3.4.23";
/// How long a member looks for a leader before it gives up on a request.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(50);
/// How much of a snapshot one message carries.
const CHUNK: usize = 32 << 10;
/// What real members say to whoever writes while there is an alarm.
const FULL: &str = "etcdserver: mvcc: database space exceeded";

type Answer<T> = Result<Response<T>, Status>;
type Messages<T> = futures::stream::Iter<std::vec::IntoIter<Result<T, Status>>>;

/// What one member serves.
pub(super) fn routes(member: &Arc<Member>) -> Routes {
    let face = || Face(Arc::clone(member));
    Routes::new(PbKvServer::new(face()))
        .add_service(PbClusterServer::new(face()))
        .add_service(PbMaintenanceServer::new(face()))
}

struct Face(Arc<Member>);

fn unimplemented<T>() -> Answer<T> {
    Err(Status::unimplemented("not in the sandbox"))
}

#[async_trait]
impl PbKvService for Face {
    type RangeStreamStream = Messages<PbRangeStreamResponse>;

    async fn range(&self, asked: Request<PbRangeRequest>) -> Answer<PbRangeResponse> {
        range(&self.0, asked.get_ref()).await.map(Response::new)
    }

    async fn range_stream(&self, _: Request<PbRangeRequest>) -> Answer<Self::RangeStreamStream> {
        unimplemented()
    }

    async fn put(&self, asked: Request<PbPutRequest>) -> Answer<PbPutResponse> {
        let PbPutRequest { key, value, .. } = asked.get_ref();
        put(&self.0, key, value).await.map(Response::new)
    }

    async fn delete_range(&self, _: Request<PbDeleteRequest>) -> Answer<PbDeleteResponse> {
        unimplemented()
    }

    async fn txn(&self, _: Request<PbTxnRequest>) -> Answer<PbTxnResponse> {
        unimplemented()
    }

    async fn compact(&self, _: Request<PbCompactionRequest>) -> Answer<PbCompactionResponse> {
        unimplemented()
    }
}

#[async_trait]
impl PbClusterService for Face {
    async fn member_list(&self, _: Request<PbMemberListRequest>) -> Answer<PbMemberListResponse> {
        Ok(Response::new(members(&self.0)))
    }

    async fn member_add(&self, _: Request<PbMemberAddRequest>) -> Answer<PbMemberAddResponse> {
        unimplemented()
    }

    async fn member_remove(&self, _: Request<PbMemberRemoveRequest>) -> Answer<PbMemberRemoveResponse> {
        unimplemented()
    }

    async fn member_update(&self, _: Request<PbMemberUpdateRequest>) -> Answer<PbMemberUpdateResponse> {
        unimplemented()
    }

    async fn member_promote(&self, _: Request<PbMemberPromoteRequest>) -> Answer<PbMemberPromoteResponse> {
        unimplemented()
    }
}

#[async_trait]
impl PbMaintenanceService for Face {
    type SnapshotStream = Messages<PbSnapshotResponse>;

    async fn alarm(&self, asked: Request<PbAlarmRequest>) -> Answer<PbAlarmResponse> {
        Ok(Response::new(alarm(&self.0, asked.get_ref())))
    }

    async fn status(&self, _: Request<PbStatusRequest>) -> Answer<PbStatusResponse> {
        Ok(Response::new(status(&self.0)))
    }

    async fn snapshot(&self, _: Request<PbSnapshotRequest>) -> Answer<Self::SnapshotStream> {
        let messages: Vec<_> = snapshot(&self.0).into_iter().map(Ok).collect();
        Ok(Response::new(futures::stream::iter(messages)))
    }

    async fn move_leader(&self, asked: Request<PbMoveLeaderRequest>) -> Answer<PbMoveLeaderResponse> {
        let target = self.0.number_of(asked.get_ref().target_id);
        let done = self.0.raft().transfer(self.0.number(), target);
        done.map_err(|why| {
            if why.contains("timed out") {
                Status::unavailable(why)
            } else {
                Status::failed_precondition(why)
            }
        })?;
        Ok(Response::new(PbMoveLeaderResponse { header: None }))
    }

    async fn defragment(&self, _: Request<PbDefragmentRequest>) -> Answer<PbDefragmentResponse> {
        unimplemented()
    }

    async fn hash(&self, _: Request<PbHashRequest>) -> Answer<PbHashResponse> {
        unimplemented()
    }

    async fn hash_kv(&self, _: Request<PbHashKvRequest>) -> Answer<PbHashKvResponse> {
        unimplemented()
    }

    async fn downgrade(&self, _: Request<PbDowngradeRequest>) -> Answer<PbDowngradeResponse> {
        unimplemented()
    }
}

/// A number as protobuf has it.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn header(member: &Member, revision: Option<u64>) -> PbResponseHeader {
    PbResponseHeader {
        cluster_id: member.cluster_id(),
        member_id: member.id(),
        revision: revision.map_or(0, signed),
        raft_term: member.raft().status(member.number()).term,
    }
}

/// The one alarm that there is here: that a member has no more space.
fn alarm(member: &Member, asked: &PbAlarmRequest) -> PbAlarmResponse {
    let told = |numbers: Vec<usize>| PbAlarmResponse {
        header: None,
        alarms: numbers
            .into_iter()
            .map(|number| PbAlarmMember { member_id: member.id_of(number), alarm: AlarmType::Nospace as i32 })
            .collect(),
    };
    let raise = match AlarmAction::try_from(asked.action) {
        Ok(AlarmAction::Activate) => true,
        Ok(AlarmAction::Deactivate) => false,
        Ok(AlarmAction::Get) | Err(_) => return told(member.raft().full()),
    };
    let of = member.number_of(asked.member_id);
    let Some(of) = of.filter(|_| asked.alarm == AlarmType::Nospace as i32) else {
        return told(Vec::new());
    };
    member.raft().set_full(of, raise);
    told(vec![of])
}

fn status(member: &Member) -> PbStatusResponse {
    let (status, size, revision, full) = {
        let raft = member.raft();
        let store = raft.store(member.number());
        let (size, revision) = store.map_or((0, 0), |store| (store.size(), store.revision));
        (raft.status(member.number()), size, revision, raft.full())
    };
    let mut errors = Vec::new();
    if status.leader.is_none() {
        errors.push("etcdserver: no leader".to_owned());
    }
    errors.extend(full.into_iter().map(|number| format!("memberID:{} alarm:NOSPACE ", member.id_of(number))));
    PbStatusResponse {
        header: Some(header(member, Some(revision))),
        version: VERSION.to_owned(),
        db_size: signed(size),
        db_size_in_use: signed(size.saturating_sub(4096)),
        leader: status.leader.map_or(0, |leader| member.id_of(leader)),
        raft_index: status.index,
        raft_term: status.term,
        raft_applied_index: status.applied,
        errors,
        ..PbStatusResponse::default()
    }
}

fn members(member: &Member) -> PbMemberListResponse {
    let rows = member.all().map(|(id, name, ip)| PbMember {
        id,
        name,
        peer_ur_ls: vec![format!("https://{ip}:{}", super::PEERS)],
        client_ur_ls: vec![format!("https://{ip}:{}", super::CLIENTS)],
        is_learner: false,
    });
    PbMemberListResponse { header: Some(header(member, None)), members: rows.collect() }
}

fn snapshot(member: &Member) -> Vec<PbSnapshotResponse> {
    let database = member.raft().store(member.number()).map(Store::dump).unwrap_or_default();
    let mut left = database.len();
    let message = |left: usize, blob: &[u8]| PbSnapshotResponse {
        remaining_bytes: left as u64,
        blob: blob.to_vec(),
        ..PbSnapshotResponse::default()
    };
    let mut messages: Vec<_> = database
        .chunks(CHUNK)
        .map(|chunk| {
            left -= chunk.len();
            message(left, chunk)
        })
        .collect();
    messages.push(message(0, &Sha256::digest(&database)));
    messages
}

/// Tries until there is a leader with a majority, as long as a member has patience.
async fn patiently<T>(member: &Member, mut attempt: impl FnMut() -> Option<T>) -> Result<T, Status> {
    let end = member.clock().now() + PATIENCE;
    loop {
        if let Some(done) = attempt() {
            return Ok(done);
        }
        if member.clock().now() >= end {
            return Err(Status::unavailable("etcdserver: request timed out"));
        }
        member.clock().sleep(PAUSE).await;
    }
}

fn keyed(key: &[u8]) -> Result<(), Status> {
    if key.is_empty() { Err(Status::invalid_argument("etcdserver: key is not provided")) } else { Ok(()) }
}

/// Writes a key.
pub(crate) async fn put(member: &Member, key: &[u8], value: &[u8]) -> Result<PbPutResponse, Status> {
    keyed(key)?;
    if !member.raft().full().is_empty() {
        return Err(Status::resource_exhausted(FULL));
    }
    let revision = patiently(member, || member.raft().put(member.number(), key, value)).await?;
    Ok(PbPutResponse { header: Some(header(member, Some(revision))), prev_kv: None })
}

/// Reads keys.
pub(crate) async fn range(member: &Member, asked: &PbRangeRequest) -> Result<PbRangeResponse, Status> {
    keyed(&asked.key)?;
    let found = patiently(member, || {
        let mut raft = member.raft();
        let store =
            if asked.serializable { raft.store(member.number()) } else { raft.read(member.number()) }?;
        let rows: Vec<_> =
            store.range(&asked.key, &asked.range_end).map(|(key, kept)| row(key, kept)).collect();
        Some((store.revision, rows))
    });
    let (revision, kvs) = found.await?;
    Ok(PbRangeResponse {
        header: Some(header(member, Some(revision))),
        count: signed(kvs.len() as u64),
        more: false,
        kvs,
    })
}

fn row(key: &[u8], kept: &Kept) -> PbKeyValue {
    PbKeyValue {
        key: key.to_vec(),
        create_revision: signed(kept.created),
        mod_revision: signed(kept.modified),
        version: signed(kept.version),
        value: kept.value.clone(),
        lease: 0,
    }
}
