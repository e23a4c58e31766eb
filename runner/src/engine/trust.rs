//! Trust before and after each phase (law 5): read, forecast, refuse or accept, measure.

use std::sync::PoisonError;
use std::time::Duration;

use serde_json::{Value, json};
use stdlib::PrimError;
use stdlib::gate::EffectClass;
use stdlib::trust::{Certs, Write};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::core::{Core, Unit};
use super::gate::half;
use super::ledger::{Made, StepId};
use super::stop::Stop;
use crate::error::Failure;
use crate::events::{Direction, Event, Question};
use crate::exit_code::ExitCode;
use crate::plan::{Expr, Phase, Role, Step};

/// How long a measurement is good for the forecast that follows it.
const FRESH: Duration = Duration::from_secs(5);

/// What a forecast says.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecasted {
    /// Whether every link holds throughout.
    pub gap_free: bool,
    /// The first link that would break, with the combination and the reason, in words.
    pub counterexample: Option<String>,
    /// Everything, for the record and the reporter.
    pub result: Value,
}

/// The trust model, as the engine needs it. `view` is what the plan's trust primitive answered.
pub trait TrustModel: Send + Sync {
    /// Whether every link that holds now keeps holding while `writes` are made and loaded, from `from` until `until`,
    /// give or take `skew`.
    ///
    /// # Errors
    /// The view is malformed.
    fn forecast(
        &self,
        view: &Value,
        writes: &[Write],
        from: OffsetDateTime,
        until: OffsetDateTime,
        skew: Duration,
    ) -> Result<Forecasted, PrimError>;

    /// Who trusts whom at this moment.
    ///
    /// # Errors
    /// The view is malformed.
    fn matrix(&self, view: &Value, at: OffsetDateTime) -> Result<Value, PrimError>;

    /// The places that parties load from.
    ///
    /// # Errors
    /// The view is malformed.
    fn sources(&self, view: &Value) -> Result<Vec<String>, PrimError>;
}

impl Core {
    async fn view(&self, phase: &str, direction: Direction) -> Result<Option<Value>, Stop> {
        let Some(call) = &self.plan.trust else { return Ok(None) };
        let id = StepId { phase: phase.to_owned(), direction, key: format!("{phase}/trust") };
        let gate = self.read_gate(phase, direction);
        let read = async {
            let primitive = self.primitive(&call.primitive)?;
            let args = self.values(&id, &call.args, None).await?;
            (primitive.run)(&self.world, &args, &gate).await
        };
        read.await.map(Some).map_err(|error| {
            let failure = Failure::of(ExitCode::of_step(&error), error);
            Stop::Failed(failure.hint("who trusts whom must be known before the run can go on"))
        })
    }

    /// Who trusts whom now, or nothing for a plan that says nothing about trust.
    pub(crate) async fn measure(&self, phase: &str, direction: Direction) -> Result<Option<Value>, Stop> {
        let Some(view) = self.view(phase, direction).await? else { return Ok(None) };
        let now = self.world.clock.now();
        let matrix = self.options.trust.matrix(&view, now).map_err(model_failed)?;
        *self.measured.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), view));
        Ok(Some(matrix))
    }

    /// What was measured a moment ago, once. A phase ends where the next begins, and nothing is changed in between.
    fn just_measured(&self) -> Option<Value> {
        let measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner).take();
        measured.filter(|(at, _)| at.elapsed() < FRESH).map(|(_, view)| view)
    }

    pub(crate) async fn forecast_forward(&self, phase: &Phase, changes: &[Unit<'_>]) -> Result<(), Stop> {
        let settles = |role| phase.steps.iter().any(|step| step.role == role);
        if !(settles(Role::Change) || settles(Role::Settle)) {
            return Ok(());
        }
        let Some(view) = self.forecast_view(phase, Direction::Forward).await? else { return Ok(()) };
        let mut writes = Vec::new();
        for unit in changes {
            let written = self.writes_of(unit).await;
            writes.extend(written.map_err(|e| Stop::Failed(self.failed(&unit.id, unit.step, e)))?);
        }
        // Whoever only goes forward is asked about an outage: not where nobody loads what a phase lays somewhere.
        if self.plan.forward_only && !phase.outage && writes.is_empty() && !settles(Role::Settle) {
            return Ok(());
        }
        self.judge_forecast(phase, Direction::Forward, &view, &writes).await
    }

    async fn writes_of(&self, unit: &Unit<'_>) -> Result<Vec<Write>, PrimError> {
        let Some(forecast) = self.primitive(&unit.step.action.primitive)?.forecast else {
            return Ok(Vec::new());
        };
        let args = self.arguments(unit).await?;
        forecast(&self.world, &args)
    }

    /// Going back writes what was there before, at the places that parties load from.
    pub(crate) async fn forecast_back(&self, phase: &Phase, effects: &[Made]) -> Result<(), Stop> {
        let Some(view) = self.forecast_view(phase, Direction::Back).await? else { return Ok(()) };
        let sources = self.options.trust.sources(&view).map_err(model_failed)?;
        let mut writes = Vec::new();
        let loaded = effects
            .iter()
            .filter(|effect| effect.class == EffectClass::Restorable && sources.contains(&effect.place.0));
        for effect in loaded {
            let certs = |key: &str| {
                half(&effect.summary, "before", key).map(Certs::from_pem).transpose().map_err(|_| {
                    let text = format!("what the record holds under `{key}` is no certificate");
                    model_failed(PrimError::invalid(text).on(effect.place.0.clone()))
                })
            };
            writes.push(Write {
                place: effect.place.clone(),
                chain: certs("tls.crt")?,
                anchors: certs("ca.crt")?,
            });
        }
        self.judge_forecast(phase, Direction::Back, &view, &writes).await
    }

    async fn forecast_view(&self, phase: &Phase, direction: Direction) -> Result<Option<Value>, Stop> {
        if !self.options.forecast {
            return Ok(None);
        }
        match self.just_measured() {
            Some(view) => Ok(Some(view)),
            None => self.view(&phase.name, direction).await,
        }
    }

    /// The longest that a phase may take, in seconds: the deadlines of all that can change or must still be proved, once
    /// for each item where there are several.
    async fn longest(&self, phase: &Phase, direction: Direction, view: &Value) -> Result<u64, Stop> {
        let mut seconds: u64 = 0;
        for step in phase.steps.iter().filter(|step| step.role != Role::Stage) {
            let items = match &step.each {
                Some(each) => self.items(phase, direction, step, each, view).await?,
                None => 1,
            };
            seconds = seconds.saturating_add(step.deadline_s.saturating_mul(items));
        }
        Ok(seconds)
    }

    /// How many items a step has. What cannot be asked yet, for it is made in this phase, counts as the parties that
    /// there are.
    async fn items(
        &self,
        phase: &Phase,
        direction: Direction,
        step: &Step,
        each: &Expr,
        view: &Value,
    ) -> Result<u64, Stop> {
        let id = StepId { phase: phase.name.clone(), direction, key: step.key.clone() };
        let known = self.ledger.expansion(&id)?.map(|found| found.items.map_or(0, |items| items.len()));
        let found = match known {
            Some(known) => Some(known),
            None => self.value(&id, each, None).await.ok().and_then(|items| items.as_array().map(Vec::len)),
        };
        let parties = || view.get("parties").and_then(Value::as_array).map_or(1, Vec::len);
        Ok(u64::try_from(found.unwrap_or_else(parties)).unwrap_or(u64::MAX))
    }

    async fn judge_forecast(
        &self,
        phase: &Phase,
        direction: Direction,
        view: &Value,
        writes: &[Write],
    ) -> Result<(), Stop> {
        let from = self.world.clock.now();
        let until = from + Duration::from_secs(self.longest(phase, direction, view).await?);
        let skew = self.options.skew;
        let forecast = self.options.trust.forecast(view, writes, from, until, skew).map_err(model_failed)?;
        let mut accepted = forecast.gap_free;
        let may_break = phase.outage || (self.plan.forward_only && direction == Direction::Forward);
        if !forecast.gap_free && may_break {
            accepted = self.ledger.approved("outage", &phase.name, direction);
            if !accepted {
                let question = Question::Outage {
                    phase: phase.name.clone(),
                    direction,
                    forecast: forecast.result.clone(),
                };
                accepted = self.ask(Some(&phase.name), direction, question).await?;
            }
        }
        let summary = json!({
            "gap_free": forecast.gap_free,
            "accepted": accepted && !forecast.gap_free,
            "result": forecast.result,
        });
        self.ledger.forecast(&phase.name, direction, summary)?;
        self.hub.tell(&Event::Forecast {
            phase: phase.name.clone(),
            direction,
            gap_free: forecast.gap_free,
            result: forecast.result,
        });
        if accepted {
            return Ok(());
        }
        let text = forecast.counterexample.unwrap_or_else(|| "a link would break".into());
        let what = match direction {
            Direction::Forward => "phase",
            Direction::Back => "undoing phase",
        };
        let failure =
            Failure::new(ExitCode::ForecastRefused, format!("{what} `{}` was not begun: {text}", phase.name));
        Err(Stop::Refused(if may_break {
            failure.hint("accept the outage with `--accept-outage` when the maintenance window is open")
        } else {
            failure.hint(
                "the state that every party has loaded must fit before the next phase; see the link named",
            )
        }))
    }
}

fn model_failed(error: PrimError) -> Stop {
    Stop::Failed(Failure::of(ExitCode::of_step(&error), error))
}
