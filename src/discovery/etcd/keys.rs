//! Where announcements are stored: one key for each, `prefix/boundary/role/id`.

use crate::discovery::announcement::{Announcement, AnnouncementKey};
use crate::discovery::backend::Record;
use crate::error::discovery::DiscoveryError;
use crate::model::name::{Boundary, Role};
use crate::runtime::text::{excerpt, legible};

/// The keys of all announcements.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

/// What one watch is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Watched {
    pub(super) boundary: Boundary,
    /// All roles of the boundary without one.
    pub(super) role: Option<Role>,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: format!("{prefix}/"),
        }
    }

    pub(super) fn of(&self, key: &AnnouncementKey) -> String {
        let AnnouncementKey { boundary, role, id } = key;
        format!("{}{boundary}/{role}/{id}", self.prefix)
    }

    /// What all keys of a watch begin with.
    pub(super) fn of_all(&self, watched: &Watched) -> String {
        let boundary = &watched.boundary;
        match &watched.role {
            Some(role) => format!("{}{boundary}/{role}/", self.prefix),
            None => format!("{}{boundary}/", self.prefix),
        }
    }

    /// Labels have no slash, so everything after the third one is the id.
    pub(super) fn read(&self, key: &[u8]) -> Result<AnnouncementKey, DiscoveryError> {
        let read = || {
            let text = std::str::from_utf8(key).map_err(|_| "it is not UTF-8".to_owned())?;
            let rest = text.strip_prefix(&self.prefix).unwrap_or(text);
            let mut parts = rest.splitn(3, '/');
            let (Some(boundary), Some(role), Some(id)) = (parts.next(), parts.next(), parts.next())
            else {
                return Err("it does not end in boundary/role/id".to_owned());
            };
            let boundary = Boundary::new(boundary).map_err(|error| error.to_string())?;
            let role = Role::new(role).map_err(|error| error.to_string())?;
            Ok(AnnouncementKey::new(boundary, role, id))
        };
        read().map_err(|problem| fault(key, problem))
    }

    /// The announcement that is stored under a key.
    pub(super) fn announcement(
        &self,
        key: &[u8],
        value: &[u8],
    ) -> Result<Announcement, DiscoveryError> {
        let expected = self.read(key)?;
        let record: Record = serde_json::from_slice(value).map_err(|error| fault(key, error))?;
        let announcement = Announcement::from(record);
        let found = announcement.key();
        if found != expected {
            let AnnouncementKey { boundary, role, id } = found;
            return Err(fault(
                key,
                format_args!("the record is of {boundary}/{role}/{id}"),
            ));
        }
        Ok(announcement)
    }
}

/// Names the key; both it and the problem may quote anything.
fn fault(key: &[u8], problem: impl std::fmt::Display) -> DiscoveryError {
    let key = excerpt(&String::from_utf8_lossy(key));
    DiscoveryError::backend(format!("reading the etcd key \"{key}\""), legible(problem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::registration::Registration;

    #[test]
    fn a_key_reads_as_it_was_written_whatever_the_id_is() {
        let keys = Keys::new("/a/b");
        for id in ["w-1", "a/b", "../x", "/", "é\u{1F600}"] {
            let announced = Registration::new("worker").id(id).boundary("media");
            let announced = announced.validate().unwrap();
            let key = keys.of(&announced.key());
            assert!(key.starts_with("/a/b/media/worker/"));
            assert_eq!(keys.read(key.as_bytes()).unwrap(), announced.key());
            let value = serde_json::to_vec(&Record::from(&announced)).unwrap();
            let read = keys.announcement(key.as_bytes(), &value).unwrap();
            assert_eq!(read, announced);
        }
    }

    #[test]
    fn errors_name_the_key_and_the_problem() {
        let keys = Keys::new("p");
        let other = Registration::new("worker").id("w-2").validate().unwrap();
        let other = serde_json::to_vec(&Record::from(other)).unwrap();
        for (key, value, says) in [
            (
                &b"p/default/worker/w-1"[..],
                &other[..],
                "default/worker/w-2",
            ),
            (b"p/default/worker/w-1", b"{", "EOF"),
            (b"p/default/worker", b"{}", "boundary/role/id"),
            (b"p/Default/worker/w-1", b"{}", "boundary"),
            (b"p/default/\xff/w-1", b"{}", "UTF-8"),
        ] {
            let error = keys.announcement(key, value).unwrap_err().with_causes();
            assert!(error.contains("reading the etcd key \"p/"), "{error}");
            assert!(error.contains(says), "{error}");
        }
    }
}
