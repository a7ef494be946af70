//! The lock that a registrant holds on its record for life. The system releases it with the process.

use std::fs::File;
use std::io;

/// On Linux an open-file-description lock. A reader can take no write lock, and its read lock is not taken for life.
#[cfg(any(target_os = "linux", target_os = "android"))]
mod of {
    use nix::errno::Errno;
    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc;

    use super::{File, io};

    fn whole(kind: i32) -> libc::flock {
        libc::flock {
            l_type: kind.try_into().unwrap_or(i16::MAX),
            l_whence: 0,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        }
    }

    pub(in crate::discovery::folder) fn take(file: &File) -> io::Result<bool> {
        match fcntl(file, FcntlArg::F_OFD_SETLK(&whole(libc::F_WRLCK))) {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    pub(in crate::discovery::folder) fn is_held(file: &File) -> io::Result<bool> {
        let mut asked = whole(libc::F_RDLCK);
        fcntl(file, FcntlArg::F_OFD_GETLK(&mut asked))?;
        Ok(i32::from(asked.l_type) != libc::F_UNLCK)
    }
}

/// Elsewhere `flock`: whoever may read a record can hold it, too.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod of {
    use std::fs::TryLockError;

    use super::{File, io};

    pub(in crate::discovery::folder) fn take(file: &File) -> io::Result<bool> {
        match file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    pub(in crate::discovery::folder) fn is_held(file: &File) -> io::Result<bool> {
        match file.try_lock_shared() {
            Ok(()) => file.unlock().map(|()| false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// Takes the lock until the file is closed; false if somebody else has it.
pub(super) fn take(file: &File) -> io::Result<bool> {
    of::take(file).map_err(explained)
}

/// Whether a registrant holds the lock.
pub(super) fn is_held(file: &File) -> io::Result<bool> {
    of::is_held(file).map_err(explained)
}

fn explained(error: io::Error) -> io::Error {
    let text = format!("the file system has no locks that a registration could hold: {error}");
    io::Error::new(error.kind(), text)
}
