//! etcd on real hosts: real members, a real `sshd` each, the real program, and an application that holds them to what they
//! acknowledged.

mod confirmed;
mod expired;
mod faults;
mod hosts;
mod members;
mod rotation;
mod verify;
mod writer;
