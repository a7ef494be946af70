//! File access that does not block: only regular files are read, and only up to a size.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::{task, time};

use super::fault::Fault;

/// After this time a pending operation is reported.
pub(super) const LATE: Duration = Duration::from_secs(5);

/// Runs an operation on a thread for blocking work. `late` is called once if it is still pending after [`LATE`].
pub(super) async fn looked<T: Send + 'static>(
    look: impl FnOnce() -> T + Send + 'static,
    late: impl FnOnce(),
) -> io::Result<T> {
    let mut look = pin!(task::spawn_blocking(look));
    let looked = match select(look.as_mut(), pin!(time::sleep(LATE))).await {
        Either::Left((looked, _)) => looked,
        Either::Right(_) => {
            late();
            look.await
        }
    };
    looked.map_err(io::Error::other)
}

/// Opens a regular file for reading. Links are followed only if `follows`. A pipe, a device or a file under a lease is an
/// immediate error.
pub(super) fn open(path: &Path, follows: bool) -> io::Result<(File, fs::Metadata)> {
    let before = if follows {
        fs::metadata(path)?
    } else {
        fs::symlink_metadata(path)?
    };
    regular(&before)?;
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use nix::fcntl::OFlag;
        use std::os::unix::fs::OpenOptionsExt;
        let stay = if follows {
            OFlag::empty()
        } else {
            OFlag::O_NOFOLLOW
        };
        options.custom_flags((OFlag::O_NONBLOCK | stay).bits());
    }
    let file = options.open(path)?;
    // What was opened may be something else than what was there.
    let metadata = file.metadata()?;
    regular(&metadata)?;
    Ok((file, metadata))
}

fn regular(metadata: &fs::Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "not a regular file",
    ))
}

/// Reads a whole file of at most `largest` bytes.
pub(super) fn read(file: &File, path: &Path, largest: u64) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    let read = file.take(largest.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|error| Fault::io(path, "it cannot be read", &error))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > largest {
        let problem = format_args!("larger than {largest} bytes");
        return Err(Fault::new(path, problem));
    }
    Ok(bytes)
}

/// Makes a folder that other users cannot access, and its missing parents. An existing folder is not changed.
#[cfg(feature = "cache")]
pub(super) fn make_private_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)
}

/// Returns the metadata of a folder, or an error if the path is not one.
#[cfg(any(all(feature = "folder", unix), feature = "cache"))]
pub(super) fn folder(path: &Path) -> io::Result<fs::Metadata> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        Ok(metadata)
    } else {
        Err(refused(path, "not a folder"))
    }
}

/// Whether it belongs to us or to root and other users cannot write to it.
#[cfg(any(all(feature = "folder", unix), feature = "cache"))]
pub(super) fn private(path: &Path, metadata: &fs::Metadata) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        const WRITABLE_BY_OTHERS: u32 = 0o022;
        let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
        if owner != nix::unistd::geteuid().as_raw() && owner != 0 {
            return Err(refused(path, "it belongs to another user"));
        }
        if mode & WRITABLE_BY_OTHERS != 0 {
            let problem = format!("other users may write to it (mode {mode:o})");
            return Err(refused(path, &problem));
        }
    }
    Ok(())
}

#[cfg(any(all(feature = "folder", unix), feature = "cache"))]
pub(super) fn refused(path: &Path, problem: &str) -> io::Error {
    let text = format!("{}: {problem}", path.display());
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

/// Identifies the state of a file, so that a change is noticed.
#[cfg(any(all(feature = "folder", unix), feature = "roles-file"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    size: u64,
    modified: Option<std::time::SystemTime>,
    #[cfg(unix)]
    inode: (u64, u64),
    #[cfg(unix)]
    changed: (i64, i64),
}

#[cfg(any(all(feature = "folder", unix), feature = "roles-file"))]
impl Stamp {
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt;
        Self {
            size: metadata.len(),
            modified: metadata.modified().ok(),
            #[cfg(unix)]
            inode: (metadata.dev(), metadata.ino()),
            #[cfg(unix)]
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_look_that_does_not_come_back_is_told_once() {
        let told = Arc::new(AtomicUsize::new(0));
        let (come_back, stuck) = mpsc::channel::<u32>();
        let tells = Arc::clone(&told);
        let look = tokio::spawn(looked(
            move || stuck.recv(),
            move || {
                tells.fetch_add(1, Relaxed);
            },
        ));
        task::yield_now().await;
        time::advance(LATE - Duration::from_millis(1)).await;
        task::yield_now().await;
        assert_eq!(told.load(Relaxed), 0);
        for _ in 0..3 {
            time::advance(LATE).await;
            task::yield_now().await;
            assert_eq!(told.load(Relaxed), 1);
        }
        come_back.send(7).unwrap();
        assert_eq!(look.await.unwrap().unwrap(), Ok(7));
    }
}
