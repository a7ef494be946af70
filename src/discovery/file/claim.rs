//! How an id is claimed that somebody has, or had.

use std::sync::Arc;
use std::time::Duration;

use tokio::time;

use super::hub::Hub;
use super::keeper::Command;
use super::lease::{Posted, asked};
use super::stamp::Stamp;
use crate::discovery::Announcement;
use crate::error::discovery::RegisterError;

/// Who has the name, where no lock tells whether it lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder {
    pub(super) stamp: Stamp,
    pub(super) lease: Duration,
}

pub(super) enum Refused {
    Held(Holder),
    Failed(RegisterError),
}

impl Refused {
    pub(super) fn of(self, announced: &Announcement) -> RegisterError {
        match self {
            Self::Held(_) => taken(announced),
            Self::Failed(error) => error,
        }
    }
}

impl From<RegisterError> for Refused {
    fn from(error: RegisterError) -> Self {
        Self::Failed(error)
    }
}

/// Looks at a silent holder, a tenth of its lease apart, after which it is dead: as many as make a watcher believe it.
const LOOKS: u32 = 8;

/// Has the thread register it. A holder of whom no lock tells whether it lives is waited for: until its file changes, which
/// mostly takes a fifth of its lease, or its lease is over. Looks are counted, so that whoever slept takes nobody for dead.
pub(super) async fn registered(
    hub: &Arc<Hub>,
    announced: &Announcement,
) -> Result<Posted, RegisterError> {
    let mut holder: Option<Holder> = None;
    let mut looks = 0;
    loop {
        let dead = holder.filter(|_| looks >= LOOKS).map(|holder| holder.stamp);
        let told = Box::new(announced.clone());
        let posted = asked(hub, |reply| {
            Command::Announce(hub.clone(), told, dead, reply)
        });
        let found = match posted.await? {
            Ok(posted) => return Ok(posted),
            Err(found) => found,
        };
        if holder.is_some_and(|holder| holder.stamp != found.stamp) {
            return Err(taken(announced));
        }
        holder = Some(found);
        time::sleep(found.lease / 10).await;
        looks += 1;
    }
}

pub(super) fn taken(announced: &Announcement) -> RegisterError {
    RegisterError::id_taken(announced.boundary(), announced.role(), announced.id())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::time::SystemTime;

    use futures_util::future::{Either, select};

    use super::super::lock::tests::Unlocked;
    use super::super::posts::Posts;
    use super::*;
    use crate::discovery::Registration;
    use crate::runtime::clock;

    const LEASE: Duration = Duration::from_secs(4);

    fn worker() -> Announcement {
        let worker = Registration::new("worker").id("w-1");
        worker.validate().unwrap()
    }

    /// A folder in which somebody who never beats registered `w-1`.
    fn folder(name: &str) -> (PathBuf, Posts) {
        let path = format!("rolecall-claim-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(path);
        let _ = fs::remove_dir_all(&path);
        let mut posts = Posts::new(path.clone(), LEASE);
        assert!(posts.announce(worker(), None).is_ok());
        (path, posts)
    }

    /// Registers it too, on a file system that knows no locks.
    async fn claimed(path: &std::path::Path) -> Result<Posted, RegisterError> {
        let (hub, keeping) = Hub::new(path, true, Duration::from_secs(10));
        let worker = worker();
        let claiming = std::pin::pin!(registered(&hub, &worker));
        match select(std::pin::pin!(keeping), claiming).await {
            Either::Left(_) => unreachable!("the hub is there"),
            Either::Right((claimed, _)) => claimed,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_locks_the_id_of_a_crashed_holder_is_free_after_its_lease() {
        let _unlocked = Unlocked::new();
        let (path, posts) = folder("crashed");
        drop(posts);
        let began = clock::now();
        assert!(claimed(&path).await.is_ok());
        let waited = clock::now() - began;
        assert!(waited >= LEASE / 5 * 4, "after {waited:?}");
        assert!(waited <= LEASE, "after {waited:?}");
        fs::remove_dir_all(path).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn without_locks_the_id_of_a_living_holder_is_taken() {
        let _unlocked = Unlocked::new();
        let (path, _posts) = folder("living");
        let file = path.join("default.worker.w-1.json");
        let beating = async {
            time::sleep(LEASE / 5).await;
            let file = fs::File::options().write(true).open(&file).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        };
        let (claimed, ()) = futures_util::future::join(claimed(&path), beating).await;
        let error = claimed.map(|_| ()).unwrap_err();
        assert_eq!(
            error.kind(),
            crate::discovery::RegisterErrorKind::IdTaken,
            "{error}"
        );
        assert!(file.exists(), "and stays");
        fs::remove_dir_all(path).unwrap();
    }
}
