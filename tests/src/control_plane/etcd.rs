//! What a test does to the etcd of a control plane.

use std::io;

use http::Request;
use kube::Config;
use serde_json::{Value, json};

use super::ControlPlane;

impl ControlPlane {
    /// Has etcd forget every version but the last, as the API server has it do every five minutes.
    ///
    /// # Errors
    /// etcd does not answer, or says no.
    pub async fn compact(&self) -> io::Result<()> {
        let at = self.ask_etcd("range", &json!({ "key": "AA==" })).await?;
        let revision = &at["header"]["revision"];
        self.ask_etcd("compaction", &json!({ "revision": revision, "physical": true })).await.map(drop)
    }

    /// Asks etcd by its JSON gateway.
    async fn ask_etcd(&self, what: &str, body: &Value) -> io::Result<Value> {
        let url = format!("http://127.0.0.1:{}", self.etcd_port).parse().map_err(io::Error::other)?;
        let client = kube::Client::try_from(Config::new(url)).map_err(io::Error::other)?;
        let request = Request::post(format!("/v3/kv/{what}")).body(body.to_string().into_bytes());
        client.request(request.map_err(io::Error::other)?).await.map_err(io::Error::other)
    }
}
