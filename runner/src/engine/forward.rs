//! The way forward, phase by phase. Resuming is the same code: what is done is skipped, what is in doubt runs again
//! through the gate.

use tokio::time::Instant;

use super::core::{Core, Unit};
use super::step::millis;
use super::stop::Stop;
use crate::error::Failure;
use crate::events::{Direction, Event, Question};
use crate::exit_code::ExitCode;
use crate::plan::{Expr, Phase, Role, Step};

impl Core {
    pub(crate) async fn forward(&self) -> Result<(), Stop> {
        self.take_lock().await?;
        let ended = |phase: &Phase| self.ledger.phase_ended(&phase.name, Direction::Forward);
        for (index, phase) in self.plan.phases.iter().enumerate() {
            if !ended(phase) {
                let next = self.plan.phases.iter().skip(index + 1).find(|phase| !ended(phase));
                self.phase_forward(index, phase, next).await?;
            }
        }
        Ok(())
    }

    pub(crate) fn tell_phase(&self, index: usize, phase: &Phase, direction: Direction) {
        self.hub.tell(&Event::PhaseStarted {
            phase: phase.name.clone(),
            why: phase.why.clone(),
            direction,
            number: index + 1,
            of: self.plan.phases.len(),
        });
    }

    async fn phase_forward(&self, index: usize, phase: &Phase, next: Option<&Phase>) -> Result<(), Stop> {
        let begun = Instant::now();
        let direction = Direction::Forward;
        self.tell_phase(index, phase, direction);
        self.ledger.phase_begin(&phase.name, direction)?;
        if !self.is_noted(&phase.name) {
            self.note_on_target(&phase.name).await;
        }
        for step in phase.steps.iter().filter(|step| step.role == Role::Stage) {
            for unit in self.expand(&phase.name, direction, step).await? {
                self.stage(unit).await?;
            }
            self.close_each(&phase.name, direction, step)?;
        }
        let changes = self.changes(phase).await?;
        self.forecast_forward(phase, &changes).await?;
        if phase.final_ && !self.ledger.approved("no-return", &phase.name, direction) {
            let question = Question::NoReturn { phase: phase.name.clone(), why: phase.why.clone() };
            if !self.ask(Some(&phase.name), direction, question).await? {
                let text = format!("going past the point of no return `{}` was not approved", phase.name);
                let failure = Failure::new(ExitCode::Declined, text);
                return Err(Stop::Refused(
                    failure.hint("`--yes-final` agrees beforehand, where nobody can be asked"),
                ));
            }
        }
        self.outage_begins(phase)?;
        for role in [Role::Change, Role::Settle, Role::Prove] {
            self.run_role(&phase.name, direction, &phase.steps, role).await?;
        }
        self.outage_ends(phase)?;
        self.phase_over(phase, next, direction, begun).await
    }

    /// The units of the phase's changes that have still to run, for the forecast. Their queries are journaled here,
    /// before the first intent.
    async fn changes<'p>(&self, phase: &'p Phase) -> Result<Vec<Unit<'p>>, Stop> {
        let mut units = Vec::new();
        for step in phase.steps.iter().filter(|step| step.role == Role::Change) {
            if let Some(earlier) = self.waits_for(phase, step) {
                self.may_be_late(phase, step, earlier)?;
                continue;
            }
            units.extend(self.expand(&phase.name, Direction::Forward, step).await?);
        }
        units.retain(|unit| !self.ledger.is_done(&unit.id));
        Ok(units)
    }

    /// A change of the same phase that this one takes something from and that is not done.
    fn waits_for<'p>(&self, phase: &'p Phase, step: &'p Step) -> Option<&'p str> {
        let queries = step.action.args.iter().chain(&step.when).chain(&step.each);
        let needed: Vec<&str> = queries.flat_map(Expr::steps).collect();
        let is_change = |key: &&str| phase.steps.iter().any(|s| s.role == Role::Change && s.key == **key);
        needed.into_iter().filter(is_change).find(|key| self.ledger.output(key).is_none())
    }

    /// What a change writes must be known before its phase begins, where trust depends on it.
    fn may_be_late(&self, phase: &Phase, step: &Step, earlier: &str) -> Result<(), Stop> {
        let matters = self.primitive(&step.action.primitive).is_ok_and(|p| p.forecast.is_some());
        if self.plan.trust.is_none() || !matters {
            return Ok(());
        }
        let text = format!(
            "what it writes is known only once `{earlier}` has run, so phase `{}` cannot be forecast",
            phase.name
        );
        let failure = Failure::new(ExitCode::ForecastRefused, text).in_step(&step.key, &step.at);
        Err(Stop::Refused(failure.hint("declare it in a phase of its own")))
    }

    /// Measures, closes the phase with the matrix, signs the head and writes it outside. The target is told with it at
    /// which phase the run is now, where another follows.
    pub(crate) async fn phase_over(
        &self,
        phase: &Phase,
        next: Option<&Phase>,
        direction: Direction,
        begun: Instant,
    ) -> Result<(), Stop> {
        let matrix = self.measure(&phase.name, direction).await?;
        if let Some(matrix) = &matrix {
            self.hub.tell(&Event::Matrix { phase: phase.name.clone(), direction, matrix: matrix.clone() });
        }
        self.ledger.phase_end(&phase.name, direction, matrix)?;
        let head = self.ledger.checkpoint()?;
        self.note_on_target(&next.unwrap_or(phase).name).await;
        self.hub.tell(&Event::PhaseEnded { phase: phase.name.clone(), direction, ms: millis(begun), head });
        Ok(())
    }
}
