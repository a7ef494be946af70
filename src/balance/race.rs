//! Races the addresses of one instance, as in RFC 8305: each gets a head start, and the first that succeeds wins.

use std::future::{Future, pending};
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::sleep;

use crate::model::address::Address;

/// RFC 8305 §8: the recommended connection attempt delay.
const HEAD_START: Duration = Duration::from_millis(250);

/// Dials the addresses in order. The next dial starts 250 ms after the previous one, or as soon as a running dial fails. The
/// first success wins, and the other dials are dropped.
///
/// # Errors
///
/// If every dial fails, each address with its error, in the order of the addresses. Empty if there are no addresses.
pub(crate) async fn race<'a, T, E, F>(
    addresses: impl IntoIterator<Item = &'a Address>,
    mut dial: impl FnMut(&'a Address) -> F,
) -> Result<T, Vec<(&'a Address, E)>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut waiting = addresses.into_iter().enumerate().peekable();
    let mut dials = FuturesUnordered::new();
    let mut failures = Vec::new();
    loop {
        if let Some((place, address)) = waiting.next() {
            let dial = dial(address);
            dials.push(async move { (place, address, dial.await) });
        }
        let head_start = async {
            match waiting.peek() {
                Some(_) => sleep(HEAD_START).await,
                None => pending().await,
            }
        };
        let ended = match select(dials.next(), std::pin::pin!(head_start)).await {
            Either::Left((ended, _)) => ended,
            Either::Right(_) => continue,
        };
        match ended {
            Some((_, _, Ok(won))) => return Ok(won),
            Some((place, address, Err(error))) => failures.push((place, address, error)),
            None => {}
        }
        // The other dials run on; the next address does not wait for them.
        if dials.is_empty() && waiting.peek().is_none() {
            failures.sort_by_key(|(place, ..)| *place);
            let failures = failures
                .into_iter()
                .map(|(_, address, error)| (address, error));
            return Err(failures.collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use tokio::time::Instant;

    use super::*;

    fn addresses(count: u16) -> Vec<Address> {
        (1..=count)
            .map(|port| ([10, 0, 0, 7], port).into())
            .collect()
    }

    /// For each port, the milliseconds that its dial takes, and its result.
    type Script = [(u64, Result<(), &'static str>)];

    /// Returns the outcome, the start time of each dial in milliseconds, and the ports whose dials were dropped.
    async fn raced(script: &Script) -> (Result<u16, Vec<&'static str>>, Vec<u64>, Vec<u16>) {
        struct Dropped(u16, Rc<RefCell<Vec<u16>>>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.1.borrow_mut().push(self.0);
            }
        }
        #[expect(clippy::disallowed_methods, reason = "the paused clock of a test")]
        let began = Instant::now();
        let addresses = addresses(u16::try_from(script.len()).unwrap());
        let starts = RefCell::new(Vec::new());
        let dropped = Rc::new(RefCell::new(Vec::new()));
        let outcome = race(&addresses, |address| {
            let port = address.port().unwrap();
            let (lasts, outcome) = script[usize::from(port) - 1];
            #[expect(clippy::disallowed_methods, reason = "the paused clock of a test")]
            let since = Instant::now() - began;
            starts
                .borrow_mut()
                .push(u64::try_from(since.as_millis()).unwrap());
            let guard = Dropped(port, Rc::clone(&dropped));
            async move {
                sleep(Duration::from_millis(lasts)).await;
                std::mem::forget(guard);
                outcome.map(|()| port)
            }
        })
        .await;
        let outcome = outcome.map_err(|failures| failures.into_iter().map(|(_, e)| e).collect());
        let dropped = dropped.borrow().clone();
        (outcome, starts.into_inner(), dropped)
    }

    const HANGS: (u64, Result<(), &str>) = (1_000_000, Ok(()));

    #[tokio::test(start_paused = true)]
    async fn a_first_address_that_answers_in_time_is_the_only_one_dialled() {
        let (outcome, starts, dropped) = raced(&[(249, Ok(())), HANGS]).await;
        assert_eq!((outcome, starts, dropped), (Ok(1), vec![0], vec![]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_gets_a_head_start_and_the_loser_is_dropped() {
        let (outcome, starts, dropped) = raced(&[HANGS, HANGS, (10, Ok(()))]).await;
        assert_eq!((outcome, starts), (Ok(3), vec![0, 250, 500]));
        assert_eq!(dropped.len(), 2);
        let (outcome, starts, dropped) = raced(&[(260, Ok(())), (100, Ok(()))]).await;
        assert_eq!((outcome, starts, dropped), (Ok(1), vec![0, 250], vec![2]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_starts_the_next_address_at_once() {
        let (outcome, starts, _) = raced(&[(5, Err("a")), (5, Err("b")), (5, Ok(()))]).await;
        assert_eq!((outcome, starts), (Ok(3), vec![0, 5, 10]));
        // The second fails while the first is silent.
        let (outcome, starts, _) = raced(&[HANGS, (5, Err("b")), (5, Ok(()))]).await;
        assert_eq!((outcome, starts), (Ok(3), vec![0, 250, 255]));
    }

    #[tokio::test(start_paused = true)]
    async fn all_failures_are_told_in_the_order_of_the_addresses() {
        let (outcome, ..) = raced(&[(600, Err("a")), (5, Err("b")), (5, Err("c"))]).await;
        assert_eq!(outcome, Err(vec!["a", "b", "c"]));
        let (outcome, ..) = raced(&[(5, Err("a"))]).await;
        assert_eq!(outcome, Err(vec!["a"]));
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_list_fails_at_once_without_errors() {
        assert_eq!(raced(&[]).await.0, Err(vec![]));
    }
}
