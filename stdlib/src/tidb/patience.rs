//! When waiting for a rolling restart is given up: a component that has been ailing for long will not heal by waiting.

use time::{Duration, OffsetDateTime};

/// How long the same ailment may last. The operator looks at PD every few seconds and a pod is ready within a minute or
/// two; a store that moves its leaders away, or waits for its turn, does not ail.
const PATIENCE: Duration = Duration::minutes(10);

/// What has been ailing, and since when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Patience {
    ailment: Option<(String, OffsetDateTime)>,
}

impl Patience {
    /// Takes what ails now, and answers for how long it has once that is too long.
    pub(super) fn seen(&mut self, ailment: Option<String>, now: OffsetDateTime) -> Option<String> {
        let Some(ailment) = ailment else {
            self.ailment = None;
            return None;
        };
        match &self.ailment {
            Some((known, since)) if *known == ailment => {
                let lasted = now - *since;
                (lasted >= PATIENCE).then(|| format!("{ailment}, for {} minutes now", lasted.whole_minutes()))
            }
            _ => {
                self.ailment = Some((ailment, now));
                None
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn what_ails_for_long_is_given_up_and_what_comes_and_goes_is_not() {
        let start = datetime!(2026-11-22 10:00 UTC);
        let at = |minutes: i64| start + Duration::minutes(minutes);
        let pd = || Some("the operator cannot reach PD".to_owned());
        let mut patience = Patience::default();
        assert_eq!(patience.seen(pd(), at(0)), None);
        assert_eq!(patience.seen(pd(), at(9)), None);
        assert_eq!(patience.seen(None, at(10)), None, "it has healed");
        assert_eq!(patience.seen(pd(), at(11)), None);
        assert_eq!(patience.seen(Some("basic-pd-2 is not ready".into()), at(20)), None, "another ailment");
        let why = patience.seen(Some("basic-pd-2 is not ready".into()), at(31)).unwrap();
        assert_eq!(why, "basic-pd-2 is not ready, for 11 minutes now");
    }
}
