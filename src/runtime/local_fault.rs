//! Faults of the process itself, which are charged to no instance.

use std::error::Error as StdError;
use std::io;

use crate::runtime::causes::chain;

/// What the system says if the process has no file descriptors left, the machine has none, or neither memory for a
/// socket: `EMFILE`, `ENFILE`, `ENOBUFS`. That there is no memory and no local port have names in [`io::ErrorKind`].
#[cfg(any(target_os = "linux", target_os = "android"))]
const NUMBERS: [i32; 3] = [24, 23, 105];
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
const NUMBERS: [i32; 3] = [24, 23, 55];
#[cfg(not(unix))]
const NUMBERS: [i32; 2] = [10024, 10055];

/// Whether the first I/O error in a chain is a fault of the process: it has no file descriptors, local ports or memory for
/// a connection.
pub(crate) fn is_local_fault(error: &(dyn StdError + 'static)) -> bool {
    chain(error)
        .find_map(|error| error.downcast_ref::<io::Error>())
        .is_some_and(|error| {
            let number = error.raw_os_error();
            matches!(
                error.kind(),
                io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory
            ) || number.is_some_and(|number| NUMBERS.contains(&number))
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
    fn what_the_process_lacks_is_its_own_fault_below_other_errors_too() {
        for number in NUMBERS {
            let error = io::Error::from_raw_os_error(number);
            assert!(is_local_fault(&error), "{error}");
            assert!(is_local_fault(&Wrapped(error)));
        }
        assert!(is_local_fault(&io::Error::from(io::ErrorKind::OutOfMemory)));
        let no_port = io::ErrorKind::AddrNotAvailable;
        assert!(is_local_fault(&Wrapped(no_port.into())));
    }

    #[test]
    fn a_refusal_is_the_instances() {
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
