//! The texts of events, their JSON, and labels of dial errors.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::dial::DialError;
use super::reason::EjectionReason;
use super::*;

#[cfg(feature = "serde")]
#[test]
fn json_has_the_kind_as_event_and_seconds_as_numbers() {
    let refused = DialError::new(io::Error::from_raw_os_error(111));
    let event = Event::Unreachable {
        id: InstanceId::from("pay-1"),
        address: ([10, 0, 0, 7], 80).into(),
        error: Arc::new(refused),
        failed_dials: 4,
        since: Duration::from_millis(1250),
    };
    let json = serde_json::to_value(&event).unwrap();
    assert_eq!(json["event"], event.kind());
    assert_eq!(
        (&json["id"], &json["since"]),
        (&"pay-1".into(), &1.25.into())
    );
    assert!(
        json["error"]
            .as_str()
            .unwrap()
            .starts_with("refused (111): "),
        "{json}"
    );
    let events = [
        Event::PanicModeEnded,
        Event::NothingUsable,
        Event::DiscoveryEnded,
        Event::Missed { count: 1 },
        Event::Usable {
            after: Duration::ZERO,
        },
    ];
    for event in events {
        assert_eq!(serde_json::to_value(&event).unwrap()["event"], event.kind());
    }
}

#[test]
fn a_line_says_what_where_why_and_for_how_long() {
    let (id, address) = (
        InstanceId::from("pay-1"),
        Address::from(([10, 0, 0, 7], 80)),
    );
    let ejected = Event::Ejected {
        id: id.clone(),
        address: address.clone(),
        reason: EjectionReason::FailuresInRow {
            failures: 3,
            threshold: 2,
            label: Some("503"),
        },
        time: Duration::from_nanos(5_082_210_154),
    };
    assert_eq!(
        ejected.to_string(),
        "instance pay-1 (10.0.0.7:80) ejected for 5.1 s: 3 failures in a row, the last: 503 (threshold 2)"
    );
    let connected = Event::Connected {
        id,
        address,
        after: Duration::from_secs(12),
        failed_dials: 8,
        was_unreachable: true,
    };
    assert_eq!(
        connected.to_string(),
        "instance pay-1 (10.0.0.7:80) is reachable now, after 12 s and 8 failed dials"
    );
}

#[test]
fn an_end_says_that_it_is_one_and_what_is_over() {
    let returned = |by_trial, failed_trials| Event::Returned {
        id: InstanceId::from("pay-1"),
        address: Address::from(([10, 0, 0, 7], 80)),
        reason: EjectionReason::FailuresInRow {
            failures: 3,
            threshold: 2,
            label: Some("503"),
        },
        by_trial,
        failed_trials,
        after: Duration::from_secs(31),
    };
    assert_eq!(
        returned(true, 2).to_string(),
        "instance pay-1 (10.0.0.7:80) is well again, after 31 s and 2 failed trials; it had been ejected: 3 failures in a \
         row, the last: 503 (threshold 2)"
    );
    assert_eq!(
        returned(false, 0).to_string(),
        "instance pay-1 (10.0.0.7:80) is back without a trial, after 31 s; it had been ejected: 3 failures in a row, the \
         last: 503 (threshold 2)"
    );
    let recovered = Event::DiscoveryRecovered {
        errors: 25,
        after: Duration::from_secs(41),
    };
    assert_eq!(
        recovered.to_string(),
        "discovery answers again, after 41 s and 25 errors"
    );
}

#[test]
fn a_line_has_the_cause_of_a_dial_once_and_in_brief() {
    let unreachable = |error: DialError| {
        let event = Event::Unreachable {
            id: InstanceId::from("pay-1"),
            address: Address::from(([10, 0, 0, 7], 80)),
            error: Arc::new(error),
            failed_dials: 4,
            since: Duration::from_millis(1200),
        };
        event.to_string()
    };
    let start =
        "instance pay-1 (10.0.0.7:80) has been unreachable for 1.2 s and 4 dials, the last: ";
    let refused = DialError::new(io::Error::from_raw_os_error(111));
    assert_eq!(unreachable(refused), format!("{start}refused (111)"));
    let short = DialError::labelled("TLS failed", "no handshake");
    assert_eq!(
        unreachable(short),
        format!("{start}TLS failed: no handshake")
    );
    let long = DialError::labelled("TLS failed", "x".repeat(1000));
    let cut = "x".repeat(120);
    assert_eq!(unreachable(long), format!("{start}TLS failed: {cut}…"));
}

#[test]
fn a_failure_of_discovery_is_told_with_its_cause() {
    let error = DiscoveryError::backend("reading files", "roles.toml:3: no name");
    let told = Event::DiscoveryFailed { error, errors: 1 }.to_string();
    assert!(
        told.contains("reading files: roles.toml:3: no name"),
        "{told}"
    );
}

#[test]
fn a_dial_error_is_counted_by_the_io_error_in_its_chain() {
    #[derive(Debug)]
    struct Outer(io::Error);
    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("outer")
        }
    }
    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    let refused = DialError::new(Outer(io::Error::from_raw_os_error(111)));
    assert_eq!(refused.label(), "refused (111)");
    let late = DialError::new(io::Error::from(io::ErrorKind::TimedOut));
    assert_eq!(late.label(), "timed out");
    assert_eq!(DialError::new("x").label(), "dial failed");
}

#[test]
fn a_label_that_a_connector_chose_is_kept_under_other_layers() {
    let chosen = || DialError::labelled("certificate expired", io::Error::from_raw_os_error(111));
    assert_eq!(DialError::new(chosen()).label(), "certificate expired");
    #[derive(Debug)]
    struct Layer(DialError);
    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("layer")
        }
    }
    impl std::error::Error for Layer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    assert_eq!(
        DialError::new(Layer(chosen())).label(),
        "certificate expired"
    );
}
