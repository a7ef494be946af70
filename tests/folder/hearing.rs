//! What a watcher must not overhear: a lock released without an event while events never rest, a list that cannot be had.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use tokio::time;

use crate::child::Child;
use crate::{Answers, Place, registered};

/// Holds a record under a name that another one gives it, and lets go of the lock when it is told to, which no event tells.
const HOLDS: &str = "
import fcntl, os, sys
file = open(sys.argv[1], 'r+')
fcntl.lockf(file, fcntl.LOCK_EX)
os.rename(sys.argv[1], sys.argv[2])
print('held', flush=True)
sys.stdin.readline()
fcntl.lockf(file, fcntl.LOCK_UN)
print('free', flush=True)
sys.stdin.readline()
";

#[tokio::test]
async fn a_lock_released_after_the_close_is_noticed_in_a_folder_full_of_news() {
    let (place, other) = (Place::new(), Place::new());
    let name = "default.worker.x.rolecall";
    let lease = registered(&other.folder(), "x").await;
    let text = fs::read(other.at(name)).unwrap();
    lease.deregister().await.unwrap();
    let unfinished = place.at(".unfinished");
    fs::write(&unfinished, text).unwrap();
    fs::set_permissions(&unfinished, Permissions::from_mode(0o600)).unwrap();
    let _lives = registered(&place.folder(), "lives").await;
    let mut holder = Command::new("python3")
        .args(["-c", HOLDS])
        .args([&unfinished, &place.at(name)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), "held");
    let mut answers = Answers::of(&place.folder());
    answers.ids(&["lives", "x"]).await;

    let is_over = Arc::new(AtomicBool::new(false));
    let (ends, churned) = (Arc::clone(&is_over), place.at("churn.rolecall"));
    let churn = thread::spawn(move || {
        while !ends.load(Relaxed) {
            fs::write(&churned, "mine").unwrap();
            fs::remove_file(&churned).unwrap();
        }
    });
    // The close is told while the lock is still held, as it is for a moment by whoever dies.
    drop(
        fs::File::options()
            .append(true)
            .open(place.at(name))
            .unwrap(),
    );
    time::sleep(Duration::from_millis(20)).await;
    writeln!(holder.stdin.as_mut().unwrap(), "free").unwrap();
    assert_eq!(said.next().unwrap().unwrap(), "free");
    let gone = time::timeout(Duration::from_secs(10), answers.ids(&["lives"])).await;
    is_over.store(true, Relaxed);
    churn.join().unwrap();
    let _ = holder.kill();
    let _ = holder.wait();
    assert!(gone.is_ok(), "it is dead, and only events are looked at");
}

#[tokio::test]
async fn a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one() {
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        println!("not tested: it takes root to be another user");
        return;
    }
    let parent = Place::new();
    fs::set_permissions(&parent.0, Permissions::from_mode(0o755)).unwrap();
    let (folder, program) = (parent.at("folder"), parent.at("program"));
    fs::create_dir(&folder).unwrap();
    std::os::unix::fs::chown(&folder, Some(NOBODY), None).unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut lives = Child::of_user(NOBODY, &program, "registrant", &folder, "lives");
    assert_eq!(lives.line(), "registered");

    fs::set_permissions(&folder, Permissions::from_mode(0o300)).unwrap();
    let mut watcher = Child::of_user(NOBODY, &program, "watcher", &folder, "");
    let first = watcher.line();
    assert!(first.contains("failed while reading a folder"), "{first}");
    fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
    assert_eq!(watcher.line(), "lives", "no set came before the list");
}
