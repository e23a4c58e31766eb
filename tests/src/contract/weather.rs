//! Between us and a server: it throttles, breaks, hangs, or does what was asked and loses the answer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::Peer;
use super::primitives::{Remembering, call, outcome, world};
use super::talk::{How, NS, Talk, config_map, path};

const WEBHOOK: &str = "admission webhook \"policy.example.com\" denied the request: not on a Sunday";

/// What happens to one request.
#[derive(Debug, Clone)]
enum Strike {
    /// The server says this, and how many seconds to wait.
    Says(u16, u32, &'static str),
    /// The connection breaks before anything is done.
    Breaks,
    /// It is done, and the connection breaks before the answer.
    LosesAnswer,
    /// Somebody writes this first.
    Edit(String, Value),
}

/// What happens to the next requests of a method.
pub(super) struct Weather {
    client: Client,
    strikes: Mutex<VecDeque<(Method, Strike)>>,
}

impl Weather {
    pub(super) fn around(client: Client) -> Arc<Self> {
        Arc::new(Self { client, strikes: Mutex::default() })
    }

    /// A client whose requests go through it.
    pub(super) fn client(self: &Arc<Self>) -> Client {
        let weather = self.clone();
        Client::new(tower::service_fn(move |request| weather.clone().pass(request)), "default")
    }

    pub(super) fn before_write(&self, method: &str, at: &str, edit: Value) {
        self.strikes(method, Strike::Edit(at.to_owned(), edit));
    }

    fn strikes(&self, method: &str, strike: Strike) {
        self.strikes.lock().unwrap().push_back((method.parse().unwrap(), strike));
    }

    fn next(&self, method: &Method) -> Option<Strike> {
        let mut strikes = self.strikes.lock().unwrap();
        if strikes.front().is_some_and(|(of, _)| of == method) {
            return strikes.pop_front().map(|(_, strike)| strike);
        }
        None
    }

    async fn pass(self: Arc<Self>, request: Request<Body>) -> Result<Response<Body>, kube::Error> {
        let broken =
            || kube::Error::Service(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into());
        match self.next(request.method()) {
            None => self.client.send(request).await,
            Some(Strike::Says(code, seconds, words)) => {
                let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
                    "reason": "x", "message": words, "details": {"retryAfterSeconds": seconds}});
                let body = Body::from(status.to_string().into_bytes());
                Ok(Response::builder().status(code).body(body).unwrap())
            }
            Some(Strike::Breaks) => Err(broken()),
            Some(Strike::LosesAnswer) => {
                self.client.send(request).await?;
                Err(broken())
            }
            Some(Strike::Edit(at, edit)) => {
                let edit = Request::patch(at)
                    .header("content-type", "application/merge-patch+json")
                    .body(Body::from(edit.to_string().into_bytes()))
                    .unwrap();
                let answer = self.client.send(edit).await?;
                assert!(answer.status().is_success(), "{answer:?}");
                self.client.send(request).await
            }
        }
    }
}

pub(super) async fn talk(talk: &mut Talk, peer: &Peer) {
    talk.about("Weather");
    talk.send("POST", &path("configmaps"), How::Json, &config_map("w", json!({"data": {"n": "0"}}))).await;
    let cases: [(&str, &str, Vec<Strike>); 8] = [
        ("throttled", "PATCH", vec![Strike::Says(429, 1, "slow down")]),
        (
            "internal errors",
            "PATCH",
            vec![Strike::Says(500, 0, "the weather"), Strike::Says(503, 0, "the weather")],
        ),
        ("a gateway's time-out", "PATCH", vec![Strike::Says(504, 0, "the weather")]),
        ("a broken connection", "PATCH", vec![Strike::Breaks]),
        ("a lost answer", "PATCH", vec![Strike::LosesAnswer]),
        ("a broken read", "GET", vec![Strike::Breaks, Strike::Says(500, 0, "the weather")]),
        ("an admission webhook that says no", "PATCH", vec![Strike::Says(400, 0, WEBHOOK)]),
        ("what cannot be processed", "PATCH", vec![Strike::Says(422, 0, "no such thing")]),
    ];
    for (n, (what, method, strikes)) in cases.into_iter().enumerate() {
        let weather = Weather::around(peer.admin.clone());
        for strike in strikes {
            weather.strikes(method, strike);
        }
        let gate = Remembering::default();
        let seen = world(weather.client());
        let value = (n + 1).to_string();
        let result = call(&seen, &gate, "k8s::config_map", json!([NS, "w", {"n": value}])).await;
        talk.say(format!("{what}: {}; announced {} times", outcome(&result), gate.effects().len()));
        let now = talk.get(&path("configmaps/w")).await;
        talk.show(&now, &["/data/n"]);
    }
    let weather = Weather::around(peer.admin.clone());
    weather.strikes("POST", Strike::LosesAnswer);
    let gate = Remembering::default();
    let result =
        call(&world(weather.client()), &gate, "k8s::config_map", json!([NS, "lost", {"a": "b"}])).await;
    talk.say(format!("making one, whose answer is lost: {}", outcome(&result)));
}
