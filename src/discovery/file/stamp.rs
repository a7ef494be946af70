//! Whether a file is the same as before, without reading it.

use std::fs::Metadata;
use std::time::{Duration, Instant, SystemTime};

/// No file system's clock is coarser: that of FAT has ticks of two seconds.
const COARSEST: Duration = Duration::from_secs(3);

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
    /// Of its entry, permissions included: nobody can set that one back.
    touched: (i64, i64),
    modified: Option<SystemTime>,
    length: u64,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            identity: Identity::of(metadata),
            created: metadata.created().ok(),
            touched: touched(metadata),
            modified: metadata.modified().ok(),
            length: metadata.len(),
        }
    }

    /// Whether it is the same file, written again or not.
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        self.identity == other.identity && self.created == other.created
    }

    /// Whether it was written since, which only its holder does. Others change its entry, such as who removes another name
    /// of it that its writer left when it was killed.
    pub(super) fn is_written_after(&self, earlier: &Self) -> bool {
        self.is_same_file(earlier) && (self.modified != earlier.modified || self.modified.is_none())
    }

    /// Whether nothing but the time of its last write can have changed, if nobody edits it in place.
    pub(super) fn is_beat_after(&self, earlier: &Self) -> bool {
        self.is_written_after(earlier) && self.created.is_some() && self.length == earlier.length
    }
}

#[cfg(unix)]
fn touched(metadata: &Metadata) -> (i64, i64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.ctime(), metadata.ctime_nsec())
}

#[cfg(not(unix))]
fn touched(_: &Metadata) -> (i64, i64) {
    (0, 0)
}

/// Whether what was read of a file is what is in it.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// As it was before it was read last, and since when it looked like that.
    stamp: Option<(Stamp, Instant)>,
    /// It was read when it had looked like that for longer than a tick of any file system: a write after it shows.
    is_settled: bool,
}

impl Reading {
    /// Whether it is to be read now.
    pub(super) fn is_due(&mut self, there: Option<Stamp>, now: Instant) -> bool {
        let known = self.stamp.filter(|(known, _)| Some(*known) == there);
        let Some((_, since)) = known.filter(|(known, _)| known.modified.is_some()) else {
            self.stamp = there.map(|there| (there, now));
            self.is_settled = false;
            return true;
        };
        let is_due = !self.is_settled;
        self.is_settled |= now.saturating_duration_since(since) >= COARSEST;
        is_due
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process};

    use super::*;

    #[test]
    fn a_file_is_read_until_another_write_would_show_and_then_when_one_does() {
        let path = env::temp_dir().join(format!("rolecall-stamp-{}", process::id()));
        fs::write(&path, "a").unwrap();
        let there = || fs::metadata(&path).as_ref().map(Stamp::of).ok();
        let start = crate::runtime::clock::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut reading = Reading::default();
        let mut due = Vec::new();
        for second in 0..100 {
            due.push(reading.is_due(there(), at(second * 1000)));
        }
        let read = due.iter().take_while(|due| **due).count();
        assert_eq!(read, 4, "after 0, 1, 2 and 3 s");
        assert!(due[read..].iter().all(|due| !due));
        for _ in 0..1000 {
            // News of another file of the folder.
            assert!(!reading.is_due(there(), at(100_000)));
        }
        // As long as before, and by the time as old.
        let before = there();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let rewrite = || {
            fs::write(&path, "b").unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(modified).unwrap();
        };
        if cfg!(unix) {
            rewrite();
            // The file system's clock ticks every few milliseconds.
            while there() == before {
                rewrite();
            }
            assert!(reading.is_due(there(), at(100_000)));
            assert!(reading.is_due(there(), at(100_001)), "not settled");
        }
        fs::remove_file(&path).unwrap();
        assert!(reading.is_due(there(), at(101_000)));
        assert!(reading.is_due(there(), at(200_000)), "for the error");
    }
}
