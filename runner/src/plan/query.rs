//! Questions to a plan: its digest, its steps, what it touches.

use sha2::{Digest as _, Sha256};
use stdlib::registry::{Registry, Touch};

use super::{Expr, Fact, Phase, Plan, Step};

impl Plan {
    /// `sha256:` and the digest of the plan's canonical JSON (RFC 8785).
    ///
    /// # Errors
    /// A value that canonical JSON cannot express (a number that is not finite).
    pub fn digest(&self) -> Result<String, serde_json::Error> {
        let bytes = serde_json_canonicalizer::to_vec(self)?;
        Ok(format!("sha256:{}", hex::encode(Sha256::digest(bytes))))
    }

    /// Every step of the way forward, in the order in which they run.
    pub fn steps(&self) -> impl Iterator<Item = (&Phase, &Step)> {
        self.phases.iter().flat_map(|phase| phase.steps.iter().map(move |step| (phase, step)))
    }

    /// Every step, those of the declared way back included.
    pub fn all_steps(&self) -> impl Iterator<Item = (&Phase, &Step)> {
        self.phases
            .iter()
            .flat_map(|phase| phase.steps.iter().chain(&phase.back).map(move |step| (phase, step)))
    }

    /// The step of this key, back steps included.
    pub fn step(&self, key: &str) -> Option<&Step> {
        self.all_steps().map(|(_, step)| step).find(|step| step.key == key)
    }

    /// The phase of this name.
    pub fn phase(&self, name: &str) -> Option<&Phase> {
        self.phases.iter().find(|phase| phase.name == name)
    }

    /// What each step touches, deferred reads in its arguments, condition and list included.
    pub fn touches(&self, registry: &Registry) -> Vec<(&Step, Vec<Touch>)> {
        self.all_steps()
            .map(|(_, step)| {
                let mut touched = call_touches(&step.action.primitive, &step.action.args, registry);
                let queries = step.when.iter().chain(&step.each);
                for expr in step.action.args.iter().chain(queries) {
                    expr_touches(expr, registry, &mut touched);
                }
                touched.sort();
                touched.dedup();
                (step, touched)
            })
            .collect()
    }

    /// What reading the trust view touches.
    pub fn trust_touches(&self, registry: &Registry) -> Vec<Touch> {
        self.trust.as_ref().map_or_else(Vec::new, |call| {
            let mut touched = call_touches(&call.primitive, &call.args, registry);
            for arg in &call.args {
                expr_touches(arg, registry, &mut touched);
            }
            touched
        })
    }
}

impl Fact {
    /// What reading it touched.
    pub fn touches(&self, registry: &Registry) -> Vec<Touch> {
        registry.get(&self.primitive).map_or_else(Vec::new, |primitive| {
            let mut known = self.args.clone();
            known.resize(primitive.params.len(), serde_json::Value::Null);
            known.push(self.answer.clone());
            (primitive.touches)(&known)
        })
    }
}

fn call_touches(primitive: &str, args: &[Expr], registry: &Registry) -> Vec<Touch> {
    let args: Vec<_> = args.iter().map(Expr::to_value).collect();
    registry.get(primitive).map_or_else(Vec::new, |primitive| (primitive.touches)(&args))
}

fn expr_touches(expr: &Expr, registry: &Registry, touched: &mut Vec<Touch>) {
    expr.walk(&mut |part| {
        if let Expr::Call { primitive, args, .. } = part {
            touched.extend(call_touches(primitive, args, registry));
        }
    });
}
