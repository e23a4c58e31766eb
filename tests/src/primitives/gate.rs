//! A gate that remembers.

use std::sync::Mutex;

use futures::future::BoxFuture;
use stdlib::error::{Code, PrimError};
use stdlib::gate::{Effect, EffectClass, Gate, Past, Permit, Progress, RecordedEffect};

/// A gate that lets everything pass and remembers it.
#[derive(Default)]
pub(super) struct Remembering {
    pub(super) marker: String,
    pub(super) effects: Mutex<Vec<Effect>>,
    pub(super) progress: Mutex<Vec<String>>,
    pub(super) refusing: bool,
    pub(super) past: Vec<Past>,
}

impl Remembering {
    pub(super) fn new(marker: &str) -> Self {
        Self { marker: marker.into(), ..Self::default() }
    }

    pub(super) fn effects(&self) -> Vec<Effect> {
        self.effects.lock().unwrap().clone()
    }

    /// The only effect, as the record gives it back.
    pub(super) fn recorded(&self) -> RecordedEffect {
        let effects = self.effects();
        assert_eq!(effects.len(), 1, "{effects:?}");
        let effect = effects[0].clone();
        assert_eq!(effect.class, EffectClass::Restorable);
        RecordedEffect {
            place: effect.place,
            before: effect.before,
            after: effect.after,
            backup: effect.backup,
        }
    }
}

impl Gate for Remembering {
    fn effect(&self, effect: Effect) -> BoxFuture<'_, Result<Permit, PrimError>> {
        Box::pin(async move {
            if self.refusing {
                return Err(PrimError::new(Code::Refused, "the record cannot be written"));
            }
            self.effects.lock().unwrap().push(effect);
            Ok(Permit::Apply)
        })
    }
    fn progress(&self, progress: Progress) {
        self.progress.lock().unwrap().push(progress.text);
    }
    fn marker(&self) -> String {
        self.marker.clone()
    }
    fn history(&self) -> Vec<Past> {
        self.past.clone()
    }
}
