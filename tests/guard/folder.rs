//! A guard that hears of its peers by a folder, and a peer in a process of its own.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};
use std::time::{Duration, Instant};

use rolecall::discovery::Folder;
use rolecall::guard::{Guard, GuardEvent};
use rolecall::{Registrar, Registration};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines, stdin};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::stalls::Stalls;
use super::support::*;

const PEER: &str = "folder::the_peer";
/// Set where it is started: the folder.
const STARTED: &str = "ROLECALL_PEER_IN_FOLDER";
/// What is promised of a registration, a deregistration and a death.
const SOON: Duration = Duration::from_secs(1);

struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A process that registers and deregisters as it is told.
struct Peer {
    process: Child,
    told: ChildStdin,
    says: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    fn start(folder: &Path) -> Self {
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--exact", PEER, "--ignored", "--nocapture"])
            .env(STARTED, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let told = process.stdin.take().unwrap();
        let says = BufReader::new(process.stdout.take().unwrap()).lines();
        Self {
            process,
            told,
            says,
        }
    }

    /// Has it do something, until it says that it is done.
    async fn has(&mut self, what: &str) {
        in_time(async {
            let line = format!("{what}\n");
            self.told.write_all(line.as_bytes()).await.unwrap();
            let done = format!("done: {what}");
            while !self
                .says
                .next_line()
                .await
                .unwrap()
                .unwrap()
                .contains(&done)
            {}
        })
        .await;
    }
}

/// How long something took, without what the machine is to blame for.
struct Watch(Instant, Stalls);

impl Watch {
    fn start() -> Self {
        Self(Instant::now(), Stalls::measure())
    }

    fn took(&self) -> Duration {
        self.0.elapsed().saturating_sub(self.1.so_far())
    }
}

async fn until_served(server: &Server) -> TcpStream {
    in_time(async {
        loop {
            let mut stranger = connect(STRANGER, server.addr).await;
            if greet(&mut stranger, b"x").await.is_ok() {
                return stranger;
            }
        }
    })
    .await
}

#[tokio::test]
async fn who_comes_first_does_not_wait_for_a_folder_that_nobody_made() {
    let name = format!("rolecall-guard-first-{}", process::id());
    let place = Place(env::temp_dir().join(name));
    let folder = Folder::new(&place.0);
    let guard = Guard::builder(folder.clone(), boundary("shop"))
        .build()
        .unwrap();
    let mut events = guard.events();
    in_time(guard.synced()).await;
    assert!(!guard.admits(STRANGER));
    let here = Registration::new("cart").boundary("shop").peer_ip(STRANGER);
    let _lease = folder.register(here).await.unwrap();
    until(&guard, &mut events, STRANGER, true).await;
}

#[test]
fn a_folder_that_is_gone_in_another_runtime_is_not_one_that_nobody_made() {
    let name = format!("rolecall-guard-gone-{}", process::id());
    let place = Place(env::temp_dir().join(name));
    let folder = place.0.join("folder");
    let runtime = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap()
    };
    let guard = Guard::builder(Folder::new(&folder), boundary("shop"))
        .build()
        .unwrap();
    let first = runtime();
    let lease = first.block_on(async {
        let here = Registration::new("cart").boundary("shop").peer_ip(FRIEND);
        let lease = Folder::new(&folder).register(here).await.unwrap();
        in_time(guard.synced()).await;
        assert!(guard.admits(FRIEND));
        lease
    });
    drop(first);
    std::fs::rename(&folder, place.0.join("gone")).unwrap();
    drop(lease);
    runtime().block_on(async {
        let mut events = guard.events();
        assert!(guard.admits(FRIEND));
        let is_told = |event: &GuardEvent| matches!(event, GuardEvent::DiscoveryFailed { .. });
        event(&mut events, is_told).await;
        assert!(guard.admits(FRIEND), "as known last");
    });
}

#[tokio::test]
async fn a_peer_of_another_process_is_admitted_within_a_second_and_cut_off_when_it_left() {
    let name = format!("rolecall-guard-{}", process::id());
    let place = Place(env::temp_dir().join(name));
    // The folder is there before anybody is in it.
    std::fs::create_dir_all(&place.0).unwrap();
    let guard = Guard::builder(Folder::new(&place.0), boundary("shop"))
        .cut_off(true)
        .build()
        .unwrap();
    in_time(guard.synced()).await;
    let server = Server::start(&guard).await;
    let mut peer = Peer::start(&place.0);
    assert!(!is_served(STRANGER, server.addr).await);
    for leaves in ["deregister", "crash"] {
        peer.has("register").await;
        let watch = Watch::start();
        let mut stranger = until_served(&server).await;
        let admitted = watch.took();
        println!("admitted {admitted:?} after its registration");
        assert!(admitted <= SOON, "{admitted:?}");

        if leaves == "crash" {
            peer.process.kill().await.unwrap();
        } else {
            peer.has(leaves).await;
        }
        let watch = Watch::start();
        assert_eq!(in_time(stranger.read(&mut [0])).await.unwrap_or(0), 0);
        let cut_off = watch.took();
        println!("cut off {cut_off:?} after its {leaves}");
        assert!(cut_off <= SOON, "{cut_off:?}");
        assert!(!is_served(STRANGER, server.addr).await);
    }
    assert_eq!(guard.status().cut_off, 2);
}

/// Ends with its starter.
#[tokio::test]
#[ignore = "the other test starts it"]
async fn the_peer() {
    let Some(folder) = env::var_os(STARTED) else {
        return;
    };
    let discovery = Folder::new(folder);
    let mut lease = None;
    let mut told = BufReader::new(stdin()).lines();
    while let Some(what) = told.next_line().await.unwrap() {
        match lease.take() {
            None => {
                let here = Registration::new("cron").boundary("shop").peer_ip(STRANGER);
                lease = Some(discovery.register(here).await.unwrap());
            }
            Some(lease) => rolecall::Lease::deregister(lease).await.unwrap(),
        }
        println!("done: {what}");
    }
}
