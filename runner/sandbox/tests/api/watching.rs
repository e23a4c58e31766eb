use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::json;

use crate::support::{object, server};

async fn make(maps: &Api<ConfigMap>, name: &str) {
    maps.create(&PostParams::default(), &object(json!({"metadata": {"name": name}}))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_forgotten_is_410_in_the_stream() {
    let server = server();
    let maps: Api<ConfigMap> = Api::namespaced(server.client("operator"), "default");
    make(&maps, "a").await;
    let early = maps.get("a").await.unwrap().metadata.resource_version.unwrap();
    make(&maps, "b").await;
    server.compact();
    let mut events = maps.watch(&WatchParams::default(), &early).await.unwrap().boxed();
    match events.try_next().await.unwrap().unwrap() {
        WatchEvent::Error(status) => assert_eq!((status.code, status.reason.as_str()), (410, "Expired")),
        other => panic!("{other:?}"),
    }
    assert!(events.try_next().await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn bookmarks_carry_the_version_on() {
    let server = server();
    let client = server.client("operator");
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    make(&maps, "a").await;
    let mut events = maps.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    assert!(matches!(events.try_next().await.unwrap().unwrap(), WatchEvent::Added(_)));
    let elsewhere: Api<ConfigMap> = Api::namespaced(client, "kube-system");
    make(&elsewhere, "b").await;
    let now = server.resource_version();
    match events.try_next().await.unwrap().unwrap() {
        WatchEvent::Bookmark(mark) => assert_eq!(mark.metadata.resource_version, now.to_string()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_watcher_survives_what_breaks_a_watch() {
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let server = server();
        let maps: Api<ConfigMap> = Api::namespaced(server.client("operator"), "default");
        make(&maps, "a").await;
        let mut events = watcher(maps.clone(), config).boxed();
        let mut next = async || loop {
            match events.next().await.unwrap() {
                Ok(Event::Init) => return "init".to_owned(),
                Ok(Event::InitApply(map)) => return format!("i{}", map.metadata.name.unwrap()),
                Ok(Event::InitDone) => return "done".into(),
                Ok(Event::Apply(map)) => return format!("~{}", map.metadata.name.unwrap()),
                Ok(Event::Delete(map)) => return format!("-{}", map.metadata.name.unwrap()),
                Err(_) => {}
            }
        };
        for expected in ["init", "ia", "done"] {
            assert_eq!(next().await, expected);
        }
        make(&maps, "b").await;
        assert_eq!(next().await, "~b");

        // The stream is cut, then closed: the watcher goes on where it was.
        for abort in [true, false] {
            assert_eq!(server.drop_watches(None, None, abort), 1);
            maps.patch(
                "b",
                &PatchParams::default(),
                &Patch::Merge(json!({"data": {"k": abort.to_string()}})),
            )
            .await
            .unwrap();
            assert_eq!(next().await, "~b");
        }

        // What it missed is forgotten: it lists again.
        server.drop_watches(None, None, false);
        maps.delete("a", &DeleteParams::default()).await.unwrap();
        make(&maps, "c").await;
        server.compact();
        for expected in ["init", "ib", "ic", "done"] {
            assert_eq!(next().await, expected);
        }
        maps.delete("c", &DeleteParams::default()).await.unwrap();
        assert_eq!(next().await, "-c");
    }
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_waiting_takes_no_time() {
    let server = server();
    let maps: Api<ConfigMap> = Api::namespaced(server.client("operator"), "default");
    let began = std::time::Instant::now();
    let stream = watcher(maps.clone(), watcher::Config::default()).boxed();
    let counting = tokio::spawn(stream.for_each(|_| async {}));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    make(&maps, "late").await;
    let made = maps.get("late").await.unwrap().metadata.creation_timestamp.unwrap();
    assert_eq!(made.0.to_string(), "2026-11-22T07:00:00Z");
    assert!(began.elapsed() < Duration::from_secs(20));
    counting.abort();
}
