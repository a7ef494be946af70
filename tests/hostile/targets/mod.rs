//! What is done with one hostile input. Shared by `tests/hostile` and the targets of `cargo fuzz`: only the public API.
//!
//! Whatever the input is, nothing panics or waits, errors are short and printable, and what is accepted reads as it is written.

mod headers;
mod live;
mod text;

pub(crate) use headers::{grpc_answer, grpc_timeout, http_answer, retry};
#[cfg(feature = "dns")]
pub(crate) use live::dns_answer;
#[cfg(feature = "kubernetes")]
pub(crate) use live::kubernetes_list;
pub(crate) use live::{folder_entry, proxy_header, roles_file};
pub(crate) use text::{address, instance, name, networks, record, target, uri};

use std::error::Error;

/// Longer texts flood a log.
const LONGEST: usize = 8192;

/// An error and its causes, of which each is short and has no control characters.
fn told(error: &(dyn Error + 'static)) {
    let mut next = Some(error);
    let mut causes = 0;
    while let Some(error) = next {
        let text = error.to_string();
        assert!(text.len() < LONGEST, "{} bytes of text", text.len());
        assert!(!text.contains(char::is_control), "{text:?}");
        next = error.source();
        causes += 1;
        assert!(causes < 32, "a circle of causes");
    }
}
