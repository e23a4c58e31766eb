//! A cluster of etcd: members that speak TLS with what they loaded, agree by majorities, and answer as etcd 3.4 does.

mod member;
mod raft;
mod service;
mod store;

pub(super) use member::{CLIENTS, Member, PEERS, Paths};
pub(super) use raft::Raft;
pub(super) use service::{put, range};
