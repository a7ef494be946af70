//! Faults of the process itself, which are charged to no instance.

use std::error::Error as StdError;
use std::io;

use crate::runtime::causes::chain;

/// Error codes of the system for exhausted resources: no file descriptors left in the process (`EMFILE`) or on the machine
/// (`ENFILE`), or no memory for a socket (`ENOBUFS`). A lack of other memory or of local ports is known by its
/// [`io::ErrorKind`]: without a free port `connect` fails with `EADDRNOTAVAIL`, and `bind` with `EADDRINUSE`.
#[cfg(any(target_os = "linux", target_os = "android"))]
const OS_ERRORS: [i32; 3] = [24, 23, 105];
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
const OS_ERRORS: [i32; 3] = [24, 23, 55];
#[cfg(not(unix))]
const OS_ERRORS: [i32; 2] = [10024, 10055];

/// Whether the first I/O error in a chain is a fault of the process: it has no file descriptors, local ports or memory for
/// a connection.
pub(crate) fn is_local_fault(error: &(dyn StdError + 'static)) -> bool {
    chain(error)
        .find_map(|error| error.downcast_ref::<io::Error>())
        .is_some_and(|error| {
            let number = error.raw_os_error();
            matches!(
                error.kind(),
                io::ErrorKind::AddrInUse
                    | io::ErrorKind::AddrNotAvailable
                    | io::ErrorKind::OutOfMemory
            ) || number.is_some_and(|number| OS_ERRORS.contains(&number))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Wrapped(io::Error);

    impl std::fmt::Display for Wrapped {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("wrapped")
        }
    }

    impl StdError for Wrapped {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn exhausted_resources_are_local_faults_even_when_wrapped() {
        for number in OS_ERRORS {
            let error = io::Error::from_raw_os_error(number);
            assert!(is_local_fault(&error), "{error}");
            assert!(is_local_fault(&Wrapped(error)));
        }
        assert!(is_local_fault(&io::Error::from(io::ErrorKind::OutOfMemory)));
        for no_port in [io::ErrorKind::AddrNotAvailable, io::ErrorKind::AddrInUse] {
            assert!(is_local_fault(&Wrapped(no_port.into())), "{no_port}");
        }
    }

    #[test]
    fn connection_errors_are_not_local_faults() {
        for kind in [
            io::ErrorKind::ConnectionRefused,
            io::ErrorKind::TimedOut,
            io::ErrorKind::HostUnreachable,
        ] {
            assert!(!is_local_fault(&io::Error::from(kind)), "{kind}");
        }
        assert!(!is_local_fault(&std::fmt::Error));
    }
}
