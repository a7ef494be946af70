//! Whether whoever wrote a file lives: it holds a lock on it, which the system ends with the process.

use std::fs::{File, TryLockError};

/// What came of trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tried {
    /// Nobody had it.
    Locked,
    Held,
    /// The file system knows no locks.
    Unknown,
}

impl Tried {
    fn of(tried: Result<(), TryLockError>) -> Self {
        #[cfg(test)]
        if tests::ARE_UNKNOWN.get() {
            return Self::Unknown;
        }
        match tried {
            Ok(()) => Self::Locked,
            Err(TryLockError::WouldBlock) => Self::Held,
            Err(TryLockError::Error(_)) => Self::Unknown,
        }
    }
}

/// As a writer does.
pub(super) fn exclusive(file: &File) -> Tried {
    Tried::of(file.try_lock())
}

/// As somebody does who looks whether there is a writer.
pub(super) fn shared(file: &File) -> Tried {
    Tried::of(file.try_lock_shared())
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;

    thread_local! {
        pub(super) static ARE_UNKNOWN: Cell<bool> = const { Cell::new(false) };
    }

    /// Puts the thread of a test on a file system that knows no locks.
    pub(in super::super) struct Unlocked;

    impl Unlocked {
        pub(in super::super) fn new() -> Self {
            ARE_UNKNOWN.set(true);
            Self
        }
    }

    impl Drop for Unlocked {
        fn drop(&mut self) {
            ARE_UNKNOWN.set(false);
        }
    }
}
