//! What is particular to a folder: whose files it touches, who is alive, and what may not hold it up.

#![cfg(target_os = "linux")]
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test")]

mod child;
mod claims;
mod deaths;
mod foreign;
mod hearing;
mod repair;
#[cfg(target_arch = "x86_64")]
mod steps;

use std::env;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::StreamExt;
use rolecall::discovery::{BoxStream, DiscoveryError, Folder};
use rolecall::{Discovery, InstanceSet, Lease, Registrar, Registration};
use tokio::time;

/// Far above anything that is needed on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder of a test, in the file system of the checkout or in memory.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        Self::within(env::temp_dir())
    }

    fn within(parent: PathBuf) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        // A process that was killed leaves its folders, and another one may get its number.
        loop {
            let number = MADE.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("rolecall-folder-{}-{number}", process::id()));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                made => return made.map(|()| Self(path)).unwrap(),
            }
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn folder(&self) -> Folder {
        Folder::new(&self.0)
    }

    /// The names of records that are there.
    fn records(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let ours = |name: &String| name.ends_with(".rolecall") && !name.starts_with('.');
        let mut names: Vec<_> = names.filter(ours).collect();
        names.sort_unstable();
        names
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.at(name)).unwrap().mode() & 0o7777
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Answers(BoxStream<'static, Result<InstanceSet, DiscoveryError>>);

impl Answers {
    fn of(folder: &Folder) -> Self {
        Self(folder.watch(&"worker:http".parse().unwrap()))
    }

    async fn next(&mut self) -> Result<InstanceSet, DiscoveryError> {
        let answer = time::timeout(PATIENCE, self.0.next()).await;
        answer.expect("an answer").expect("a watch does not end")
    }

    /// The next set of these ids, past other sets and errors.
    async fn ids(&mut self, wanted: &[&str]) -> InstanceSet {
        loop {
            if let Ok(set) = self.next().await
                && ids(&set) == wanted
            {
                return set;
            }
        }
    }

    /// The cause of the next error, past sets.
    async fn fault(&mut self) -> String {
        loop {
            if let Err(error) = self.next().await
                && let Some(cause) = std::error::Error::source(&error)
            {
                return cause.to_string();
            }
        }
    }
}

fn ids(set: &InstanceSet) -> Vec<&str> {
    set.iter().map(|instance| instance.id().as_str()).collect()
}

fn worker(id: &str) -> Registration {
    let registration = Registration::new("worker").id(id);
    registration.endpoint("http", ([10, 0, 0, 7], 80))
}

async fn registered(folder: &Folder, id: &str) -> Lease {
    folder.register(worker(id)).await.unwrap()
}

/// Waits until a condition holds that nothing announces.
async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let waited = time::timeout(PATIENCE, async {
        while !holds() {
            time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}
