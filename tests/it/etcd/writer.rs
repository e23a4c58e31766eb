//! An application that puts and reads keys through every member, and holds them to what they acknowledged.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use etcd_client::{ResponseHeader, StatusResponse};
use stdlib::World;
use stdlib::etcd::Endpoint;

use super::client::{access, get, put, status};
use super::expired::systemctl;
use super::members::Cluster;

/// What the members did to it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Report {
    /// Writes that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Writes and reads that were not answered; they may have happened or not.
    pub(crate) unanswered: u64,
    /// The longest time in which one writer got no write acknowledged.
    pub(crate) longest_gap: Duration,
    /// The longest time in which nobody got a write acknowledged.
    pub(crate) silence: Duration,
    /// When the last write was acknowledged.
    last: Option<Instant>,
    /// Acknowledged writes that were lost or read stale.
    pub(crate) wrong: Vec<String>,
    /// The most members that did not listen at one moment.
    pub(crate) most_down: usize,
}

pub(crate) struct Writer {
    stop: Arc<AtomicBool>,
    report: Arc<Mutex<Report>>,
    thread: JoinHandle<()>,
    sampler: JoinHandle<()>,
}

/// A number; nothing where the read is not answered.
async fn read(world: &World, endpoint: &Endpoint, folder: &Path, key: &str) -> Option<u64> {
    let text = get(world, endpoint, &access(folder), key).await.ok()?;
    Some(text.and_then(|text| text.parse().ok()).unwrap_or(0))
}

async fn write(
    number: usize,
    world: World,
    endpoints: Vec<Endpoint>,
    folder: PathBuf,
    stop: Arc<AtomicBool>,
    report: Arc<Mutex<Report>>,
) {
    let key = format!("writer-{number}");
    let at = |n: usize| &endpoints[n % endpoints.len()];
    let (mut tried, mut acknowledged, mut seen) = (0_u64, 0_u64, 0_u64);
    let mut last = Instant::now();
    let mut turn = number;
    let judge = |value: u64, acknowledged: u64, seen: u64, tried: u64, by: &Endpoint| {
        let fits = value >= acknowledged && value >= seen && value <= tried;
        (!fits).then(|| {
            format!("{key} read as {value} from {by}: {acknowledged} was acknowledged, {seen} was seen, {tried} was written last")
        })
    };
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        tried += 1;
        if put(&world, at(turn), &access(&folder), &key, &tried.to_string()).await.is_ok() {
            acknowledged = tried;
            let gap = last.elapsed();
            last = Instant::now();
            let mut report = report.lock().unwrap();
            report.acknowledged += 1;
            report.longest_gap = report.longest_gap.max(gap);
            let since = report.last.map_or(Duration::ZERO, |earlier| last.duration_since(earlier));
            report.silence = report.silence.max(since);
            report.last = Some(last);
        } else {
            report.lock().unwrap().unanswered += 1;
        }
        match read(&world, at(turn + 1), &folder, &key).await {
            Some(value) => {
                let wrong = judge(value, acknowledged, seen, tried, at(turn + 1));
                seen = seen.max(value);
                report.lock().unwrap().wrong.extend(wrong);
            }
            None => report.lock().unwrap().unanswered += 1,
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // In the end every member must have it.
    for endpoint in &endpoints {
        let mut value = None;
        for _ in 0..60 {
            value = read(&world, endpoint, &folder, &key).await;
            if value.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let mut report = report.lock().unwrap();
        match value {
            Some(value) => report.wrong.extend(judge(value, acknowledged, seen, tried, endpoint)),
            None => report.wrong.push(format!("{endpoint} does not answer in the end")),
        }
    }
}

impl Writer {
    /// One writer for each member, each through all of them.
    pub(crate) fn begin(cluster: &Cluster) -> Self {
        let (stop, report) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Report>>::default());
        let endpoints: Vec<Endpoint> =
            cluster.endpoints().iter().map(|text| Endpoint::of(text).unwrap()).collect();
        let folder = cluster.machines.root.path().join("app");
        let (ending, told, dialled) = (Arc::clone(&stop), Arc::clone(&report), endpoints.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let world = World::system(None, "/".into());
                let writers = (0..dialled.len()).map(|number| {
                    write(
                        number,
                        world.clone(),
                        dialled.clone(),
                        folder.clone(),
                        Arc::clone(&ending),
                        Arc::clone(&told),
                    )
                });
                futures::future::join_all(writers).await;
            });
        });
        let (ending, told) = (Arc::clone(&stop), Arc::clone(&report));
        let sampler = std::thread::spawn(move || {
            let addresses: Vec<SocketAddr> =
                endpoints.iter().map(|e| format!("{}:{}", e.host, e.port).parse().unwrap()).collect();
            while !ending.load(Ordering::Relaxed) {
                // A loaded machine takes its time to accept, so only a refusal says that nobody listens.
                let down = addresses.iter().filter(|address| {
                    let dialled = TcpStream::connect(address);
                    dialled.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
                });
                let down = down.count();
                let mut report = told.lock().unwrap();
                report.most_down = report.most_down.max(down);
                drop(report);
                std::thread::sleep(Duration::from_millis(25));
            }
        });
        Self { stop, report, thread, sampler }
    }

    /// What it has seen so far.
    pub(crate) fn so_far(&self) -> Report {
        self.report.lock().unwrap().clone()
    }

    /// What it has seen so far; its gaps are counted anew.
    pub(crate) fn gaps_anew(&self) -> Report {
        let mut report = self.report.lock().unwrap();
        let seen = report.clone();
        (report.longest_gap, report.silence, report.most_down) = Default::default();
        seen
    }

    /// Waits for so many more acknowledged writes.
    pub(crate) fn goes_on(&self, more: u64) {
        let goal = self.so_far().acknowledged + more;
        let begun = Instant::now();
        while self.so_far().acknowledged < goal {
            assert!(begun.elapsed() < Duration::from_secs(120), "no writes any more: {:?}", self.so_far());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Kills the leader, and tells how long writes stood still: one election. All are up again when it returns.
    pub(crate) fn sees_an_election(&self, cluster: &Cluster) -> Report {
        let leads =
            |status: &StatusResponse| Some(status.leader()) == status.header().map(ResponseHeader::member_id);
        let machines = &cluster.machines.all;
        let leader =
            (0..machines.len()).find(|n| leads(&status(cluster, *n).unwrap())).expect("somebody leads");
        self.gaps_anew();
        let main = std::fs::read_to_string(machines[leader].path("main")).unwrap();
        let killed =
            std::process::Command::new("kill").args(["-9", main.split(' ').next().unwrap()]).status();
        assert!(killed.unwrap().success());
        // Every writer is past it then.
        self.goes_on(20 * machines.len() as u64);
        let seen = self.gaps_anew();
        systemctl(&machines[leader].folder, "restart");
        let begun = Instant::now();
        let well = |n| status(cluster, n).is_ok_and(|status| status.leader() != 0);
        while !(0..machines.len()).all(well) {
            assert!(begun.elapsed() < Duration::from_secs(120), "it does not come back");
            std::thread::sleep(Duration::from_millis(50));
        }
        self.goes_on(20 * machines.len() as u64);
        self.gaps_anew();
        println!(
            "an election after the leader was killed: {:?} for one writer and {:?} for all",
            seen.longest_gap, seen.silence
        );
        seen
    }

    /// Ends it, and tells what it saw; what was acknowledged must be there, at every member.
    pub(crate) fn ends(self, story: &str) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.sampler.join().unwrap();
        let report = self.report.lock().unwrap().clone();
        println!(
            "{story}: {} writes acknowledged, {} not answered, longest gap {:?} for one writer and {:?} for all, at most {} members down",
            report.acknowledged, report.unanswered, report.longest_gap, report.silence, report.most_down
        );
        assert!(report.wrong.is_empty(), "{story}: {:#?}", report.wrong);
        report
    }
}
