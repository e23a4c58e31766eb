//! etcd on real hosts: real members, a real `sshd` each, the real program, and an application that holds them to what they
//! acknowledged.

mod ack;
mod apart;
mod bench;
mod confirmed;
mod contract;
mod expired;
mod faults;
mod field;
mod hosts;
mod lab;
mod masters;
mod members;
mod order;
mod rotation;
mod sandbox;
mod stopped;
mod verify;
mod writer;
