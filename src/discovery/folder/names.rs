//! What the files of a folder are called.

use std::ffi::OsStr;

use crate::discovery::announcement::AnnouncementKey;

/// What the name of a record ends in.
const RECORD: &str = ".rolecall";
/// What the content of a record begins with.
pub(super) const MARK: &[u8] = br#"{"rolecall":"#;
/// The folder for what is not a record yet, and for locks.
pub(super) const OWN: &str = ".rolecall";
pub(super) const TEMPORARY: &str = "tmp";
pub(super) const CLAIMS: &str = "claims";

/// Names that one registration may have. The second and later ones are for folders of several users, where one can
/// neither replace nor remove what another one left.
pub(super) const SLOTS: usize = 4;

/// Longest text of an id in a name: with two labels of 63 bytes it stays within the 255 bytes of every file system.
const LONGEST: usize = 100;

/// The name, if it is one that a record may have.
pub(super) fn of_record(name: &OsStr) -> Option<&str> {
    let name = name.to_str()?;
    (name.ends_with(RECORD) && !name.starts_with('.')).then_some(name)
}

/// The names that the record of this instance may have.
pub(super) fn records(key: &AnnouncementKey) -> impl Iterator<Item = String> + use<> {
    let AnnouncementKey { boundary, role, id } = key;
    let first = format!("{boundary}.{role}.{}", encoded(id.as_str()));
    (0..SLOTS).map(move |slot| match slot {
        0 => format!("{first}{RECORD}"),
        slot => format!("{first}.{slot}{RECORD}"),
    })
}

/// The file that is locked while a name is claimed: few, so that they need not be removed.
pub(super) fn claim(key: &AnnouncementKey) -> String {
    let name = format!("{}/{}/{}", key.boundary, key.role, key.id);
    format!("{:02x}", hash(name.as_bytes()) % 64)
}

pub(super) fn temporary(process: u32, number: u64) -> String {
    format!("{process}-{number:016x}.tmp")
}

pub(super) fn is_temporary(name: &str) -> bool {
    let parts = name
        .strip_suffix(".tmp")
        .and_then(|name| name.split_once('-'));
    parts.is_some_and(|(process, number)| {
        process.parse::<u32>().is_ok()
            && number.len() == 16
            && number.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// An id may be anything: what is not safe in the names of every file system, upper case too, becomes `%xx`.
fn encoded(id: &str) -> String {
    let mut name = String::new();
    for byte in id.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
    }
    if name.len() > LONGEST {
        name.truncate(LONGEST - 17);
        name.push_str(&format!("~{:016x}", hash(id.as_bytes())));
    }
    name
}

/// FNV-1a: the same in every build, which the processes of one folder need not share.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::{Boundary, Role};

    fn named(id: &str) -> Vec<String> {
        let boundary = Boundary::new("b".repeat(63)).unwrap();
        let role = Role::new("r".repeat(63)).unwrap();
        records(&AnnouncementKey::new(boundary, role, id)).collect()
    }

    #[test]
    fn every_id_has_names_of_its_own_that_are_only_names() {
        let long = "é".repeat(126);
        let other = format!("{}x", "é".repeat(125));
        let ids = [
            "..", "a/b", "A", "a", "a.1", "%41", "w-1", "a\\b", "\u{1}x", "~", &long, &other,
        ];
        let mut names: Vec<_> = ids.iter().flat_map(|id| named(id)).collect();
        for name in &names {
            assert!(name.len() < 250, "{name}");
            assert!(
                !name.contains(['/', '\\', '\u{0}']) && !name.starts_with('.'),
                "{name}"
            );
            assert_eq!(*name, name.to_lowercase(), "also where case does not count");
            assert_eq!(of_record(name.as_ref()), Some(&**name));
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ids.len() * SLOTS);
    }

    #[test]
    fn foreign_names_are_told_apart() {
        for foreign in [
            "",
            ".rolecall",
            ".x.rolecall",
            "users.json",
            "rolecall",
            "a.rolecall~",
        ] {
            assert_eq!(of_record(foreign.as_ref()), None, "{foreign}");
        }
        assert!(is_temporary(&temporary(7, 9)));
        for foreign in [
            "",
            "7.tmp",
            "7-9.tmp",
            "x-0000000000000009.tmp",
            ".cache.tmp",
        ] {
            assert!(!is_temporary(foreign), "{foreign}");
        }
    }
}
