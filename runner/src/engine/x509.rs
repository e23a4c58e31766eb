//! The trust model of [`stdlib::trust`] behind the engine's port.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use stdlib::PrimError;
use stdlib::trust::{self, View, Write};
use time::OffsetDateTime;

use super::trust::{Forecasted, TrustModel};

/// Certificates, judged by the rules of each party's implementation.
#[derive(Debug, Default, Clone, Copy)]
pub struct X509;

fn view_of(value: &Value) -> Result<View, PrimError> {
    serde_json::from_value(value.clone())
        .map_err(|e| PrimError::internal(format!("the trust primitive answered no view: {e}")))
}

fn data(value: &impl Serialize) -> Result<Value, PrimError> {
    serde_json::to_value(value).map_err(|e| PrimError::internal(format!("the result is no data: {e}")))
}

impl TrustModel for X509 {
    fn forecast(
        &self,
        view: &Value,
        writes: &[Write],
        from: OffsetDateTime,
        until: OffsetDateTime,
        skew: Duration,
    ) -> Result<Forecasted, PrimError> {
        let forecast = trust::forecast(&view_of(view)?, writes, from, until, skew);
        Ok(Forecasted {
            gap_free: forecast.gap_free(),
            counterexample: forecast.counterexamples().first().map(ToString::to_string),
            result: data(&forecast)?,
        })
    }

    fn matrix(&self, view: &Value, at: OffsetDateTime) -> Result<Value, PrimError> {
        data(&trust::matrix(&view_of(view)?, at))
    }

    fn sources(&self, view: &Value) -> Result<Vec<String>, PrimError> {
        let parties = view_of(view)?.parties.into_iter();
        Ok(parties
            .flat_map(|party| [Some(party.source), party.anchors_source])
            .flatten()
            .map(|place| place.0)
            .collect())
    }
}
