//! The sandbox's server answers as a real one does.

use std::sync::Arc;

use sandbox::api::{Options, Server};
use stdlib::world::TokioClock;
use tests::contract::{Peer, differences, held};

use crate::lab::{START, virtual_time};

#[test]
fn the_sandboxs_server_answers_as_a_real_one_does() {
    let said = virtual_time(async {
        let server = Server::new(Options::new(Arc::new(TokioClock::starting_at(START))).seed(7));
        server.set_rules("stranger", Some(Vec::new()));
        held(&Peer { admin: server.client("admin"), stranger: server.client("stranger") }).await
    });
    let found = differences(&said);
    assert!(found.is_empty(), "{found}");
}
