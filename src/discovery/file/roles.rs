//! One role environment file, read whole whenever it changed.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::document;
use super::edits::Edits;
use super::fault::Fault;
use super::name::hash;
use super::stamp::{Reading, Stamp};
use crate::discovery::Announcement;
use crate::model::instance::InstanceId;
use crate::model::name::{Boundary, Role};

/// Ten thousand instances take a fifth of it.
const LARGEST: u64 = 8 << 20;

pub(super) struct Roles {
    path: PathBuf,
    reading: Reading,
    read: Option<u64>,
    announced: HashMap<(Boundary, Role, InstanceId), Announcement>,
    outcome: Result<Option<Fault>, Fault>,
}

impl Roles {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            reading: Reading::default(),
            read: None,
            announced: HashMap::new(),
            outcome: Ok(None),
        }
    }

    /// `Err` if the file cannot be understood: what it said last stays. It is not read if that would tell nothing new: its
    /// folder may be a busy one.
    pub(super) fn look(&mut self, now: Instant, edits: &mut Edits) -> Result<Option<Fault>, Fault> {
        let there = fs::metadata(&self.path).as_ref().map(Stamp::of).ok();
        if self.reading.is_due(there, now) {
            self.outcome = self.read(edits);
        }
        self.outcome.clone()
    }

    fn read(&mut self, edits: &mut Edits) -> Result<Option<Fault>, Fault> {
        let bytes = read(&self.path, LARGEST)?;
        let hash = hash(&bytes);
        if self.read == Some(hash)
            && let Ok(fault) = &self.outcome
        {
            return Ok(fault.clone());
        }
        let roles = document::roles(&self.path, &bytes)?;
        self.read = Some(hash);
        for known in roles.known {
            edits.know(known);
        }
        let mut gone = std::mem::take(&mut self.announced);
        for announced in roles.announced {
            let key = (
                announced.boundary().clone(),
                announced.role().clone(),
                announced.id().clone(),
            );
            edits.change(gone.remove(&key), Some(announced.clone()));
            self.announced.insert(key, announced);
        }
        for (_, announced) in gone {
            edits.change(Some(announced), None);
        }
        Ok(roles.duplicate)
    }

    pub(super) fn forget(&mut self, edits: &mut Edits) {
        let forgotten = std::mem::replace(self, Self::new(self.path.clone()));
        for (_, announced) in forgotten.announced {
            edits.change(Some(announced), None);
        }
    }
}

/// A regular file of at most this many bytes: never waits at a pipe, never reads a device without end.
pub(super) fn read(path: &Path, largest: u64) -> Result<Vec<u8>, Fault> {
    let fault = |error: io::Error| Fault::io(path, "it cannot be read", &error);
    if !fs::metadata(path).map_err(fault)?.is_file() {
        return Err(Fault::new(path, "it is not a regular file"));
    }
    read_from(&File::open(path).map_err(fault)?, path, largest)
}

pub(super) fn read_from(file: &File, path: &Path, largest: u64) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    file.take(largest + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Fault::io(path, "it cannot be read", &error))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > largest {
        let problem = format_args!("it is larger than {largest} bytes");
        return Err(Fault::new(path, problem));
    }
    Ok(bytes)
}
