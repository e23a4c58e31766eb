//! Channels in a WebSocket, as `pods/portforward` and `pods/exec` speak them: the upgrade, and what its failure means.

use kube::client::{Connection, UpgradeConnectionError};

use super::errors::{Attempt, explain};
use crate::error::{Code, PrimError};

/// Opens a subresource of a pod.
///
/// # Errors
/// The server says no, as [`explain`] tells it, or does not speak the protocol.
pub(super) async fn open(
    client: &kube::Client,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    attempt: &Attempt<'_>,
) -> Result<Connection, PrimError> {
    let request = request.map_err(|error| PrimError::internal(error.to_string()))?;
    client.connect(request).await.map_err(|error| match &error {
        kube::Error::UpgradeConnection(failure) => not_upgraded(failure, attempt),
        _ => explain(&error, attempt),
    })
}

/// Something between us and the API server took the upgrade away, or the kubelet does not answer.
fn not_upgraded(failure: &UpgradeConnectionError, attempt: &Attempt<'_>) -> PrimError {
    PrimError::new(Code::Unavailable, format!("the API server opens no WebSocket to it: {failure}"))
        .on(attempt.object.to_string())
        .hint("a proxy before the API server must let WebSockets pass; `kubectl port-forward` and `kubectl exec` go the same way")
}
