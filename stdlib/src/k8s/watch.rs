//! A watch on some objects: listed once, then followed, however often the watch is cut or its versions are forgotten.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{Either, select};
use kube::core::params::WatchParams;
use kube::core::{Request, WatchEvent};
use serde_json::Value;

use crate::error::PrimError;
use crate::world::World;

use super::client::{EXPIRED, Objects};
use super::errors::{Attempt, explain, transient};
use super::object::{Ref, text};
use super::restart::Poll;

/// How long nothing may be heard before it is listed anew: a connection may have died without a word.
const QUIET: Duration = Duration::from_secs(60);
/// The first pause after a cut; each further one without an event is twice as long.
const PAUSE: Duration = Duration::from_millis(300);
/// After how many cuts in a row it is listed anew.
const CUTS: u32 = 5;

/// Which objects are watched. Empty selectors select all.
pub(super) struct Watched<'a> {
    /// Their kind and namespace, without a name.
    pub all: &'a Ref,
    /// By labels.
    pub labels: &'a str,
    /// By fields.
    pub fields: &'a str,
}

/// The objects as they are known now, by namespace and name.
type Seen = BTreeMap<(String, String), Value>;

/// How a watch ended.
enum Ended<T> {
    /// With an answer.
    Judged(T),
    /// It was cut: it goes on from the version that was heard last.
    Cut,
    /// The server does not know that version any more, or nothing was heard for too long.
    Stale,
}

/// Looks at the objects, and again whenever one of them changes, until they are judged.
pub(super) async fn until<T>(
    world: &World,
    objects: &Objects<'_>,
    watched: &Watched<'_>,
    mut judge: impl FnMut(&Seen) -> Option<T> + Send,
) -> Result<T, PrimError> {
    let mut poll = Poll::default();
    loop {
        let all = watched.all;
        let listed =
            objects.list_at(&all.api_version, &all.kind, &all.namespace, watched.labels, watched.fields);
        let Some(listed) = poll.seen(listed.await)? else {
            world.clock.sleep(poll.pause()).await;
            continue;
        };
        let mut seen: Seen = listed.items.into_iter().map(|value| (key(&value), value)).collect();
        if let Some(judged) = judge(&seen) {
            return Ok(judged);
        }
        let (mut version, mut cuts) = (listed.version, 0);
        while cuts < CUTS {
            let before = version.clone();
            match follow(world, objects, watched, &mut version, &mut seen, &mut judge).await? {
                Ended::Judged(judged) => return Ok(judged),
                Ended::Stale => break,
                Ended::Cut if version != before => cuts = 0,
                Ended::Cut => cuts += 1,
            }
            world.clock.sleep(PAUSE * 2_u32.pow(cuts.min(CUTS))).await;
        }
    }
}

fn key(value: &Value) -> (String, String) {
    let field = |field| text(value, &["metadata", field]).to_owned();
    (field("namespace"), field("name"))
}

/// Follows one watch to its end.
async fn follow<T>(
    world: &World,
    objects: &Objects<'_>,
    watched: &Watched<'_>,
    version: &mut String,
    seen: &mut Seen,
    judge: &mut (impl FnMut(&Seen) -> Option<T> + Send),
) -> Result<Ended<T>, PrimError> {
    let shelf = objects.shelf(watched.all, "watch").await?;
    let mut params = WatchParams::default();
    if !watched.labels.is_empty() {
        params = params.labels(watched.labels);
    }
    if !watched.fields.is_empty() {
        params = params.fields(watched.fields);
    }
    let request = Request::new(shelf.path).watch(&params, version);
    let request = request.map_err(|error| PrimError::internal(error.to_string()))?;
    let events = Box::pin(objects.client().request_events::<Value>(request));
    let events = match select(events, world.clock.sleep(QUIET)).await {
        Either::Left((Ok(events), _)) => events,
        Either::Left((Err(kube::Error::Api(status)), _)) if status.code == EXPIRED => {
            return Ok(Ended::Stale);
        }
        Either::Left((Err(error), _)) if transient(&error) => return Ok(Ended::Cut),
        Either::Left((Err(error), _)) => {
            let attempt = Attempt { verb: "watch", object: watched.all, part: "", plural: &shelf.plural };
            return Err(explain(&error, &attempt));
        }
        Either::Right(_) => return Ok(Ended::Cut),
    };
    let mut events = Box::pin(events);
    loop {
        let event = match select(events.next(), world.clock.sleep(QUIET)).await {
            Either::Left((Some(Ok(event)), _)) => event,
            Either::Left((None | Some(Err(_)), _)) => return Ok(Ended::Cut),
            Either::Right(_) => return Ok(Ended::Stale),
        };
        let heard = match event {
            WatchEvent::Added(value) | WatchEvent::Modified(value) => {
                let heard = text(&value, &["metadata", "resourceVersion"]).to_owned();
                seen.insert(key(&value), value);
                heard
            }
            WatchEvent::Deleted(value) => {
                seen.remove(&key(&value));
                text(&value, &["metadata", "resourceVersion"]).to_owned()
            }
            WatchEvent::Bookmark(mark) => mark.metadata.resource_version,
            // 410 among the events, or that the server cannot go on: to list anew is right for both.
            WatchEvent::Error(_) => return Ok(Ended::Stale),
        };
        *version = heard;
        if let Some(judged) = judge(seen) {
            return Ok(Ended::Judged(judged));
        }
    }
}
