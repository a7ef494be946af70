//! Labels of failures, such as `"503"`: kept of every member in one byte.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{PoisonError, RwLock};

/// All labels that this process has used. A program has a few; the ones beyond 255 are dropped.
static LABELS: RwLock<Vec<&'static str>> = RwLock::new(Vec::new());

const MAX_LABELS: usize = u8::MAX as usize;

/// The label of a member's last failure.
#[derive(Debug, Default)]
pub(crate) struct Label {
    /// Its number in [`LABELS`], counted from one; zero: none.
    number: AtomicU8,
}

impl Label {
    pub(crate) fn set(&self, label: Option<&'static str>) {
        let number = label.and_then(number).unwrap_or(0);
        self.number.store(number, Relaxed);
    }

    pub(crate) fn get(&self) -> Option<&'static str> {
        let index = usize::from(self.number.load(Relaxed)).checked_sub(1)?;
        let labels = LABELS.read().unwrap_or_else(PoisonError::into_inner);
        labels.get(index).copied()
    }
}

fn number(label: &'static str) -> Option<u8> {
    let find = |labels: &[&str]| labels.iter().position(|known| *known == label);
    let known = find(&LABELS.read().unwrap_or_else(PoisonError::into_inner));
    let index = known.unwrap_or_else(|| {
        let mut labels = LABELS.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have added it.
        find(&labels).unwrap_or_else(|| {
            if labels.len() < MAX_LABELS {
                labels.push(label);
                return labels.len() - 1;
            }
            MAX_LABELS
        })
    });
    u8::try_from(index + 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_kept_until_the_next_failure() {
        let (a, b) = (Label::default(), Label::default());
        assert_eq!(a.get(), None);
        a.set(Some("503"));
        b.set(Some("connection reset"));
        assert_eq!(a.get(), Some("503"));
        assert_eq!(b.get(), Some("connection reset"));
        a.set(None);
        assert_eq!(a.get(), None);
    }

    #[test]
    fn labels_beyond_what_a_byte_can_name_are_dropped() {
        let label = Label::default();
        for number in 0..300 {
            label.set(Some(Box::leak(format!("label {number}").into_boxed_str())));
        }
        assert_eq!(label.get(), None);
        assert!(LABELS.read().unwrap().len() <= 255);
    }
}
