//! etcd on real hosts: real members, a real `sshd` each, the real program, and an application that holds them to what they
//! acknowledged.

mod ack;
mod apart;
mod away;
mod bench;
mod confirmed;
mod contract;
mod expired;
mod faults;
mod field;
mod from_a_member;
mod hosts;
mod lab;
mod layouts;
mod masters;
mod members;
mod order;
mod readonly;
mod rotation;
mod sandbox;
mod serving;
mod stopped;
mod trouble;
mod verify;
mod writer;
