//! What a run leaves in the lab's world.

use std::path::Path;
use std::time::Duration;

use sandbox::world::Fault;
use tests::state::{Look, Names};
pub(crate) use tests::state::{Markers, State, difference};

use crate::lab::{Lab, PKI};
use tests::hands::Hands;

impl Lab {
    /// Lets everything that is on its way arrive, with nothing restarting by itself any more.
    pub(crate) async fn calm(&self) {
        self.world.set_fault(Fault::NoRestarts);
        tokio::time::sleep(Duration::from_secs(240)).await;
        self.world.steady(Duration::from_secs(3600)).await.unwrap();
    }

    /// The state of the world and the PKI folder after a run; call [`Lab::calm`] before.
    pub(crate) async fn state(&self, run: &str, markers: Markers) -> State {
        let end = self.world.end_state().await;
        assert!(end.holds(), "{:?}", end.broken);
        let (kube, files) = (self.kube(), self.files());
        let folder = Path::new(PKI);
        let look = Look {
            kube: &kube,
            scenario: &sandbox::world::Scenario::default(),
            end: &end,
            run,
            markers,
            disk: &*self.disk,
            folder,
            files,
        };
        look.state(Names::of(self.world.pki())).await
    }
}
