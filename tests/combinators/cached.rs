use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use rolecall::{
    BalanceLayer, Boundary, Discovery, DiscoveryExt, Instance, InstanceSet, Registrar,
    Registration, Registry, Visibility, connect,
};
use tower::{Layer, Service};

use crate::captured::Captured;
use crate::source::{Source, Watch, fault, ids, set, unknown};

const NAME: &str = "default.worker.http.set.json";

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let made = MADE.fetch_add(1, Relaxed);
        let name = format!("rolecall-cached-{}-{made}", process::id());
        let root = std::env::temp_dir().join(name);
        fs::create_dir_all(&root).unwrap();
        Self(root)
    }

    fn folder(&self) -> PathBuf {
        self.0.join("cache")
    }

    fn file(&self) -> PathBuf {
        self.folder().join(NAME)
    }

    /// As a process before this one leaves it.
    async fn stored(&self, set: InstanceSet) {
        let source = Source::default();
        let mut watch = Watch::of(&source.clone().cached(self.folder()));
        assert!(watch.now().await.is_none());
        let size = set.len();
        source.say(Ok(set.confirmed()));
        watch.set().await;
        eventually(|| stored_size(&self.file()) == Some(size)).await;
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn stored_size(file: &Path) -> Option<usize> {
    let text = fs::read(file).ok()?;
    let json: serde_json::Value = serde_json::from_slice(&text).expect("never half of a file");
    Some(json["instances"].as_array()?.len())
}

/// Waits for another thread: paused time goes on by a millisecond at a time.
async fn eventually(holds: impl Fn() -> bool) {
    for _ in 0..20_000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_micros(200));
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    unreachable!("it never came true");
}

#[tokio::test(start_paused = true)]
async fn a_process_starts_while_discovery_is_down() {
    let scratch = Scratch::new();
    scratch.stored(set(&["a", "b", "c", "d"], 1)).await;
    let source = Source::default();
    let mut watch = Watch::of(&source.clone().cached(scratch.folder()));
    let stored = watch.set().await;
    assert_eq!(ids(&stored), ["a", "b", "c", "d"]);
    assert!(!stored.is_confirmed());
    source.say(fault("still down"));
    watch.error().await;
    assert!(watch.now().await.is_none());
    source.say(Ok(set(&["e"], 1)));
    assert_eq!(ids(&watch.set().await), ["e"]);
    source.say(fault("down again"));
    watch.error().await;
    assert!(
        watch.now().await.is_none(),
        "the stored set never follows one of discovery"
    );
}

#[tokio::test(start_paused = true)]
async fn it_serves_within_a_second_and_status_tells_the_age() {
    let scratch = Scratch::new();
    scratch.stored(set(&["a", "b", "c", "d"], 1)).await;
    // A minute ago.
    let text = fs::read_to_string(scratch.file()).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let stored_at = json["stored_at"].as_u64().unwrap();
    let aged = text.replace(&stored_at.to_string(), &(stored_at - 60_000).to_string());
    fs::write(scratch.file(), aged).unwrap();

    let source = Source::default();
    let cached = source.clone().cached(scratch.folder());
    source.fails_from_the_start(fault("connection refused"));
    let mut balance =
        BalanceLayer::new(cached, "worker:http")
            .unwrap()
            .layer(connect::per_instance(|_: &Instance| {
                tower::service_fn(|(): ()| async { Ok::<_, std::io::Error>(()) })
            }));
    let served = tokio::time::timeout(Duration::from_secs(1), balance.call(()));
    served.await.expect("within a second").unwrap();
    let status = balance.control().status();
    assert!(status.is_provisional);
    assert!(status.discovery_error.is_some(), "discovery is still down");
    let age = status.set_age.unwrap().as_secs();
    assert!((60..120).contains(&age), "{status}");
    assert!(status.to_string().contains("provisional"), "{status}");

    source.say(Ok(set(&["e"], 1)));
    tokio::time::sleep(Duration::from_millis(1)).await;
    let status = balance.control().status();
    assert_eq!(
        status.members.len(),
        1,
        "replaced at once, without doubt: {status}"
    );
    assert!(!status.is_provisional && status.discovery_error.is_none());
    assert!(status.set_age.unwrap() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn the_stored_set_is_given_at_once_when_discovery_fails_or_ends() {
    let scratch = Scratch::new();
    scratch.stored(set(&["a"], 1)).await;
    for end in [false, true] {
        let source = Source::default();
        let mut watch = Watch::of(&source.clone().cached(scratch.folder()));
        assert!(watch.now().await.is_none());
        if end {
            source.end();
        } else {
            source.say(unknown());
        }
        // The error and the stand-in, whichever is told first: a stand-in overcomes no error.
        let (mut sets, mut errors) = (0, 0);
        while sets == 0 || errors < usize::from(!end) {
            let next = tokio::time::timeout(Duration::from_millis(249), watch.next());
            match next.await.expect("at once") {
                Ok(stored) => {
                    assert_eq!(ids(&stored), ["a"]);
                    sets += 1;
                }
                Err(_) => errors += 1,
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_discovery_that_answers_is_not_preceded_by_a_stored_set() {
    let scratch = Scratch::new();
    scratch.stored(set(&["a"], 1)).await;
    let source = Source::default();
    let mut watch = Watch::of(&source.clone().cached(scratch.folder()));
    assert!(watch.now().await.is_none());
    tokio::time::advance(Duration::from_millis(100)).await;
    source.say(Ok(set(&["b"], 1)));
    assert_eq!(ids(&watch.set().await), ["b"]);
    tokio::time::advance(Duration::from_secs(5)).await;
    assert!(watch.now().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn there_is_a_private_file_for_each_target_and_for_peers() {
    let scratch = Scratch::new();
    let registry = Registry::new();
    let cached = registry.clone().cached(scratch.folder());
    let registration = Registration::new("worker")
        .id("w-1")
        .endpoint("http", ([10, 0, 0, 7], 80))
        .endpoint("grpc", ([10, 0, 0, 7], 90))
        .visibility(Visibility::Public)
        .weight(7)
        .zone("a")
        .metadata("version", "7");
    let _lease = cached.register(registration).await.unwrap();
    let mut watches = [
        Watch::of(&cached),
        Watch(cached.watch(&"worker:grpc".parse().unwrap())),
        Watch(cached.peers(&Boundary::default())),
    ];
    let mut real = Vec::new();
    for watch in &mut watches {
        real.push(watch.set().await);
    }
    let names = ["default.peers.json", "default.worker.grpc.set.json", NAME];
    let folder = scratch.folder();
    eventually(|| names.iter().all(|name| folder.join(name).exists())).await;
    assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o7777, 0o700);
    for name in names {
        let mode = fs::metadata(folder.join(name)).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o600);
    }
    drop(watches);
    assert_eq!(
        fs::read_dir(&folder).unwrap().count(),
        3,
        "no temporary file is left"
    );

    let down = Source::default().cached(&folder);
    let mut again = [
        Watch::of(&down),
        Watch(down.watch(&"worker:grpc".parse().unwrap())),
        Watch(down.peers(&Boundary::default())),
    ];
    for (watch, real) in again.iter_mut().zip(real) {
        let stored = watch.set().await;
        assert!(stored.iter().eq(real.iter()), "{stored:?} is not {real:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn writes_are_coalesced_and_the_last_one_is_made() {
    let scratch = Scratch::new();
    let source = Source::default();
    let mut watch = Watch::of(&source.clone().cached(scratch.folder()));
    assert!(watch.now().await.is_none());
    source.say(Ok(set(&["a"], 1)));
    watch.set().await;
    eventually(|| stored_size(&scratch.file()) == Some(1)).await;
    let mut written = 0;
    let mut inode = fs::metadata(scratch.file()).unwrap().ino();
    for port in 2..500 {
        source.say(Ok(set(&["a", "b"], port)));
        watch.set().await;
        tokio::time::advance(Duration::from_millis(2)).await;
        let now = fs::metadata(scratch.file()).unwrap().ino();
        written += usize::from(std::mem::replace(&mut inode, now) != now);
    }
    assert!(written <= 2, "{written} writes in a second");
    source.say(Ok(set(&["a", "b", "c"], 999)));
    watch.set().await;
    drop(watch);
    eventually(|| stored_size(&scratch.file()) == Some(3)).await;
}

#[tokio::test(start_paused = true)]
async fn a_set_that_may_be_half_an_answer_is_stored_late() {
    let scratch = Scratch::new();
    scratch.stored(set(&["a", "b", "c", "d"], 1)).await;
    let source = Source::default();
    let mut watch = Watch::of(&source.clone().cached(scratch.folder()));
    assert!(watch.now().await.is_none());
    for half in [set(&[], 1), set(&["a"], 1)] {
        source.say(Ok(half));
        watch.set().await;
        // The task that writes reads the file first, on another thread.
        tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(50)))
            .await
            .unwrap();
        tokio::task::yield_now().await;
        for _ in 0..100 {
            tokio::time::advance(Duration::from_millis(100)).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(stored_size(&scratch.file()), Some(4));
    }
    // Two thirds of the grace period are over. A second doubtful set does not prolong it.
    let left = std::sync::atomic::AtomicU32::new(0);
    eventually(|| {
        left.fetch_add(1, Relaxed);
        stored_size(&scratch.file()) == Some(1)
    })
    .await;
    let left = left.into_inner();
    assert!((9_000..12_000).contains(&left), "stored after {left} ms");
    source.say(Ok(set(&[], 1).confirmed()));
    watch.set().await;
    eventually(|| stored_size(&scratch.file()) == Some(0)).await;
}

#[tokio::test(start_paused = true)]
async fn a_corrupt_file_is_told_once_and_replaced() {
    let scratch = Scratch::new();
    scratch.stored(set(&["a"], 1)).await;
    let whole = fs::read(scratch.file()).unwrap();
    let later = String::from_utf8(whole.clone()).unwrap();
    let later = later.replacen(":1,", ":2,", 1).into_bytes();
    for corrupt in [&whole[..whole.len() / 2], b"", &later] {
        fs::write(scratch.file(), corrupt).unwrap();
        let source = Source::default();
        let mut watch = Watch::of(&source.clone().cached(scratch.folder()));
        let error = watch.next().await.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains(NAME), "{cause}");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(watch.now().await.is_none(), "told once, and nothing else");
        source.say(Ok(set(&["b"], 1)));
        assert_eq!(ids(&watch.set().await), ["b"]);
        let file = scratch.file();
        eventually(|| fs::read(&file).is_ok_and(|text| text.len() == whole.len())).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_tried_again_and_told_once() {
    let scratch = Scratch::new();
    // In the way of the folder, until somebody removes it.
    fs::write(scratch.folder(), "in the way").unwrap();
    let captured = Captured::default();
    let _captured = captured.capture(tracing::Level::INFO);
    let lines = |what: &str| {
        let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(what)).count()
    };
    let source = Source::default();
    let mut watch = Watch::of(&source.clone().cached(scratch.folder()));
    let _ = watch.now().await;
    source.say(Ok(set(&["a"], 1)));
    while watch.next().await.is_err() {}
    eventually(|| lines("set could not be cached") == 1).await;
    for _ in 0..200 {
        std::thread::sleep(Duration::from_millis(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(lines("set could not be cached"), 1, "told once");
    fs::remove_file(scratch.folder()).unwrap();
    // No other set comes, and pauses grow to a minute.
    for _ in 0..2000 {
        if stored_size(&scratch.file()) == Some(1) {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(stored_size(&scratch.file()), Some(1));
    eventually(|| lines("sets are cached again") == 1).await;
}

#[tokio::test(start_paused = true)]
async fn foreign_files_are_never_touched() {
    let scratch = Scratch::new();
    let folder = scratch.folder();
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    let target = scratch.0.join("target");
    fs::write(&target, "{}").unwrap();
    let foreign = [
        "x.set.json",
        "default.worker.http.set.json",
        "default.worker.http.set.json.tmp",
        "package.json",
    ];
    for case in 0..3 {
        for name in foreign {
            let _ = fs::remove_file(folder.join(name));
        }
        for name in ["x.set.json", "package.json"] {
            fs::write(folder.join(name), "{\"mine\":1}").unwrap();
        }
        match case {
            0 => fs::write(scratch.file(), "{\"mine\":1}").unwrap(),
            1 => std::os::unix::fs::symlink(&target, scratch.file()).unwrap(),
            _ => fs::write(folder.join(foreign[2]), "{\"mine\":1}").unwrap(),
        }
        let seen = || -> Vec<_> {
            let names = foreign.iter().map(|name| folder.join(name));
            names
                .map(|path| {
                    (
                        fs::symlink_metadata(&path)
                            .map(|m| (m.ino(), m.mode(), m.len()))
                            .ok(),
                        fs::read(&path).ok(),
                    )
                })
                .collect()
        };
        let before = seen();
        let source = Source::default();
        let mut watch = Watch::of(&source.clone().cached(&folder));
        let told = watch.now_or_late().await;
        assert_eq!(told, case != 2, "what stands in the way is told");
        source.say(Ok(set(&["b"], 1)));
        assert_eq!(ids(&watch.set().await), ["b"]);
        for _ in 0..50 {
            std::thread::sleep(Duration::from_millis(1));
            tokio::time::advance(Duration::from_millis(50)).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(before, seen(), "case {case}");
        assert_eq!(fs::read_to_string(&target).unwrap(), "{}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_others_may_write_to_is_not_read() {
    let scratch = Scratch::new();
    scratch.stored(set(&["a"], 1)).await;
    for (path, mode) in [(scratch.file(), 0o606), (scratch.folder(), 0o777)] {
        let before = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let mut watch = Watch::of(&Source::default().cached(scratch.folder()));
        let error = watch.next().await.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("other users may write to it"), "{cause}");
        fs::set_permissions(&path, before).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_killed_process_left_does_not_stop_writing() {
    let scratch = Scratch::new();
    scratch.stored(set(&["a"], 1)).await;
    let temporary = scratch.folder().join(format!("{NAME}.tmp"));
    fs::write(&temporary, "{\"rolecall_set\":1,\"stor").unwrap();
    let left = fs::File::options().write(true).open(&temporary).unwrap();
    let earlier = std::time::UNIX_EPOCH + Duration::from_secs(1);
    left.set_modified(earlier).unwrap();
    scratch.stored(set(&["a", "b"], 1)).await;
    assert!(!temporary.exists());
}

impl Watch {
    /// Whether an error comes before long.
    async fn now_or_late(&mut self) -> bool {
        let next = tokio::time::timeout(Duration::from_secs(1), self.next());
        next.await.is_ok_and(|answer| answer.is_err())
    }
}
