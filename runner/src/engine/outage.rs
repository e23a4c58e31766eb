//! How long a declared outage lasted: from before the first change of its phase to the end of its proofs, whatever number
//! of processes it took. Its beginning is a note of the record.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::core::Core;
use super::stop::Stop;
use crate::plan::Phase;

impl Core {
    /// Notes that an outage begins, unless that is on record already.
    pub(crate) fn outage_begins(&self, phase: &Phase) -> Result<(), Stop> {
        if phase.outage && self.ledger.noted(&began(phase)).is_none() {
            let now = self.world.clock.now().format(&Rfc3339).unwrap_or_default();
            self.ledger.note(&format!("{}{now}", began(phase)))?;
        }
        Ok(())
    }

    /// Tells how long it lasted.
    pub(crate) fn outage_ends(&self, phase: &Phase) -> Result<(), Stop> {
        let Some(since) = self.ledger.noted(&began(phase)) else { return Ok(()) };
        let Ok(since) = OffsetDateTime::parse(&since, &Rfc3339) else { return Ok(()) };
        let lasted = self.world.clock.now() - since;
        let text = format!(
            "the outage of phase `{}` lasted {:.1} s, until every proof held",
            phase.name,
            lasted.as_seconds_f64()
        );
        self.ledger.note(&text)?;
        self.hub.note(text);
        Ok(())
    }
}

fn began(phase: &Phase) -> String {
    format!("the outage of phase `{}` began at ", phase.name)
}
