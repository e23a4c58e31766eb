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
tests::stories_in_memory!(tell);

#[test]
fn a_rotation_by_primitives_refuses_no_handshake_forward_and_back() {
    virtual_time(async {
        let start = time::macros::datetime!(2026-11-22 06:00:00 UTC);
        let world = World::start(Options { start: Some(start), ..Options::in_process(1) }).await.unwrap();
        tests::primitives::rotation(&world).await;
        world.shutdown().await;
    });
}
