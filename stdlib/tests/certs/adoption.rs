//! Leaves that are there already: kept where they are good, followed with all of their names where not.

use serde_json::{Value, json};
use stdlib::World;
use stdlib::gate::ReadOnly;

use crate::support::*;

struct Setting {
    world: World,
    ca: Value,
    request: Value,
    profile: Value,
}

fn setting() -> Setting {
    let world = world(std::path::Path::new("/"), now());
    let (ca, key) = new_ca();
    Setting {
        ca: value_of(&world, &ca, &key),
        request: serde_json::from_str(PD).unwrap(),
        profile: config().profile("internal").unwrap().to_fact(),
        world,
    }
}

impl Setting {
    /// The same with another CA.
    fn next(&self) -> Setting {
        let (ca, key) = new_ca();
        Setting {
            ca: value_of(&self.world, &ca, &key),
            world: self.world.clone(),
            request: self.request.clone(),
            profile: self.profile.clone(),
        }
    }

    fn issue(&self, request: &Value) -> Value {
        let leaf = call(
            &self.world,
            &ReadOnly,
            "cfssl::issue",
            &[self.ca.clone(), request.clone(), self.profile.clone()],
        )
        .unwrap();
        json!({ "tls.crt": leaf["cert"], "tls.key": leaf["key"], "ca.crt": self.ca["cert"] })
    }

    fn leaf(&self, secret: &Value) -> Value {
        self.leaf_at(now(), secret)
    }

    fn leaf_at(&self, at: time::OffsetDateTime, secret: &Value) -> Value {
        let world = World { clock: world(std::path::Path::new("/"), at).clock, ..self.world.clone() };
        let args = [self.ca.clone(), self.request.clone(), self.profile.clone(), secret.clone()];
        call(&world, &ReadOnly, "cfssl::leaf", &args).unwrap()
    }
}

#[test]
fn a_good_leaf_is_kept_byte_for_byte() {
    let setting = setting();
    let secret = setting.issue(&setting.request);
    let kept = setting.leaf(&secret);
    assert_eq!((&kept["adopted"], &kept["cert"]), (&json!(true), &secret["tls.crt"]));
    assert_eq!(kept["key"]["fp"], secret["tls.key"]["fp"]);
}

#[test]
fn a_leaf_of_another_ca_is_followed_with_all_of_its_names() {
    let old = setting();
    let new = old.next();
    let mut request = old.request.clone();
    request["hosts"] = json!(["BASIC-PD", "added-by-hand.example", "10.1.2.3"]);
    let secret = old.issue(&request);
    let leaf = new.leaf(&secret);
    assert_eq!(leaf["adopted"], false);
    assert_eq!(leaf["why"], "was issued by another key of the same name");
    assert_eq!(leaf["added"], json!(["DNS:added-by-hand.example", "IP:10.1.2.3"]));
    let seen = call(&new.world, &ReadOnly, "cert::inspect", &[leaf["cert"].clone()]).unwrap();
    let sans = seen["certificates"][0]["sans"].to_string();
    for name in ["DNS:basic-pd\"", "DNS:added-by-hand.example", "IP:10.1.2.3", "DNS:*.basic-pd-peer.tidb.svc"]
    {
        assert!(sans.contains(name), "{name}: {sans}");
    }
}

#[test]
fn why_a_leaf_is_not_kept() {
    let setting = setting();
    let secret = setting.issue(&setting.request);
    let why = |leaf: &Value| leaf["why"].as_str().unwrap().to_owned();

    assert_eq!(why(&setting.leaf(&json!({}))), "there is none yet");
    let late = setting.leaf_at(now() + time::Duration::days(200), &secret);
    assert_eq!(why(&late), "half of its life is over");
    let early = setting.leaf_at(now() + time::Duration::days(150), &secret);
    assert_eq!(early["adopted"], true);

    let mut fewer = setting.request.clone();
    fewer["hosts"] = json!(["basic-pd"]);
    assert!(
        why(&setting.leaf(&setting.issue(&fewer)))
            .starts_with("it does not name IP:127.0.0.1, IP:::1, DNS:basic-pd.tidb")
    );

    let client = Setting { profile: config().profile("client").unwrap().to_fact(), ..self::setting() };
    let secret =
        Setting { ca: setting.ca.clone(), world: setting.world.clone(), ..client }.issue(&setting.request);
    assert_eq!(why(&setting.leaf(&secret)), "it lacks the usage `server auth`");

    let mut swapped = setting.issue(&setting.request);
    swapped["tls.key"] = setting.issue(&setting.request)["tls.key"].clone();
    assert_eq!(why(&setting.leaf(&swapped)), "its private key is another's");
    swapped["tls.key"] = null();
    assert_eq!(why(&setting.leaf(&swapped)), "its private key is not there");
}

#[test]
fn the_common_name_may_not_change() {
    let setting = setting();
    let mut other = setting.request.clone();
    other["CN"] = json!("someone");
    let secret = setting.issue(&other);
    let args = [setting.ca.clone(), setting.request.clone(), setting.profile.clone(), secret];
    let error = call(&setting.world, &ReadOnly, "cfssl::leaf", &args).unwrap_err();
    assert!(
        error.to_string().contains("expected `someone`, as in the certificate in use, found `TiDB`"),
        "{error}"
    );
}
