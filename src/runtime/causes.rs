//! An error and what caused it.

use std::error::Error;

use crate::runtime::text::legible;

/// The most errors of a chain that are examined: a foreign chain may be a cycle.
const MAX_CHAIN: usize = 32;

/// An error, then its causes, outermost first.
pub(crate) fn chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source()).take(MAX_CHAIN)
}

/// The most causes in a text: a foreign chain may be long.
const MAX_TOLD: usize = 8;

/// An error and its causes in one line. A cause that only repeats the end of the text before it is left out.
///
/// The text may quote anything, also what a peer sent: control characters are escaped, and its length is bounded.
pub(crate) fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut told = String::new();
    for error in chain(error).take(MAX_TOLD + 1) {
        let text = legible(error);
        if told.is_empty() {
            told = text;
        } else if !told.ends_with(&text) {
            told.push_str(": ");
            told.push_str(&text);
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[test]
    fn a_cyclic_chain_of_causes_ends() {
        #[derive(Debug)]
        struct Cycle;
        impl fmt::Display for Cycle {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("cycle")
            }
        }
        impl Error for Cycle {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&Cycle)
            }
        }
        assert_eq!(chain(&Cycle).count(), MAX_CHAIN);
    }
}
