//! Steps that run together: every intent durable before the first begins, a width, outcomes in any order.

use std::collections::VecDeque;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use stdlib::PrimError;
use stdlib::error::Code;

use super::core::{Core, Unit};
use super::step::{Ready, groups};
use super::stop::Stop;
use crate::events::{Direction, Event, StepResult};
use crate::plan::{Role, Step};

impl Core {
    /// Runs the steps of one role, group by group, in order of declaration.
    pub(crate) async fn run_role(
        &self,
        phase: &str,
        direction: Direction,
        steps: &[Step],
        role: Role,
    ) -> Result<(), Stop> {
        for group in groups(steps, role) {
            let mut units = Vec::new();
            for step in &group {
                units.extend(self.expand(phase, direction, step).await?);
            }
            let width = group.first().and_then(|step| step.parallel).map_or(1, |p| p.width);
            self.run_units(units, width).await?;
            for step in group {
                self.close_each(phase, direction, step)?;
            }
        }
        // An outcome is made durable by the intent of the next step; the last has none.
        Ok(self.ledger.sync()?)
    }

    pub(crate) fn tell_skipped(&self, key: &str, direction: Direction) {
        self.hub.tell(&Event::StepEnded {
            step: key.to_owned(),
            direction,
            result: StepResult::Skipped,
            ms: 0,
            failure: None,
            again_in_ms: None,
        });
    }

    /// Runs units, `width` at once. One at a time means one intent at a time too: a later unit's arguments may need
    /// what an earlier one leaves.
    pub(crate) async fn run_units(&self, units: Vec<Unit<'_>>, width: u32) -> Result<(), Stop> {
        let mut open: VecDeque<Unit<'_>> =
            units.into_iter().filter(|unit| !self.ledger.is_done(&unit.id)).collect();
        if width <= 1 {
            while let Some(unit) = open.pop_front() {
                let ready = self.prepare(unit).await?;
                self.ledger.intent(&ready.unit.id, &ready.unit.step.action, &ready.args)?;
                self.attempts(ready).await?;
            }
            return Ok(());
        }
        let mut queue: VecDeque<Ready<'_>> = VecDeque::new();
        for unit in open {
            queue.push_back(self.prepare(unit).await?);
        }
        for ready in &queue {
            self.ledger.intent_beside(&ready.unit.id, &ready.unit.step.action, &ready.args)?;
        }
        let width = usize::try_from(width).unwrap_or(usize::MAX);
        let mut running = FuturesUnordered::new();
        let mut first: Option<Stop> = None;
        loop {
            while first.is_none() && running.len() < width {
                let Some(ready) = queue.pop_front() else { break };
                self.ledger.sync()?;
                running.push(self.attempts(ready));
            }
            match running.next().await {
                None => break,
                Some(Ok(())) => {}
                Some(Err(stop @ Stop::Failed(_))) => {
                    first.get_or_insert(stop);
                }
                Some(Err(stop)) => return Err(stop),
            }
        }
        self.ledger.sync()?;
        let Some(stop) = first else { return Ok(()) };
        for ready in queue {
            let text = "not begun: a step beside it failed";
            self.ledger.failed(&ready.unit.id, &PrimError::new(Code::Unavailable, text))?;
        }
        Err(stop)
    }
}
