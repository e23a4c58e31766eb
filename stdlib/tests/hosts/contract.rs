//! What the port promises.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use stdlib::error::Code;
use stdlib::host::{ABSENT, Command, Fence, Host, Move, Put, Runtime, Service, digest};
use stdlib::world::SystemClock;

/// Holds a host to it, in a folder that the host and this test both see.
pub(crate) async fn holds(host: &dyn Host, folder: &Path) {
    runs(host).await;
    reads(host, folder).await;
    replaces(host, folder).await;
    installs(host, folder).await;
    owns(host, folder).await;
    refuses_halves(host, folder).await;
    respects_the_mark(host, folder).await;
    knows_itself(host, folder).await;
    serves_as_told(host, folder).await;
    crate::timers::hold(host, folder).await;
}

/// Programs, by the words in which they are asked.
pub(crate) async fn runs(host: &dyn Host) {
    let output = host.run(Command::new(["cat"]).stdin(b"a\0b\xff".to_vec())).await.unwrap();
    assert_eq!((output.code, output.stdout.as_slice(), output.cut), (0, b"a\0b\xff".as_slice(), false));
    // Arguments are what they are: no shell takes them apart, none is lost.
    let odd = ["", " ", "a b", "'", "\"", "$HOME", "*", ";true", "\n", "`id`", "ü", "\\"];
    let output = host.run(Command::new(["printf", "%s|"].into_iter().chain(odd))).await.unwrap();
    assert_eq!(output.text(), odd.map(|word| format!("{word}|")).concat());
    let output = host.run(Command::new(["ls", "/rollover/has/no/such/folder"])).await.unwrap();
    assert_eq!(output.code, 2);
    assert!(output.complaint().contains("/rollover/has/no/such/folder"), "{}", output.complaint());
    let output = host.run(Command::new(["false"])).await.unwrap();
    assert_eq!((output.code, output.complaint().as_str()), (1, "exit code 1"));
    let output = host.run(Command::new(["rollover-has-no-such-program"])).await.unwrap();
    assert_eq!(output.code, 127);
    let output = host.run(Command::new(["head", "-c", "300000", "/dev/zero"]).most(1000)).await.unwrap();
    assert_eq!((output.stdout.len(), output.cut, output.code), (1000, true, 0));
    // A command that takes too long is ended there, not only forgotten here.
    let begun = Instant::now();
    let error = host
        .run(Command::new(["sleep", "600.25"]).within(Duration::from_millis(300)))
        .await
        .err()
        .expect("it took ten minutes");
    assert_eq!(error.code, Code::Timeout, "{error}");
    assert!(begun.elapsed() < Duration::from_secs(300));
    // Several at once share the connection.
    let many = futures::future::join_all(
        (0..16).map(|n| host.run(Command::new(["echo".to_owned(), n.to_string()]))),
    );
    for (n, output) in many.await.into_iter().enumerate() {
        assert_eq!(output.unwrap().text().trim(), n.to_string());
    }
}

async fn reads(host: &dyn Host, folder: &Path) {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    fs::write(folder.join("plain"), b"one\n\0two").unwrap();
    fs::set_permissions(folder.join("plain"), fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(folder.join("plain"), folder.join("link")).unwrap();
    for name in ["plain", "link"] {
        let found = host.read(&path(name), 100).await.unwrap().unwrap();
        assert_eq!((found.bytes.as_slice(), found.size, found.mode), (b"one\n\0two".as_slice(), 8, 0o640));
        assert_eq!(Path::new(&found.real), fs::canonicalize(folder.join("plain")).unwrap());
    }
    // Several at once are what each of them is.
    fs::write(folder.join("empty"), b"").unwrap();
    let paths = ["plain", "nothing", "empty", "link", "plain/below"].map(path);
    for most in [100, 3] {
        let all = host.read_all(&paths, most).await.unwrap();
        assert_eq!(all.len(), paths.len());
        for (path, found) in paths.iter().zip(all) {
            let facts = |found: stdlib::host::Found| {
                (found.bytes.to_vec(), found.size, found.mode, found.owner, found.real)
            };
            assert_eq!(found.map(facts), host.read(path, most).await.unwrap().map(facts), "{path}");
        }
    }
    assert!(host.read_all(&[], 100).await.unwrap().is_empty());
    let with_folder = [path("plain"), folder.to_str().unwrap().to_owned()];
    assert_eq!(host.read_all(&with_folder, 100).await.err().unwrap().code, Code::Invalid);
    assert_eq!(
        host.read_all(&[path("plain"), "relative".into()], 100).await.err().unwrap().code,
        Code::Argument
    );
    let cut = host.read(&path("plain"), 3).await.unwrap().unwrap();
    assert_eq!((cut.bytes.as_slice(), cut.size), (b"one".as_slice(), 8));
    assert!(host.read(&path("nothing"), 100).await.unwrap().is_none());
    assert!(host.read(&path("plain/below"), 100).await.unwrap().is_none());
    assert_eq!(host.read(folder.to_str().unwrap(), 100).await.err().unwrap().code, Code::Invalid);
    assert_eq!(host.read("relative", 100).await.err().unwrap().code, Code::Argument);
    fs::create_dir(folder.join("list")).unwrap();
    for name in ["b", "a c", ".hidden"] {
        fs::write(folder.join("list").join(name), b"").unwrap();
    }
    assert_eq!(host.list(&path("list")).await.unwrap().unwrap(), [".hidden", "a c", "b"]);
    assert!(host.list(&path("no list")).await.unwrap().is_none());
}

fn put(path: String, before: &str, bytes: Option<&[u8]>) -> Put {
    Put {
        path,
        before: before.to_owned(),
        bytes: bytes.map(|bytes| bytes.to_vec().into()),
        mode: None,
        owner: None,
    }
}

async fn replaces(host: &dyn Host, folder: &Path) {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let mode = |name: &str| fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o7777;
    // What is not there is made, with its folders, and is nobody else's to read.
    host.replace(&[put(path("new/deep/file"), ABSENT, Some(b"made"))], None).await.unwrap();
    assert_eq!(
        (fs::read(folder.join("new/deep/file")).unwrap(), mode("new/deep/file")),
        (b"made".to_vec(), 0o600)
    );
    // What is there keeps its mode; a link is followed and stays.
    let big = vec![7_u8; 300_000];
    host.replace(
        &[put(path("link"), &digest(b"one\n\0two"), Some(&big)), put(path("it's odd"), ABSENT, Some(b""))],
        None,
    )
    .await
    .unwrap();
    assert!(fs::symlink_metadata(folder.join("link")).unwrap().is_symlink());
    assert_eq!((fs::read(folder.join("plain")).unwrap(), mode("plain")), (big.clone(), 0o640));
    assert_eq!(fs::read(folder.join("it's odd")).unwrap(), b"");
    let asked = Put { mode: Some(0o600), ..put(path("plain"), &digest(&big), Some(b"key")) };
    host.replace(&[asked], None).await.unwrap();
    assert_eq!((fs::read(folder.join("plain")).unwrap(), mode("plain")), (b"key".to_vec(), 0o600));
    host.replace(&[put(path("it's odd"), &digest(b""), None)], None).await.unwrap();
    assert!(!folder.join("it's odd").exists());
    assert!(leftovers(folder).is_empty());
}

/// What lies beside its place is renamed to it, with its own mode; where one file is another than it must be, none is.
async fn installs(host: &dyn Host, folder: &Path) {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let mode = |name: &str| fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o7777;
    fs::create_dir(folder.join("elsewhere")).unwrap();
    for (name, text, mode) in [
        ("elsewhere/placed", "old", 0o644),
        ("elsewhere/placed.new", "new", 0o640),
        ("first's", "first", 0o600),
    ] {
        fs::write(folder.join(name), text).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    symlink("elsewhere/placed", folder.join("linked")).unwrap();
    let one = |from: &str, staged: &[u8], to: &str, before: String| Move {
        from: path(from),
        staged: digest(staged),
        to: path(to),
        before,
    };
    let linked = || one("elsewhere/placed.new", b"new", "linked", digest(b"old"));
    for wrong in [
        one("first's", b"another", "second", ABSENT.to_owned()),
        one("first's", b"first", "second", digest(b"was here")),
        one("gone", b"first", "second", ABSENT.to_owned()),
    ] {
        let error = host.install(&[linked(), wrong], None).await.err().unwrap();
        assert_eq!(error.code, Code::Conflict, "{error}");
        assert_eq!(fs::read(folder.join("linked")).unwrap(), b"old", "half of it was installed");
    }
    let lost = Fence { token: "somebody else's".into() };
    assert_eq!(host.install(&[linked()], Some(&lost)).await.err().unwrap().code, Code::Locked);
    host.install(&[linked(), one("first's", b"first", "second", ABSENT.to_owned())], None).await.unwrap();
    assert!(fs::symlink_metadata(folder.join("linked")).unwrap().is_symlink());
    assert_eq!(
        (fs::read(folder.join("elsewhere/placed")).unwrap(), mode("elsewhere/placed")),
        (b"new".to_vec(), 0o640)
    );
    assert_eq!((fs::read(folder.join("second")).unwrap(), mode("second")), (b"first".to_vec(), 0o600));
    assert!(!folder.join("elsewhere/placed.new").exists() && !folder.join("first's").exists());
}

fn leftovers(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(".rollover")).collect()
}

/// One file of several that is not as it must be keeps all of them as they are.
async fn refuses_halves(host: &dyn Host, folder: &Path) {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    fs::write(folder.join("cert"), b"old cert").unwrap();
    fs::write(folder.join("key"), b"somebody else's key").unwrap();
    let puts = [
        put(path("cert"), &digest(b"old cert"), Some(b"new cert")),
        put(path("key"), &digest(b"old key"), Some(b"new key")),
    ];
    let error = host.replace(&puts, None).await.err().unwrap();
    assert_eq!(error.code, Code::Conflict);
    assert!(error.object.ends_with("/key"), "{error}");
    assert_eq!(fs::read(folder.join("cert")).unwrap(), b"old cert");
    let gone = [put(path("never"), &digest(b"was here"), Some(b"x"))];
    assert_eq!(host.replace(&gone, None).await.err().unwrap().code, Code::Conflict);
    // A folder where the file should be: nothing is renamed into it.
    fs::create_dir(folder.join("folder")).unwrap();
    assert!(host.replace(&[put(path("folder"), ABSENT, Some(b"x"))], None).await.is_err());
    assert_eq!(fs::read_dir(folder.join("folder")).unwrap().count(), 0);
    assert!(leftovers(folder).is_empty());
}

/// What carries a token happens only as long as the mark names it.
async fn respects_the_mark(host: &dyn Host, folder: &Path) {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let fence = Fence { token: "abc123".into() };
    let write = [put(path("fenced"), ABSENT, Some(b"x"))];
    let touch = || Command::new(["touch".to_owned(), path("touched")]).fenced(Some(fence.clone()));
    fs::create_dir_all(folder.join("state")).unwrap();
    for mark in [None, Some(r#"{"token":"another"}"#)] {
        if let Some(mark) = mark {
            fs::write(folder.join("state/mark.json"), mark).unwrap();
        }
        assert_eq!(host.replace(&write, Some(&fence)).await.err().unwrap().code, Code::Locked);
        assert_eq!(host.run(touch()).await.err().unwrap().code, Code::Locked);
    }
    assert!(!folder.join("fenced").exists() && !folder.join("touched").exists());
    fs::write(folder.join("state/mark.json"), r#"{"token":"abc123"}"#).unwrap();
    host.replace(&write, Some(&fence)).await.unwrap();
    assert_eq!(host.run(touch()).await.unwrap().code, 0);
    assert!(folder.join("fenced").exists() && folder.join("touched").exists());
}

async fn knows_itself(host: &dyn Host, folder: &Path) {
    // It is this machine's clock, whatever lies between: the answer must not blame the way for more than it took.
    let offset = host.clock(&SystemClock).await.unwrap();
    assert!(offset.millis.unsigned_abs() <= offset.give_or_take + 50, "{offset:?}");
    assert!(host.free(folder.to_str().unwrap()).await.unwrap() > 0);
    assert!(host.free(folder.join("nowhere").to_str().unwrap()).await.is_err());
}

/// Owners, by name and by number.
async fn owns(host: &dyn Host, folder: &Path) {
    if fs::metadata(folder).unwrap().uid() != 0 {
        crate::not_tested("owners: only root gives files away");
        return;
    }
    let path = folder.join("owned").to_str().unwrap().to_owned();
    let asked = |before: &str, bytes: &[u8], owner: Option<&str>| Put {
        owner: owner.map(str::to_owned),
        ..put(path.clone(), before, Some(bytes))
    };
    let owner = || async {
        let found = host.read(&path, 100).await.unwrap().unwrap();
        (found.owner_names, found.mode)
    };
    let made = Put { mode: Some(0o640), ..asked(ABSENT, b"a", Some("daemon:daemon")) };
    host.replace(&[made], None).await.unwrap();
    assert_eq!(owner().await, ("daemon:daemon".into(), 0o640));
    // Whoever writes it otherwise leaves it whose it is.
    host.replace(&[asked(&digest(b"a"), b"b", None)], None).await.unwrap();
    assert_eq!(owner().await, ("daemon:daemon".into(), 0o640));
    host.replace(&[asked(&digest(b"b"), b"b", Some("bin"))], None).await.unwrap();
    assert_eq!(owner().await, ("bin:daemon".into(), 0o640));
    host.replace(&[asked(&digest(b"b"), b"c", Some("0:0"))], None).await.unwrap();
    let found = host.read(&path, 100).await.unwrap().unwrap();
    assert_eq!((found.owner.as_str(), found.owner_names.as_str()), ("0:0", "root:root"));
}

/// A service of any kind, by the words in which it is asked.
pub(crate) async fn serves(host: &dyn Host, service: &Service) {
    let name = service.name();
    let first = service.status(host).await.unwrap();
    assert!(first.active && !first.started.is_empty(), "{name}: {first:?}");
    assert_eq!(service.status(host).await.unwrap(), first, "looking changes nothing");
    service.restart(host, Duration::from_secs(120), None).await.unwrap();
    let second = service.status(host).await.unwrap();
    assert!(second.active && second.started != first.started, "{name}: {first:?} {second:?}");
    let lost = Some(Fence { token: "somebody else's".into() });
    let error = service.restart(host, Duration::from_secs(60), lost).await.err().unwrap();
    assert_eq!(error.code, Code::Locked, "{error}");
    assert_eq!(service.status(host).await.unwrap(), second, "it was not restarted");
}

/// A service that can be held down: it stays so, also when it is stopped again, until it is restarted.
pub(crate) async fn stops(host: &dyn Host, service: &Service) {
    let (name, minute) = (service.name(), Duration::from_secs(60));
    let first = service.status(host).await.unwrap();
    let lost = Some(Fence { token: "somebody else's".into() });
    assert_eq!(service.stop(host, minute, lost).await.err().unwrap().code, Code::Locked);
    for _ in 0..2 {
        assert!(service.stop(host, minute, None).await.unwrap(), "{name} cannot be held down");
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert!(!service.status(host).await.unwrap().active, "{name} runs all the same");
    }
    service.restart(host, Duration::from_secs(120), None).await.unwrap();
    let second = service.status(host).await.unwrap();
    assert!(second.active && second.started != first.started, "{name}: {first:?} {second:?}");
}

/// A unit of systemd, and one that there is not.
pub(crate) async fn serves_unit(host: &dyn Host, unit: &str) {
    serves(host, &Service::Unit { unit: unit.to_owned() }).await;
    let none = Service::Unit { unit: "no-such-unit".into() };
    assert_eq!(none.status(host).await.err().unwrap().code, Code::NotFound);
    assert_eq!(
        none.restart(host, Duration::from_secs(60), None).await.err().unwrap().code,
        Code::Unavailable
    );
}

/// What a container runtime keeps, and a container that does not run.
pub(crate) async fn serves_container(host: &dyn Host, container: &str, runtime: Runtime) {
    for runtime in [Some(runtime), None] {
        serves(host, &Service::Container { container: container.to_owned(), runtime }).await;
    }
    let none = Service::Container { container: "no-such".into(), runtime: Some(runtime) };
    let status = none.status(host).await.unwrap();
    assert!(!status.active && status.words.contains("does not run"), "{status:?}");
}

/// A service by commands that are given: here a file is its process.
pub(crate) async fn serves_as_told(host: &dyn Host, folder: &Path) {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    fs::write(folder.join("runs"), "first").unwrap();
    fs::write(folder.join("runs next"), "second").unwrap();
    let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let service = Service::Given {
        name: "told".into(),
        restart: argv(&["cp", "--", &path("runs next"), &path("runs")]),
        status: argv(&["cat", &path("runs")]),
        stop: Vec::new(),
    };
    serves(host, &service).await;
    let minute = Duration::from_secs(60);
    assert!(!service.stop(host, minute, None).await.unwrap(), "nobody has said how");
    fs::remove_file(folder.join("runs")).unwrap();
    let status = service.status(host).await.unwrap();
    assert!(!status.active && status.words.contains("runs"), "{status:?}");
    fs::remove_file(folder.join("runs next")).unwrap();
    let error = service.restart(host, Duration::from_secs(60), None).await.err().unwrap();
    assert!(error.message.contains("`told` could not be restarted"), "{error}");
}
