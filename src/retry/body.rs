//! Request bodies that can be sent twice.

use crate::http::ReplayBody;

/// What [`Retry`](super::Retry) can send again: all that is `Clone`, and a [`ReplayBody`].
pub trait TryClone: Sized {
    /// A clone, if there can be one.
    fn try_clone(&self) -> Option<Self>;

    /// Makes the clone fit to be sent, now that the first attempt is over. Returns whether it can be.
    fn restart(&mut self) -> bool {
        true
    }
}

impl<T: Clone> TryClone for T {
    fn try_clone(&self) -> Option<Self> {
        Some(self.clone())
    }
}

impl TryClone for ReplayBody {
    fn try_clone(&self) -> Option<Self> {
        self.replay()
    }

    fn restart(&mut self) -> bool {
        self.take_over()
    }
}
