//! Three members for the benchmark: the hosts of the tests, held until somebody has measured.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use stdlib::cfssl::Request;
use stdlib::host::{Command, Pool, inventory};
use stdlib::world::{Clock as _, SystemClock};

use super::expired::systemctl;
use super::members::{Cluster, issue};

/// How many commands are counted.
const COMMANDS: usize = 400;

/// What a playbook copies: a new CA, a bundle with the old one, and pairs for all, made beforehand.
fn renewed(cluster: &Cluster, folder: &Path) {
    let request =
        br#"{"CN": "etcd", "names": [{"O": "rollover test"}], "key": {"algo": "ecdsa", "size": 256}}"#;
    let (ca, key) =
        stdlib::ca::create(&Request::from_json(request, "ca").unwrap(), SystemClock.now()).unwrap();
    let app = folder.join("app");
    fs::create_dir_all(&app).unwrap();
    fs::write(folder.join("ca.pem"), ca.pem()).unwrap();
    fs::write(folder.join("both.pem"), format!("{}{}", ca.pem(), cluster.ca.pem())).unwrap();
    issue(&ca, &key, "app", &[], &app, "client");
    for machine in &cluster.machines.all {
        let own = folder.join(&machine.name);
        fs::create_dir(&own).unwrap();
        for stem in ["server", "peer"] {
            issue(&ca, &key, &machine.name, &[&machine.address, "localhost"], &own, stem);
        }
        issue(&ca, &key, "health", &[], &own, "client");
    }
}

/// What one restart of a member takes by itself, until it serves again: the median of all members'.
fn restart(cluster: &Cluster) -> Duration {
    let mut all: Vec<Duration> = cluster
        .machines
        .all
        .iter()
        .map(|machine| {
            let begun = Instant::now();
            systemctl(&machine.folder, "restart");
            machine.listens(2379, &machine.path("service.log"));
            begun.elapsed()
        })
        .collect();
    all.sort();
    all[all.len() / 2]
}

/// Commands on the first host: in a row, and sixteen at once. Seconds.
async fn commands(text: &str) -> (f64, f64) {
    let found = inventory::parse(text, "inventory").unwrap();
    let pool = Pool::default();
    let host = pool.host(found.named("m1").unwrap()[0]).unwrap();
    let up = || host.run(Command::new(["true"]));
    up().await.unwrap();
    let begun = Instant::now();
    for _ in 0..COMMANDS {
        assert_eq!(up().await.unwrap().code, 0);
    }
    let row = begun.elapsed();
    let begun = Instant::now();
    for _ in 0..COMMANDS / 16 {
        futures::future::join_all((0..16).map(|_| up())).await;
    }
    (row.as_secs_f64(), begun.elapsed().as_secs_f64())
}

#[test]
#[ignore = "holds hosts for tests/bench until their folder has a file `stop`"]
fn hosts_for_the_benchmark() {
    let folder = PathBuf::from(std::env::var_os("BENCH_HOSTS").expect("BENCH_HOSTS names a folder"));
    let cluster = Cluster::start(3);
    renewed(&cluster, &folder.join("new"));
    let text = fs::read_to_string(cluster.inventory()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (row, many) = runtime.block_on(commands(&text));
    let mut facts = format!("inventory={}\n", cluster.inventory());
    writeln!(facts, "folders={}", cluster.places().join(",")).unwrap();
    writeln!(facts, "address={}", cluster.machines.all[0].address).unwrap();
    writeln!(facts, "root={}", cluster.machines.root.path().display()).unwrap();
    writeln!(facts, "commands={COMMANDS}\nrow={row}\nmany={many}").unwrap();
    writeln!(facts, "restart={}", restart(&cluster).as_secs_f64()).unwrap();
    fs::write(folder.join("facts.new"), facts).unwrap();
    fs::rename(folder.join("facts.new"), folder.join("facts")).unwrap();
    while !folder.join("stop").exists() {
        std::thread::sleep(Duration::from_millis(100));
    }
}
