//! What the files of a folder are called.

use crate::discovery::Announcement;
use crate::model::name::{Boundary, EndpointName, Role};

/// What a name stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Record,
    /// A role that was registered once, or an endpoint it had: an empty file that nobody removes.
    Known(Boundary, Role, Option<EndpointName>),
    /// Being written, or left by a writer that was killed.
    Unfinished,
    Foreign,
}

const RECORD: &str = ".json";
const KNOWN: &str = ".known";
const UNFINISHED: &str = ".tmp";

/// Longest text of an id in a name: with two labels of 63 bytes it stays within the 255 bytes of every file system.
const LONGEST: usize = 100;

pub(super) fn kind(name: &str) -> Kind {
    if name.starts_with('.') {
        return if name.ends_with(UNFINISHED) {
            Kind::Unfinished
        } else {
            Kind::Foreign
        };
    }
    if name.ends_with(RECORD) {
        return Kind::Record;
    }
    let known = name.strip_suffix(KNOWN).and_then(|name| {
        let mut labels = name.split('.');
        let boundary = Boundary::new(labels.next()?).ok()?;
        let role = Role::new(labels.next()?).ok()?;
        let endpoint = labels.next().map(EndpointName::new).transpose().ok()?;
        labels
            .next()
            .is_none()
            .then_some((boundary, role, endpoint))
    });
    match known {
        Some((boundary, role, endpoint)) => Kind::Known(boundary, role, endpoint),
        None => Kind::Foreign,
    }
}

/// The one name that the record of this instance may have, so that no id can be there twice.
pub(super) fn record(announced: &Announcement) -> String {
    let (boundary, role) = (announced.boundary(), announced.role());
    format!(
        "{boundary}.{role}.{}{RECORD}",
        encoded(announced.id().as_str())
    )
}

/// The names that keep this instance's role and endpoints known after it left.
pub(super) fn known(announced: &Announcement) -> impl Iterator<Item = String> {
    let role = format!("{}.{}", announced.boundary(), announced.role());
    let endpoints: Vec<_> = announced
        .endpoints()
        .map(|(name, _)| format!("{role}.{name}{KNOWN}"))
        .collect();
    endpoints.into_iter().chain([format!("{role}{KNOWN}")])
}

pub(super) fn unfinished(process: u32, number: u64, random: u32) -> String {
    format!(".{process}-{number}-{random:08x}{UNFINISHED}")
}

/// An id may be anything: what is no safe character of a name on every file system, upper case too, becomes `%xx`.
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
pub(super) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::Registration;

    fn named(id: &str) -> String {
        record(
            &Registration::new("r".repeat(63))
                .id(id)
                .boundary("b".repeat(63))
                .validate()
                .unwrap(),
        )
    }

    #[test]
    fn every_id_has_a_name_of_its_own_that_is_only_a_name() {
        let long = "é".repeat(126);
        let other = format!("{}x", "é".repeat(125));
        let ids = [
            "..", "a/b", "A", "a", "%41", "w-1", "a\\b", "\u{0}x", "~", &long, &other,
        ];
        let ids: Vec<_> = ids.into_iter().filter(|id| !id.contains('\u{0}')).collect();
        let mut names: Vec<_> = ids.iter().map(|id| named(id)).collect();
        for name in &names {
            assert!(name.len() < 250, "{name}");
            assert!(
                !name.contains(['/', '\\', '\u{0}']) && !name.starts_with('.'),
                "{name}"
            );
            assert_eq!(*name, name.to_lowercase(), "also where case does not count");
            assert_eq!(kind(name), Kind::Record);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ids.len());
    }

    #[test]
    fn names_are_told_apart() {
        let worker = Registration::new("worker").endpoint("http", ([10, 0, 0, 1], 1).into());
        let names: Vec<_> = known(&worker.validate().unwrap()).collect();
        assert_eq!(names, ["default.worker.http.known", "default.worker.known"]);
        assert!(matches!(kind(&names[0]), Kind::Known(_, _, Some(http)) if http == "http"));
        assert!(matches!(kind(&names[1]), Kind::Known(_, _, None)));
        assert_eq!(kind(&unfinished(1, 2, 3)), Kind::Unfinished);
        for foreign in [
            "",
            ".",
            "README",
            "Default.worker.known",
            "a.b.c.d.known",
            "a.known",
            ".x.json",
        ] {
            assert_eq!(kind(foreign), Kind::Foreign, "{foreign}");
        }
    }
}
