use std::collections::BTreeMap;
use std::fmt;

/// Why no instance of a fleet is usable, counted by reason: `"4 known: 3 refused (111), 1 draining"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    known: usize,
    reasons: BTreeMap<String, usize>,
}

impl Census {
    pub(crate) fn count(&mut self, reason: &str) {
        self.known += 1;
        match self.reasons.get_mut(reason) {
            Some(count) => *count += 1,
            None => {
                self.reasons.insert(reason.to_owned(), 1);
            }
        }
    }

    /// How many instances are known.
    pub fn known(&self) -> usize {
        self.known
    }

    /// The reasons, each with its number of instances; the most frequent first.
    pub fn reasons(&self) -> Vec<(&str, usize)> {
        let mut reasons: Vec<_> = self
            .reasons
            .iter()
            .map(|(reason, &count)| (reason.as_str(), count))
            .collect();
        reasons.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        reasons
    }
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} known", self.known)?;
        for (index, (reason, count)) in self.reasons().into_iter().enumerate() {
            write!(f, "{} {count} {reason}", if index == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_census_names_the_most_frequent_reason_first() {
        let mut census = Census::default();
        for reason in [
            "draining",
            "refused (111)",
            "refused (111)",
            "refused (111)",
        ] {
            census.count(reason);
        }
        assert_eq!(census.to_string(), "4 known: 3 refused (111), 1 draining");
    }
}
