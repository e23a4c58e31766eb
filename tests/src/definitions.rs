//! The definitions of the TiDB operators and of cert-manager are in force: one story each, told on the sandbox's API server and on a real one.

use sandbox::world::kube::{
    CERTIFICATE_REQUESTS, CERTIFICATES, ISSUERS, Kind, Kube, NAMESPACES, TIDB_CLUSTERS,
};
use sandbox::world::operator::v2::GROUPS;
use serde_json::{Value, json};

/// What the server says to an object that its definition does not allow.
async fn refused(kube: &Kube, kind: Kind, namespace: &str, spec: &Value) -> String {
    let object = json!({ "metadata": { "name": "other" }, "spec": spec });
    match kube.create(kind, namespace, object).await {
        Err(kube::Error::Api(said)) => format!("{} {}", said.code, said.message),
        answer => panic!("{answer:?}"),
    }
}

/// Groups of operator v2.
pub async fn groups(kube: &Kube) {
    let whole = json!({ "version": "v8.5.0",
        "volumes": [{ "name": "data", "mounts": [{ "type": "data" }], "storage": "10Gi" }] });
    let without = |key: &str| {
        let mut spec = whole.clone();
        spec.as_object_mut().unwrap().remove(key);
        spec
    };
    for (template, replicas, why) in [
        (without("version"), json!(1), "spec.template.spec.version"),
        (without("volumes"), json!(1), "spec.template.spec.volumes"),
        (whole.clone(), json!("three"), "spec.replicas"),
        (whole.clone(), json!(-1), "spec.replicas"),
    ] {
        let spec =
            json!({ "cluster": { "name": "basic" }, "replicas": replicas, "template": { "spec": template } });
        let said = refused(kube, GROUPS[0].group, "tidb", &spec).await;
        assert!(said.starts_with("422") && said.contains(why), "{said}");
    }
}

/// Clusters of operator v1.
pub async fn clusters(kube: &Kube) {
    const NS: &str = "definitions";
    kube.create(NAMESPACES, "", json!({ "metadata": { "name": NS } })).await.unwrap();
    for (spec, why) in [
        (json!({ "pd": {} }), "spec.pd.replicas"),
        (json!({ "pd": { "replicas": "three" } }), "spec.pd.replicas"),
        (json!({ "pd": { "replicas": -1 } }), "spec.pd.replicas"),
        (json!({ "tiflash": { "replicas": 1 } }), "spec.tiflash.storageClaims"),
        (json!({ "startScriptVersion": "v3" }), "spec.startScriptVersion"),
        (json!({ "tlsCluster": { "enabled": "yes" } }), "spec.tlsCluster.enabled"),
    ] {
        let said = refused(kube, TIDB_CLUSTERS, NS, &spec).await;
        assert!(said.starts_with("422") && said.contains(why), "{said}");
    }
    // What it does not know is dropped, what it leaves open is kept, and what was not said has a default.
    let spec = json!({ "unheard": "of", "affinity": { "any": "thing" }, "pd": {
        "replicas": 0, "unheard": "of", "config": "[security]\n", "limits": { "cpu": 2 } } });
    let made = json!({ "metadata": { "name": "other" }, "spec": spec });
    let made = kube.create(TIDB_CLUSTERS, NS, made).await.unwrap();
    let pd = json!({ "replicas": 0, "config": "[security]\n", "limits": { "cpu": 2 }, "baseImage": "pingcap/pd",
        "startTimeout": 30, "initWaitTime": 0 });
    let whole = json!({ "affinity": { "any": "thing" }, "imagePullPolicy": "IfNotPresent",
        "pvReclaimPolicy": "Retain", "pd": pd });
    assert_eq!(made["spec"], whole, "{made:#}");
    // The status is a field like any other: there is no other way to write it, and the generation counts it.
    let status = json!({ "status": { "clusterID": "7" } });
    match kube.merge(TIDB_CLUSTERS, (NS, "other"), "/status", &status).await {
        Err(kube::Error::Api(said)) => assert_eq!(said.code, 404, "{said:?}"),
        answer => panic!("{answer:?}"),
    }
    let generation = |object: &Value| object["metadata"]["generation"].as_i64().unwrap();
    let before = kube.get(TIDB_CLUSTERS, NS, "other").await.unwrap().unwrap();
    let after = kube.merge(TIDB_CLUSTERS, (NS, "other"), "", &status).await.unwrap();
    assert_eq!(after["status"]["clusterID"], "7");
    assert!(generation(&after) > generation(&before), "{after:#}");
}

/// What cert-manager keeps.
pub async fn issued(kube: &Kube) {
    const NS: &str = "definitions";
    kube.create(NAMESPACES, "", json!({ "metadata": { "name": NS } })).await.unwrap();
    // Nobody issues it: there is no such issuer.
    let whole = json!({ "secretName": "other", "issuerRef": { "name": "none" }, "commonName": "other" });
    let with = |more: Value| {
        let (mut spec, more) = (whole.clone(), more.as_object().unwrap().clone());
        spec.as_object_mut().unwrap().extend(more);
        spec
    };
    for (kind, spec, why) in [
        (CERTIFICATES, json!({ "issuerRef": { "name": "none" } }), "spec.secretName"),
        (CERTIFICATES, with(json!({ "issuerRef": { "kind": "Issuer" } })), "spec.issuerRef.name"),
        (CERTIFICATES, with(json!({ "privateKey": { "algorithm": "DSA" } })), "spec.privateKey.algorithm"),
        (
            CERTIFICATES,
            with(json!({ "privateKey": { "rotationPolicy": "Sometimes" } })),
            "spec.privateKey.rotationPolicy",
        ),
        (CERTIFICATES, with(json!({ "usages": ["clients"] })), "spec.usages"),
        (
            CERTIFICATES,
            with(json!({ "renewal": { "windows": [{ "cron": "* * * * *", "windowDuration": "long" }] } })),
            "windowDuration",
        ),
        (CERTIFICATES, with(json!({ "revisionHistoryLimit": "one" })), "spec.revisionHistoryLimit"),
        (CERTIFICATE_REQUESTS, json!({ "issuerRef": { "name": "none" } }), "spec.request"),
        (ISSUERS, json!({ "ca": {} }), "spec.ca.secretName"),
    ] {
        let said = refused(kube, kind, NS, &spec).await;
        assert!(said.starts_with("422") && said.contains(why), "{spec}: {said}");
    }
    // What it does not know is dropped, what it leaves open is kept.
    let made = json!({ "metadata": { "name": "other" }, "spec": with(json!({ "unheard": "of" })) });
    assert_eq!(kube.create(CERTIFICATES, NS, made).await.unwrap()["spec"], whole);
    let acme = json!({ "acme": { "server": "https://acme.example.com" } });
    let made = json!({ "metadata": { "name": "other" }, "spec": acme });
    assert_eq!(kube.create(ISSUERS, NS, made).await.unwrap()["spec"], acme);
}
