//! How failures are called.
//!
//! A member remembers the label of its last failure as a number of five bits, in the word that has the time of that failure.
//! So a failure stores no more than without, and takes no lock. The labels themselves are kept once per fleet. A fleet keeps 30 different ones; a program that has more, say since it puts
//! addresses into them, gets none for the rest.

use std::sync::OnceLock;

/// The number of a label in its fleet's table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Label(u8);

impl Label {
    /// The failure has no label.
    pub(super) const NONE: Self = Self(0);
    /// There was no answer at all.
    pub(super) const UNANSWERED: Self = Self(1);

    /// The first label of a fleet's table.
    const FIRST: usize = 2;

    /// The bits of a word that can hold a label.
    pub(super) const BITS: u64 = 31;

    /// As bits of a word.
    pub(super) fn bits(self) -> u64 {
        u64::from(self.0) & Self::BITS
    }

    /// From a word that has it in its lower bits.
    pub(super) fn of(word: u64) -> Self {
        Self((word & Self::BITS) as u8)
    }
}

#[derive(Debug, Default)]
pub(super) struct Labels([OnceLock<&'static str>; 30]);

impl Labels {
    /// The number of a label, which is added if it is new.
    pub(super) fn label(&self, text: &'static str) -> Label {
        let is_it = |slot: &OnceLock<&'static str>| *slot.get_or_init(|| text) == text;
        let position = self.0.iter().position(is_it);
        let number = position.and_then(|at| u8::try_from(at + Label::FIRST).ok());
        number.map_or(Label::NONE, Label)
    }

    /// The text of a label.
    pub(super) fn text(&self, label: Label) -> Option<&'static str> {
        match label {
            Label::NONE => None,
            Label::UNANSWERED => Some("no answer"),
            Label(number) => {
                let at = usize::from(number).checked_sub(Label::FIRST)?;
                self.0.get(at)?.get().copied()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_has_one_number() {
        let labels = Labels::default();
        let (refused, reset) = (labels.label("503"), labels.label("reset"));
        assert_ne!(refused, reset);
        assert_eq!(labels.label("503"), refused);
        assert_eq!(labels.text(refused), Some("503"));
        assert_eq!(labels.text(reset), Some("reset"));
        assert_eq!(labels.text(Label::NONE), None);
        assert_eq!(labels.text(Label::UNANSWERED), Some("no answer"));
        assert_eq!(labels.text(Label(u8::MAX)), None);
        assert_eq!(Label::of(reset.bits() | 64), reset);
    }

    #[test]
    fn more_labels_than_are_kept_count_as_none() {
        let labels = Labels::default();
        for number in 0..40 {
            let text: &'static str = Box::leak(number.to_string().into_boxed_str());
            let label = labels.label(text);
            let kept = (number < 30).then_some(text);
            assert_eq!(labels.text(Label::of(label.bits())), kept);
        }
    }
}
