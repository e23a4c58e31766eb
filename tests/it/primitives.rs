//! The stories of `tests::primitives` in the sandbox, on virtual time.

use sandbox::world::{Options, World};

use crate::lab::virtual_time;

macro_rules! tell {
    ($($module:ident: $($story:ident)*;)*) => {
        $($(
            #[test]
            fn $story() {
                virtual_time(tests::primitives::in_memory(stringify!($story)));
            }
        )*)*
    };
}

tests::stories_everywhere!(tell);

#[test]
fn a_list_and_a_watch_of_versions_that_the_server_has_forgotten_begin_anew() {
    virtual_time(tests::primitives::forgotten_in_memory());
}

#[test]
fn a_rotation_by_primitives_refuses_no_handshake_forward_and_back() {
    virtual_time(async {
        let start = time::macros::datetime!(2026-11-22 06:00:00 UTC);
        let world = World::start(Options { start: Some(start), ..Options::in_process(1) }).await.unwrap();
        tests::primitives::rotation(&world).await;
        world.shutdown().await;
    });
}
