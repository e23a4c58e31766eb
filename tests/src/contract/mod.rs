//! What our primitives take for granted of an API server, as a talk with one: the same talk is held with the sandbox's
//! server and with a real one, and both must answer as `expected.txt` has it. A difference is a bug of the sandbox.
//!
//! What a server makes up (uids, versions, times) is left out; of a refusal its code, reason and words are kept, except
//! where Kubernetes itself has changed the words since 1.20.

mod api;
mod kinds;
mod primitives;
mod talk;
mod weather;

pub use talk::Talk;

/// A server to talk with.
#[allow(missing_debug_implementations, reason = "a client has nothing to show")]
pub struct Peer {
    /// May do everything.
    pub admin: kube::Client,
    /// May do nothing.
    pub stranger: kube::Client,
}

/// Holds the whole talk, and gives what was said.
pub async fn held(peer: &Peer) -> String {
    let mut talk = Talk::new(peer.admin.clone());
    api::talk(&mut talk, peer).await;
    primitives::talk(&mut talk, peer).await;
    kinds::talk(&mut talk, peer).await;
    weather::talk(&mut talk, peer).await;
    talk.text()
}

/// What both servers must say.
const EXPECTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/contract/expected.txt");

/// The first lines in which a talk differs from what is expected; empty where it does not. `CONTRACT_SAID` names a file to
/// write the whole talk to.
pub fn differences(said: &str) -> String {
    if let Ok(file) = std::env::var("CONTRACT_SAID") {
        std::fs::write(file, said).unwrap();
    }
    let expected = std::fs::read_to_string(EXPECTED).unwrap();
    let mut found = Vec::new();
    let (mut said, mut expected) = (said.lines(), expected.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (said.next(), expected.next()) {
            (None, None) => break,
            (ours, theirs) if ours == theirs => {}
            (ours, theirs) => found.push(format!(
                "{number}: expected {}\n{number}:    found {}",
                theirs.unwrap_or("nothing"),
                ours.unwrap_or("nothing")
            )),
        }
        if found.len() == 10 {
            break;
        }
    }
    found.join("\n")
}
