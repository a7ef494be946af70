//! What the system tells of changes in a folder.

use std::collections::BTreeSet;
use std::path::Path;

/// What has changed.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Names of records that came, went, or were changed.
    pub(super) names: BTreeSet<String>,
    /// Names of records that a writer closed, which is told just before the lock is released.
    pub(super) closed: BTreeSet<String>,
    /// Some changes were not told.
    pub(super) is_lossy: bool,
    /// The folder itself was moved or removed.
    pub(super) is_gone: bool,
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod of {
    use std::os::fd::{AsFd, AsRawFd, RawFd};

    use nix::errno::Errno;
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
    use nix::sys::statfs;
    use tokio::io::unix::AsyncFd;

    use super::super::names;
    use super::{Changes, Path};
    use crate::runtime::panic::caught;

    pub(in crate::discovery::folder) struct Events {
        inotify: AsyncFd<Descriptor>,
        pub(in crate::discovery::folder) tells_everything: bool,
    }

    struct Descriptor(Inotify);

    impl AsRawFd for Descriptor {
        fn as_raw_fd(&self) -> RawFd {
            self.0.as_fd().as_raw_fd()
        }
    }

    /// Where changes of all processes are told: not so on file systems of a network or of a user.
    const COMPLETE: [statfs::FsType; 5] = [
        statfs::EXT4_SUPER_MAGIC,
        statfs::XFS_SUPER_MAGIC,
        statfs::BTRFS_SUPER_MAGIC,
        statfs::TMPFS_MAGIC,
        statfs::OVERLAYFS_SUPER_MAGIC,
    ];

    impl Events {
        pub(in crate::discovery::folder) fn of(folder: &Path) -> Option<Self> {
            let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok()?;
            let told = AddWatchFlags::IN_MOVED_TO
                | AddWatchFlags::IN_MOVED_FROM
                | AddWatchFlags::IN_CREATE
                | AddWatchFlags::IN_DELETE
                | AddWatchFlags::IN_CLOSE_WRITE
                | AddWatchFlags::IN_DELETE_SELF
                | AddWatchFlags::IN_MOVE_SELF
                | AddWatchFlags::IN_ONLYDIR
                // Nothing of a record that was replaced already; the crate has no name for it.
                | AddWatchFlags::from_bits_retain(nix::libc::IN_EXCL_UNLINK);
            inotify.add_watch(folder, told).ok()?;
            let kind = statfs::statfs(folder).ok()?.filesystem_type();
            // A runtime without I/O panics; there is no other way to ask.
            let inotify = caught(|| registered(inotify)).ok()?.ok()?;
            Some(Self {
                inotify,
                tells_everything: COMPLETE.contains(&kind),
            })
        }

        /// Waits for changes. `None` if there are no more to be told.
        pub(in crate::discovery::folder) async fn next(&self) -> Option<Changes> {
            let mut changes = Changes::default();
            loop {
                let mut ready = self.inotify.readable().await.ok()?;
                loop {
                    match self.inotify.get_ref().0.read_events() {
                        Ok(events) => events.into_iter().for_each(|event| {
                            changes.take(event.mask, event.name.as_deref());
                        }),
                        Err(Errno::EAGAIN) => break,
                        Err(Errno::EINTR) => {}
                        Err(_) => return None,
                    }
                }
                ready.clear_ready();
                if changes.is_any() {
                    return Some(changes);
                }
            }
        }
    }

    #[expect(
        deprecated,
        reason = "its successor is unsafe code; the descriptor is owned and never replaced"
    )]
    fn registered(inotify: Inotify) -> std::io::Result<AsyncFd<Descriptor>> {
        AsyncFd::new(Descriptor(inotify))
    }

    impl Changes {
        fn take(&mut self, mask: AddWatchFlags, name: Option<&std::ffi::OsStr>) {
            self.is_lossy |= mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
            self.is_gone |= mask.intersects(
                AddWatchFlags::IN_DELETE_SELF
                    | AddWatchFlags::IN_MOVE_SELF
                    | AddWatchFlags::IN_IGNORED
                    | AddWatchFlags::IN_UNMOUNT,
            );
            if let Some(name) = name.and_then(names::of_record) {
                self.names.insert(name.to_owned());
                if mask.contains(AddWatchFlags::IN_CLOSE_WRITE) {
                    self.closed.insert(name.to_owned());
                }
            }
        }

        fn is_any(&self) -> bool {
            self.is_lossy || self.is_gone || !self.names.is_empty()
        }
    }
}

/// Elsewhere nothing is told, and the folder is looked at once a second.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod of {
    use super::{Changes, Path};

    pub(in crate::discovery::folder) struct Events {
        pub(in crate::discovery::folder) tells_everything: bool,
    }

    impl Events {
        pub(in crate::discovery::folder) fn of(_: &Path) -> Option<Self> {
            None
        }

        pub(in crate::discovery::folder) async fn next(&self) -> Option<Changes> {
            std::future::pending().await
        }
    }
}

pub(super) use of::Events;
