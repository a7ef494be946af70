//! What is not ours is not touched, and holds up nobody.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::child::Child;
use crate::{Answers, Place, registered};

/// Everything about a foreign file that somebody could have changed.
type Snapshot = BTreeMap<String, (Vec<u8>, u32, u64, i64, i64)>;

fn snapshot(place: &Place) -> Snapshot {
    let mut found = Snapshot::new();
    let mut folders = vec![place.0.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path
                .strip_prefix(&place.0)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let is_registered = name.starts_with("default.worker.live");
            if is_registered || name == ".rolecall" || name.starts_with(".rolecall/claims") {
                continue;
            }
            let there = fs::symlink_metadata(&path).unwrap();
            let content = match there.file_type() {
                kind if kind.is_dir() => {
                    folders.push(path.clone());
                    Vec::new()
                }
                kind if kind.is_symlink() => fs::read_link(&path)
                    .unwrap()
                    .into_os_string()
                    .into_encoded_bytes(),
                kind if kind.is_fifo() => Vec::new(),
                _ => fs::read(&path).unwrap(),
            };
            // The content of a folder is looked at by itself.
            let times = if there.is_dir() {
                (0, 0)
            } else {
                (there.mtime_nsec(), there.ctime_nsec())
            };
            found.insert(name, (content, there.mode(), there.ino(), times.0, times.1));
        }
    }
    found
}

/// A thousand files of all names and kinds.
fn fill(place: &Place) {
    let write = |name: &str, text: &[u8]| fs::write(place.at(name), text).unwrap();
    write("package.json", b"{}");
    write("users.json", br#"{"role":"worker"}"#);
    write(".cache.tmp", b"cached");
    write(
        "default.worker.w-1.json",
        b"{\"rolecall\":1,\"role\":\"worker\",\"id\":\"w-1\"}",
    );
    write("default.worker.known", b"");
    write("default.worker.empty.rolecall", b"");
    write("default.worker.text.rolecall", b"not a record");
    write("notes.rolecall", b"{\"rolecall\"");
    write(".rolecall.lock", b"");
    write("x.rolecall~", b"{\"rolecall\":1}");
    fs::create_dir_all(place.at(".rolecall/tmp")).unwrap();
    write(".rolecall/tmp/foreign", b"in the wrong place");
    write(".rolecall/tmp/7-.tmp", b"");
    fs::create_dir(place.at("folder.rolecall")).unwrap();
    write("folder.rolecall/inside.rolecall", b"{\"rolecall\":1}");
    symlink("package.json", place.at("link.rolecall")).unwrap();
    symlink("nowhere", place.at("default.worker.live-0.1.rolecall")).unwrap();
    fs::remove_file(place.at("default.worker.live-0.1.rolecall")).unwrap();
    for fifo in ["pipe", "pipe.rolecall"] {
        assert!(
            Command::new("mkfifo")
                .arg(place.at(fifo))
                .status()
                .unwrap()
                .success()
        );
    }
    for number in 0..980 {
        let ending = ["json", "tmp", "known", "toml", "lock", "rolecall.bak"][number % 6];
        write(&format!("{number}.{ending}"), number.to_string().as_bytes());
    }
}

async fn untouched(rounds: usize) {
    let place = Place::new();
    fill(&place);
    // Locked by their owners, which others could steal.
    let locked = fs::File::open(place.at("users.json")).unwrap();
    locked.lock().unwrap();
    let before = snapshot(&place);
    assert!(before.len() > 950, "{}", before.len());
    let mut answers = Answers::of(&place.folder());
    for round in 0..rounds {
        let mut child = Child::start(&place.0, "live-child");
        let lease = registered(&place.folder(), "live-here").await;
        answers.ids(&["live-child", "live-here"]).await;
        child.kill();
        answers.ids(&["live-here"]).await;
        let again = registered(&place.folder(), "live-child").await;
        answers.ids(&["live-child", "live-here"]).await;
        again.deregister().await.unwrap();
        lease.deregister().await.unwrap();
        answers.ids(&[]).await;
        assert!(snapshot(&place) == before, "changed in round {round}");
    }
    let other = fs::File::open(place.at("package.json")).unwrap();
    other.try_lock().expect("nobody holds a lock on it");
    // Nor one of the kind that records have, which knows nothing of the other kind.
    let writable = fs::File::options()
        .write(true)
        .open(place.at("package.json"));
    let exclusive = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    rustix::fs::fcntl_lock(writable.unwrap(), exclusive).expect("nobody holds a lock on it");
}

#[tokio::test]
async fn foreign_files_are_not_touched() {
    untouched(5).await;
}

#[tokio::test]
#[ignore = "a minute"]
#[expect(clippy::disallowed_methods, reason = "a minute of real time")]
async fn foreign_files_are_not_touched_for_a_minute() {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(60) {
        untouched(20).await;
    }
}

#[tokio::test]
async fn a_foreign_file_that_has_a_records_name_takes_the_name_and_not_the_id() {
    let place = Place::new();
    fs::write(place.at("default.worker.w.rolecall"), b"mine").unwrap();
    let lease = registered(&place.folder(), "w").await;
    assert_eq!(
        place.records(),
        ["default.worker.w.1.rolecall", "default.worker.w.rolecall"]
    );
    let mut answers = Answers::of(&place.folder());
    answers.ids(&["w"]).await;
    let fault = answers.fault().await;
    assert!(
        fault.ends_with("default.worker.w.rolecall: not a registration of rolecall; remove it"),
        "{fault}"
    );
    lease.deregister().await.unwrap();
    answers.ids(&[]).await;
    assert_eq!(
        fs::read(place.at("default.worker.w.rolecall")).unwrap(),
        b"mine"
    );
}

#[tokio::test]
async fn a_record_swapped_for_a_pipe_or_a_link_holds_up_nobody() {
    let place = Place::new();
    let folder = place.folder();
    let _lease = registered(&folder, "w").await;
    let mut answers = Answers::of(&place.folder());
    answers.ids(&["w"]).await;
    for kind in ["pipe", "link", "folder"] {
        // A fault that is the same as the last one is not told again.
        let other = place.at(&format!("{kind}.rolecall"));
        match kind {
            "pipe" => assert!(
                Command::new("mkfifo")
                    .arg(&other)
                    .status()
                    .unwrap()
                    .success()
            ),
            "link" => symlink("/dev/zero", &other).unwrap(),
            _ => fs::create_dir(&other).unwrap(),
        }
        let fault = answers.fault().await;
        assert!(
            fault.ends_with(&format!("{kind}.rolecall: not a regular file")),
            "{fault}"
        );
        let second = registered(&folder, "x").await;
        answers.ids(&["w", "x"]).await;
        second.deregister().await.unwrap();
        fs::remove_dir(&other)
            .or_else(|_| fs::remove_file(&other))
            .unwrap();
        answers.ids(&["w"]).await;
    }
}

/// A process that has a lease on a file: whoever opens it waits up to 45 s.
const LEASES: &str = "
import fcntl, sys, time
file = open(sys.argv[1], 'r+')
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
import signal
signal.signal(signal.SIGIO, signal.SIG_IGN)
print('leased', flush=True)
sys.stdin.read()
";

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "real time of another process")]
async fn a_file_on_which_somebody_has_a_lease_holds_up_nobody() {
    let place = Place::new();
    let leased = place.at("leased.rolecall");
    fs::write(&leased, b"{\"rolecall\":1}").unwrap();
    let holder = Command::new("python3")
        .args(["-c", LEASES])
        .arg(&leased)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut holder) = holder else {
        return println!("there is no python3 to take a lease");
    };
    let mut said = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(holder.stdout.take().unwrap()),
        &mut said,
    )
    .unwrap();
    if said != "leased\n" {
        let _ = holder.wait();
        return println!("this file system has no leases");
    }
    let began = Instant::now();
    let _lease = registered(&place.folder(), "w").await;
    let mut answers = Answers::of(&place.folder());
    answers.ids(&["w"]).await;
    let fault = answers.fault().await;
    assert!(
        fault.contains("leased.rolecall: it cannot be opened"),
        "{fault}"
    );
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    holder.stdin.take().unwrap().flush().unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
}
