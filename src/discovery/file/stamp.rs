//! Whether a file is the same as before, without reading it.

use std::fs::Metadata;
use std::time::SystemTime;

/// Which file it is, whatever it is called now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity(u64, u64);

impl Identity {
    #[cfg(unix)]
    pub(super) fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self(metadata.dev(), metadata.ino())
    }

    /// Elsewhere a file is known by when it was made.
    #[cfg(not(unix))]
    pub(super) fn of(metadata: &Metadata) -> Self {
        let made = metadata.created().ok();
        let made = made.and_then(|made| made.duration_since(SystemTime::UNIX_EPOCH).ok());
        let made = made.unwrap_or_default();
        Self(made.as_secs(), u64::from(made.subsec_nanos()))
    }
}

/// Changes with every write. Its time is compared with nothing but an earlier one of the same file, so that clocks may
/// jump as they like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    identity: Identity,
    /// The system gives the number of a file that is gone to another.
    created: Option<SystemTime>,
    modified: Option<SystemTime>,
    length: u64,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            identity: Identity::of(metadata),
            created: metadata.created().ok(),
            modified: metadata.modified().ok(),
            length: metadata.len(),
        }
    }

    /// Whether it is the same file, written again or not.
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        self.identity == other.identity && self.created == other.created
    }

    /// Whether nothing but the time of its last write can have changed, if nobody edits it in place.
    pub(super) fn is_beat_after(&self, earlier: &Self) -> bool {
        self.is_same_file(earlier) && self.created.is_some() && self.length == earlier.length
    }
}
