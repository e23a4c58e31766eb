//! What an API server's refusal means: `kube::Error` to [`PrimError`], in one place.

use std::time::Duration;

use crate::error::{Code, PrimError};

use super::forward;
use super::object::Ref;

/// One request, for the words of its failure.
#[derive(Debug, Clone)]
pub struct Attempt<'a> {
    /// RBAC verb.
    pub verb: &'a str,
    /// The object; an empty name for a collection.
    pub object: &'a Ref,
    /// Its subresource, or nothing.
    pub part: &'a str,
    /// What the server calls objects of its kind; empty where that is what the API conventions make of it.
    pub plural: &'a str,
}

/// The kind that stands for a path of the server which is no object.
pub(super) const PATH: &str = "path";

/// The rule that a role lacks, as one line of YAML that can be pasted under `rules:`.
pub fn rule(attempt: &Attempt<'_>) -> String {
    if attempt.object.kind == PATH {
        return format!("- {{nonResourceURLs: [\"{}\"], verbs: [\"get\"]}}", attempt.object.name);
    }
    let resource = attempt.object.resource();
    let plural = if attempt.plural.is_empty() { &resource.plural } else { attempt.plural };
    // `create` and `list` cannot be limited to a name.
    let streamed = matches!(attempt.part, "portforward" | "exec");
    let nameless = streamed || matches!(attempt.verb, "create" | "list" | "watch");
    // Nor is a pod that is made anew called as the last one.
    let nameless = nameless || attempt.part == "log";
    let names = if attempt.object.name.is_empty() || nameless {
        String::new()
    } else {
        format!(", resourceNames: [\"{}\"]", attempt.object.name)
    };
    let slash = if attempt.part.is_empty() { "" } else { "/" };
    // A WebSocket is asked for one or both, as old as the server is.
    let verbs = if streamed { forward::VERBS.join("\", \"") } else { attempt.verb.to_owned() };
    format!(
        "- {{apiGroups: [\"{}\"], resources: [\"{}{slash}{}\"], verbs: [\"{verbs}\"]{names}}}",
        resource.group, plural, attempt.part
    )
}

/// A failed request in the operator's words.
pub fn explain(error: &kube::Error, attempt: &Attempt<'_>) -> PrimError {
    let object = attempt.object.to_string();
    let kube::Error::Api(status) = error else {
        let why = root_cause(error);
        let hint = if why.contains("certificate") {
            "the kubeconfig must hold the CA that has signed the server's certificate (`certificate-authority-data`), and a client certificate that is valid; correct it, then run `rollover resume`"
        } else {
            "check the connection (`kubectl version`), then run `rollover resume`"
        };
        return PrimError::new(Code::Unavailable, format!("the API server did not answer: {why}"))
            .on(object)
            .hint(hint);
    };
    let said = status.message.as_str();
    match status.code {
        // A webhook answers with a code of its own choice; where it gives none, older servers take 400 and newer ones 403.
        400..=499 if admission(said) => {
            PrimError::new(Code::Forbidden, format!("an admission rule says no: {said}"))
                .on(object)
                .hint("the rule's owner has to allow this change")
        }
        401 => PrimError::new(Code::Forbidden, format!("the API server does not know us: {said}"))
            .on(object)
            .hint("log in again; `kubectl auth whoami` shows who you are"),
        403 => {
            let scope = if attempt.object.namespace.is_empty() {
                "a ClusterRole".to_owned()
            } else {
                format!("a Role in namespace `{}`", attempt.object.namespace)
            };
            PrimError::new(Code::Forbidden, format!("this account may not `{}` it: {said}", attempt.verb))
                .on(object)
                .hint(format!("add this rule to {scope}: {}", rule(attempt)))
        }
        404 => PrimError::not_found("it does not exist").on(object),
        409 => PrimError::new(Code::Conflict, format!("it changed while we were working: {said}")).on(object),
        400 | 422 => PrimError::invalid(format!("the API server refuses the content: {said}")).on(object),
        413 => PrimError::invalid("the content is too large for the API server").on(object),
        429 if budget(status).is_some() => {
            let why = budget(status).unwrap_or_default();
            PrimError::new(Code::Conflict, format!("a PodDisruptionBudget keeps it: {why}")).on(object)
        }
        429 => PrimError::new(Code::Unavailable, "the API server asks us to slow down").on(object),
        code @ 500..=599 => {
            PrimError::new(Code::Unavailable, format!("the API server answers {code}: {said}")).on(object)
        }
        code => {
            PrimError::new(Code::Unavailable, format!("the API server answers {code}: {said}")).on(object)
        }
    }
}

/// Whether the request may be sent again as it is: it was throttled, or nothing useful came back.
pub fn transient(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => {
            matches!(status.code, 429 | 500 | 502 | 503 | 504) && budget(status).is_none()
        }
        // A wrong certificate does not become right by waiting.
        kube::Error::Service(_) => !root_cause(error).contains("certificate"),
        kube::Error::HyperError(_) | kube::Error::ReadEvents(_) => true,
        _ => false,
    }
}

/// How long the server wants us to wait, where it says so.
pub fn retry_after(error: &kube::Error) -> Option<Duration> {
    let kube::Error::Api(status) = error else { return None };
    let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    (seconds > 0).then(|| Duration::from_secs(u64::from(seconds).min(30)))
}

/// What a budget says that does not let a pod be evicted.
fn budget(status: &kube::core::Status) -> Option<&str> {
    let causes = status.details.as_ref().map(|details| details.causes.as_slice())?;
    causes.iter().find(|cause| cause.reason == "DisruptionBudget").map(|cause| cause.message.as_str())
}

fn admission(message: &str) -> bool {
    message.contains("admission webhook") || message.contains("ValidatingAdmissionPolicy")
}

fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(kube::core::Status { code, message: message.into(), ..Default::default() }.boxed())
    }

    #[test]
    fn a_refusal_names_the_rule_to_add() {
        let secret = Ref::secret("tidb", "basic-pd-cluster-secret");
        let error = explain(
            &api(403, "secrets \"basic-pd-cluster-secret\" is forbidden"),
            &Attempt { verb: "patch", object: &secret, part: "", plural: "" },
        );
        assert_eq!(error.code, Code::Forbidden);
        assert_eq!(
            error.hint.as_deref(),
            Some(
                "add this rule to a Role in namespace `tidb`: - {apiGroups: [\"\"], resources: [\"secrets\"], \
                 verbs: [\"patch\"], resourceNames: [\"basic-pd-cluster-secret\"]}"
            )
        );
        let list = Attempt {
            verb: "list",
            object: &Ref::new("apps/v1", "Deployment", "tidb", ""),
            part: "",
            plural: "",
        };
        assert_eq!(rule(&list), "- {apiGroups: [\"apps\"], resources: [\"deployments\"], verbs: [\"list\"]}");
        let log = Attempt {
            verb: "get",
            object: &Ref::new("v1", "Pod", "tidb", "basic-pd-0"),
            part: "log",
            plural: "",
        };
        assert_eq!(rule(&log), "- {apiGroups: [\"\"], resources: [\"pods/log\"], verbs: [\"get\"]}");
        let person = Ref::new("example.com/v1", "Person", "tidb", "a");
        let named = Attempt { verb: "get", object: &person, part: "", plural: "people" };
        assert!(rule(&named).contains("resources: [\"people\"]"), "{}", rule(&named));
        let path = Ref::new("", PATH, "", "/apis/example.com/v1");
        let asked = Attempt { verb: "get", object: &path, part: "", plural: "" };
        assert_eq!(rule(&asked), "- {nonResourceURLs: [\"/apis/example.com/v1\"], verbs: [\"get\"]}");
    }

    #[test]
    fn every_status_has_its_code_and_only_the_passing_ones_are_retried() {
        let object = Ref::secret("tidb", "a");
        let attempt = Attempt { verb: "get", object: &object, part: "", plural: "" };
        for (status, code, again) in [
            (400, Code::Invalid, false),
            (401, Code::Forbidden, false),
            (403, Code::Forbidden, false),
            (404, Code::NotFound, false),
            (409, Code::Conflict, false),
            (422, Code::Invalid, false),
            (429, Code::Unavailable, true),
            (500, Code::Unavailable, true),
            (503, Code::Unavailable, true),
        ] {
            let error = api(status, "said so");
            assert_eq!(explain(&error, &attempt).code, code, "{status}");
            assert_eq!(transient(&error), again, "{status}");
        }
        for status in [400, 403, 422] {
            let webhook = api(status, "admission webhook \"policy.example\" denied the request: no");
            let error = explain(&webhook, &attempt);
            assert!(error.message.contains("admission rule says no"), "{error}");
            assert_eq!(error.code, Code::Forbidden);
        }
    }
}
