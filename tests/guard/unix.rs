//! Unix sockets: admitted by user id, whatever discovery says.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use rolecall::guard::{Guard, GuardErrorKind, GuardEvent, Networks, Peer};
use rolecall::{Instance, List, connect};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{boundary, event, in_time};

/// `nobody`, who owns nothing here.
const NOBODY: u32 = 65_534;
const SOCKET: &str = "ROLECALL_TEST_SOCKET";

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let place = format!("rolecall-guard-{name}-{}", std::process::id());
        let place = std::env::temp_dir().join(place);
        std::fs::create_dir_all(&place).unwrap();
        std::fs::set_permissions(&place, PermissionsExt::from_mode(0o755)).unwrap();
        Self(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A guard that discovery tells nothing, and that lets nobody in over TCP.
fn guard() -> rolecall::guard::GuardBuilder {
    let nowhere: Networks = "192.0.2.1".parse().unwrap();
    Guard::builder(List::new([]).unwrap(), boundary("shop")).allow_networks(nowhere)
}

#[tokio::test]
async fn the_own_uid_is_admitted_without_a_registration() {
    let place = Place::new("own");
    let path = place.0.join("a.sock");
    let guard = guard().build().unwrap();
    let mut listener = guard.listen_unix(&path).unwrap();
    let address = listener.local_addr().unwrap();
    let instance = Instance::new("a", address);
    let (mut dialled, (mut connection, peer)) = tokio::join!(
        async { connect::dial(&instance).await.unwrap() },
        listener.accept()
    );
    assert_eq!((peer, connection.peer()), (Peer::Uid(own_uid()), peer));
    dialled.write_all(b"hello").await.unwrap();
    let mut heard = [0; 5];
    connection.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"hello");
    drop(listener);
    assert!(!path.exists(), "it removes its socket");
}

#[test]
fn another_uid_is_admitted_only_if_it_is_allowed() {
    let (own, other) = (own_uid(), own_uid() + 1);
    let strict = guard().build().unwrap();
    assert!(strict.admits_uid(own) && !strict.admits_uid(other));
    let open = guard().allow_uid(other).build().unwrap();
    assert!(open.admits_uid(own) && open.admits_uid(other) && !open.admits_uid(other + 1));
}

/// Run by the test below as another user: tells what the guard does with it.
#[test]
#[ignore = "the other process of a test"]
fn dials_as_another_user() {
    use std::io::Read;

    let Some(path) = std::env::var_os(SOCKET) else {
        return;
    };
    let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    println!("answer: {answer:?}");
}

#[tokio::test]
async fn a_process_of_another_user_is_denied() {
    if own_uid() != 0 {
        println!("not tested: it takes root to be another user");
        return;
    }
    let place = Place::new("other");
    // Where the other user may execute it.
    let program = place.0.join("dialler");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    for (is_allowed, says) in [(false, "answer: \"\""), (true, "answer: \"welcome\"")] {
        let path = place.0.join(format!("{is_allowed}.sock"));
        let mut builder = guard();
        if is_allowed {
            builder = builder.allow_uid(NOBODY);
        }
        let guard = builder.build().unwrap();
        let mut events = guard.events();
        let mut listener = guard.listen_unix(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).unwrap();
        let serving = tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await;
            connection.write_all(b"welcome").await.unwrap();
        });
        let mut dialler = Command::new(&program);
        dialler.args(["--exact", "unix::dials_as_another_user"]);
        dialler.args(["--nocapture", "--include-ignored"]);
        dialler.env(SOCKET, &path).current_dir("/").uid(NOBODY);
        let output = tokio::task::spawn_blocking(move || dialler.output().unwrap());
        let output = String::from_utf8(in_time(output).await.unwrap().stdout).unwrap();
        assert!(output.contains(says), "{output}");
        if !is_allowed {
            let denied = event(&mut events, |e| matches!(e, GuardEvent::UidRefused { .. })).await;
            assert_eq!(
                denied.to_string(),
                format!("connection from uid {NOBODY} denied")
            );
            assert_eq!(guard.status().refused, 1);
        }
        serving.abort();
    }
}

#[tokio::test]
async fn a_guard_needs_peers_or_networks() {
    let list = || List::new([]).unwrap();
    let error = Guard::builder(list(), boundary("shop"))
        .build()
        .unwrap_err();
    assert_eq!(error.kind(), GuardErrorKind::NoPeers);
    assert!(
        error.to_string().contains("boundary shop: allow networks"),
        "{error}"
    );
    let guard = Guard::builder(list(), boundary("shop"))
        .allow_networks("10.0.0.0/8".parse().unwrap())
        .build()
        .unwrap();
    in_time(guard.synced()).await;
    assert!(guard.admits([10, 0, 0, 7].into()) && guard.admits("::ffff:10.0.0.7".parse().unwrap()));
    assert!(!guard.admits([11, 0, 0, 7].into()));
    assert_eq!(
        guard.explain([10, 0, 0, 7].into()).to_string(),
        "admitted: 10.0.0.7 is in the allowed networks 10.0.0.0/8"
    );
}
