//! Files that are laid beside their places: as those that they will replace, behind links, and for nobody to load yet.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;

use serde_json::{Value, json};
use stdlib::Secret;
use stdlib::cert::{Certificate, Key};
use stdlib::cfssl::Request;
use stdlib::error::Code;
use stdlib::registry::registry;
use stdlib::world::{Clock as _, SystemClock};

use crate::desk::{Desk, m1};

impl Desk {
    /// What a call makes parties load, by the files' names.
    fn loads(&self, name: &str, args: &[Value]) -> Vec<String> {
        let args: Vec<Value> = [m1()].into_iter().chain(args.iter().cloned()).collect();
        let forecast = registry().get(name).unwrap().forecast.unwrap();
        let place = |place: String| place.rsplit_once('/').unwrap().1.to_owned();
        forecast(&self.world, &args).unwrap().into_iter().map(|write| place(write.place.0)).collect()
    }

    /// A CA, its key as scripts have it.
    fn authority(&self) -> Value {
        let (ca, key) = authority();
        let secret = Secret::new(key.to_pem().unwrap().as_bytes().to_vec(), key.fingerprint());
        json!({ "cert": ca.pem(), "key": self.world.secrets.put(&secret).unwrap() })
    }
}

fn authority() -> (Certificate, Key) {
    let request = br#"{"CN": "ca", "key": {"algo": "ecdsa", "size": 256}}"#;
    stdlib::ca::create(&Request::from_json(request, "ca").unwrap(), SystemClock.now()).unwrap()
}

#[tokio::test]
async fn what_is_laid_beside_a_file_is_as_that_and_takes_its_place_behind_the_link() {
    let desk = Desk::new();
    let (real, link) = (desk.at("elsewhere/ca.pem"), desk.at("ca.pem"));
    fs::create_dir(desk.at("elsewhere")).unwrap();
    fs::write(&real, "old").unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    // Only root gives files away; whoever else tests keeps what he has.
    let _ = chown(&real, Some(12), Some(34));
    symlink("elsewhere/ca.pem", &link).unwrap();
    let is = |path: &str| {
        let facts = fs::metadata(path).unwrap();
        (fs::read_to_string(path).unwrap(), facts.mode() & 0o7777, facts.uid(), facts.gid())
    };
    let was = is(&real);
    let ca = authority().0.pem();
    let beside = json!({ "beside": true });
    let laid = desk.does("host::write", &[json!(link), json!(ca), beside.clone()]).await.unwrap();
    assert_eq!(is(&real), was, "its place stays as it is");
    assert_eq!(is(&format!("{real}.rollover-new")), (ca.clone(), was.1, was.2, was.3));
    assert!(!Path::new(&format!("{link}.rollover-new")).exists(), "a rename would not reach what is loaded");
    // Nobody loads it before it is in place.
    assert_eq!(desk.loads("host::write", &[json!(link), json!(ca), beside]), Vec::<String>::new());
    assert_eq!(desk.loads("host::install", &[laid["files"].clone()]), ["ca.pem"]);

    for installed in ["1", "0"] {
        let told = desk.does("host::install", &[laid["files"].clone()]).await.unwrap();
        assert_eq!(told["installed"], installed);
        assert_eq!(is(&real), (ca.clone(), was.1, was.2, was.3));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(!Path::new(&format!("{real}.rollover-new")).exists());
    }
}

#[tokio::test]
async fn beside_is_true_or_false() {
    let desk = Desk::new();
    let (cert, key) = (desk.at("ca.pem"), desk.at("ca-key.pem"));
    let identity = desk.authority();
    for word in [json!("true"), json!("no"), json!(1), Value::Null, json!([true])] {
        let options = json!({ "beside": word });
        let written = desk.does("host::write", &[json!(cert), json!("text"), options.clone()]).await;
        let paired =
            desk.does("host::write_pair", &[json!(cert), json!(key), identity.clone(), options]).await;
        for error in [written.err().unwrap(), paired.err().unwrap()] {
            assert_eq!(error.code, Code::Argument, "{word}: {error}");
            assert!(error.message.contains("`options.beside` is neither true nor false"), "{error}");
        }
    }
    assert_eq!(fs::read_dir(desk.folder.path()).unwrap().count(), 0, "nothing was written or laid");
    let given = [json!(cert), json!(key), identity, json!({ "beside": true })];
    let laid = desk.does("host::write_pair", &given).await.unwrap();
    assert!(!Path::new(&cert).exists() && laid["files"].as_array().unwrap().len() == 2, "{laid}");
}
