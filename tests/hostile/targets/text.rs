//! Parsers of text.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use rolecall::discovery::backend::Record;
use rolecall::discovery::{Announcement, from_uri};
use rolecall::guard::Networks;
use rolecall::{Address, Boundary, EndpointName, Instance, Role, Target};

use super::told;

/// What is read is read again from what it is written as.
fn round<T>(text: &str)
where
    T: FromStr<Err: std::error::Error + 'static> + Display + PartialEq + Debug,
{
    match text.parse::<T>() {
        Ok(read) => {
            let written = read.to_string();
            let again = written.parse::<T>();
            assert_eq!(again.ok().as_ref(), Some(&read), "{written:?}");
        }
        Err(error) => told(&error),
    }
}

pub(crate) fn name(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    round::<Role>(&text);
    round::<Boundary>(&text);
    round::<EndpointName>(&text);
}

pub(crate) fn target(data: &[u8]) {
    round::<Target>(&String::from_utf8_lossy(data));
}

pub(crate) fn address(data: &[u8]) {
    round::<Address>(&String::from_utf8_lossy(data));
}

pub(crate) fn networks(data: &[u8]) {
    match String::from_utf8_lossy(data).parse::<Networks>() {
        Ok(networks) => drop(networks.contains([10, 0, 0, 7].into())),
        Err(error) => told(&error),
    }
}

pub(crate) fn uri(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    // A registry of each name stays for the life of the process.
    if text.starts_with("registry:") && text.len() > "registry:ab".len() {
        return;
    }
    if let Err(error) = from_uri(&text) {
        told(&error);
        // Where it stands as a password, and nowhere else.
        let count = |what: &str| text.matches(what).count();
        if count(":s3cr3t@") == count("s3cr3t") {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            let told = format!("{error} {}", source.unwrap_or_default());
            assert!(!told.contains("s3cr3t"), "a password is told: {told}");
        }
    }
}

pub(crate) fn record(data: &[u8]) {
    let Ok(record) = serde_json::from_slice::<Record>(data) else {
        return;
    };
    let written = serde_json::to_vec(&record).expect("a record can be written");
    let again: Record = serde_json::from_slice(&written).expect("and read again");
    assert_eq!(again, record);
    for (_, instance) in Announcement::from(record).endpoints() {
        instance
            .validate()
            .expect("what is read has been validated");
    }
}

pub(crate) fn instance(data: &[u8]) {
    let Ok(instance) = serde_json::from_slice::<Instance>(data) else {
        return;
    };
    instance
        .validate()
        .expect("what is read has been validated");
    let written = serde_json::to_vec(&instance).expect("an instance can be written");
    let again: Instance = serde_json::from_slice(&written).expect("and read again");
    assert_eq!(again, instance);
}
