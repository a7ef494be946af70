//! `mirror`: a source that lists and then tells changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::channel::mpsc;
use futures::{FutureExt, StreamExt, stream};
use rolecall::Discovery;
use rolecall::discovery::backend::{Backoff, CatalogUpdate, Mirror, Scope, mirror};
use tokio::runtime::{Builder, Runtime};
use tokio::time;

use super::{Answer, ids, text, watch, worker};

type Update = Result<CatalogUpdate, &'static str>;

/// A source that a test feeds: each time it is opened, what to feed it by arrives.
struct Source(mpsc::UnboundedReceiver<mpsc::UnboundedSender<Update>>);

impl Source {
    fn mirrored() -> (Self, Mirror) {
        let (opened, feeds) = mpsc::unbounded();
        let open = move || {
            let (feed, updates) = mpsc::unbounded();
            opened.unbounded_send(feed).unwrap();
            updates
        };
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        (Self(feeds), mirror(open, backoff))
    }

    async fn opened(&mut self) -> mpsc::UnboundedSender<Update> {
        self.0.next().await.unwrap()
    }
}

fn listed(all: &[&str]) -> Update {
    let all = all.iter().map(|id| worker(id)).collect();
    Ok(CatalogUpdate::Replace(Scope::All, all))
}

async fn next(answers: &mut (impl futures::Stream<Item = Answer> + Unpin)) -> Answer {
    let answer = time::timeout(Duration::from_secs(600), answers.next());
    answer.await.expect("an answer").expect("it does not end")
}

#[tokio::test(start_paused = true)]
async fn one_stream_feeds_all_watches_and_is_opened_again_when_it_ends() {
    let (mut source, mirror) = Source::mirrored();
    let mut first = watch(&mirror, "worker:http");
    let mut second = mirror.clone().peers(&rolecall::Boundary::default());
    let reading = tokio::spawn(async move {
        let set = next(&mut first).await.unwrap();
        (set, first)
    });
    let feed = source.opened().await;
    feed.unbounded_send(listed(&["a", "b"])).unwrap();
    let (set, mut first) = reading.await.unwrap();
    assert_eq!(ids(&set), ["a", "b"]);
    assert!(!set.is_confirmed());
    assert_eq!(next(&mut second).await.unwrap().len(), 2);

    feed.unbounded_send(Ok(CatalogUpdate::Remove(worker("a").key())))
        .unwrap();
    assert_eq!(ids(&next(&mut first).await.unwrap()), ["b"]);
    drop(feed);
    let reading = tokio::spawn(async move { (next(&mut first).await, first) });
    let feed = source.opened().await;
    assert!(
        !reading.is_finished(),
        "until it has listed again, the last contents stay"
    );
    feed.unbounded_send(listed(&["c"])).unwrap();
    let (set, first) = reading.await.unwrap();
    assert_eq!(ids(&set.unwrap()), ["c"]);
    drop((first, second));
    while !feed.is_closed() {
        tokio::task::yield_now().await;
    }
    let mut late = watch(&mirror, "worker:http");
    let reading = tokio::spawn(async move { next(&mut late).await });
    let feed = source.opened().await;
    assert!(
        !reading.is_finished(),
        "what was read an hour ago is no answer"
    );
    feed.unbounded_send(listed(&["d"])).unwrap();
    assert_eq!(ids(&reading.await.unwrap().unwrap()), ["d"]);
}

#[tokio::test(start_paused = true)]
async fn errors_and_panics_of_the_source_are_told_and_overcome() {
    let opened = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&opened);
    let mirror = mirror(
        move || match count.fetch_add(1, Ordering::Relaxed) {
            0 => panic!("it does not open"),
            1 => stream::iter([listed(&["a"]), Err("reset")])
                .chain(stream::once(async {
                    time::sleep(Duration::from_secs(60)).await;
                    panic!("it breaks")
                }))
                .boxed(),
            _ => stream::iter([listed(&["b"])])
                .chain(stream::pending())
                .boxed(),
        },
        Backoff::default(),
    );
    let mut answers = watch(&mirror, "worker:http");
    let mut told = Vec::new();
    while told.last().is_none_or(|last| last != "b") {
        told.push(match next(&mut answers).await {
            Ok(set) => ids(&set).join(" "),
            Err(error) => text(&error),
        });
    }
    assert_eq!(
        told,
        [
            "discovery failed while opening the source: panicked: it does not open",
            "a",
            "discovery failed while reading the source: reset",
            "discovery failed while reading the source: panicked: it breaks",
            "b",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_source_whose_errors_are_always_ready_is_asked_once_a_pause() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let fails = move || {
        count.fetch_add(1, Ordering::Relaxed);
        Update::Err("down")
    };
    let open = move || stream::repeat_with(fails.clone());
    let mirror = mirror(
        open,
        Backoff::new(Duration::from_secs(1), Duration::from_secs(1)),
    );
    let mut answers = watch(&mirror, "worker:http");
    assert!(next(&mut answers).await.is_err());
    let asked = asked.load(Ordering::Relaxed);
    assert_eq!(
        asked, 1,
        "the first error ends the reading until the pause is over"
    );
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_watch_in_a_second_runtime_goes_on_when_the_first_has_ended() {
    let (mut source, mirror) = Source::mirrored();
    let (first, second) = (runtime(), runtime());
    let mut here = watch(&mirror, "worker:http");
    let mut there = watch(&mirror, "worker:http");
    let feed = first.block_on(async {
        let reading = tokio::spawn(async move { next(&mut here).await });
        let feed = source.opened().await;
        feed.unbounded_send(listed(&["a"])).unwrap();
        reading.await.unwrap().unwrap();
        feed
    });
    second.block_on(async {
        assert_eq!(ids(&next(&mut there).await.unwrap()), ["a"]);
    });
    let reading = second.spawn(async move { next(&mut there).await });
    second.block_on(tokio::task::yield_now());
    drop(first);
    assert!(feed.is_closed(), "it ran in the first");
    second.block_on(async {
        let feed = source.opened().await;
        feed.unbounded_send(listed(&["b"])).unwrap();
        assert_eq!(ids(&reading.await.unwrap().unwrap()), ["b"]);
    });
}

#[test]
fn what_was_listed_in_a_runtime_that_ended_is_not_given_in_the_next() {
    let (mut source, mirror) = Source::mirrored();
    let first = runtime();
    let mut kept = watch(&mirror, "worker:http");
    first.block_on(async {
        assert!(kept.next().now_or_never().is_none());
        let feed = source.opened().await;
        feed.unbounded_send(Ok(CatalogUpdate::Confirmed(true)))
            .unwrap();
        feed.unbounded_send(listed(&["a"])).unwrap();
        assert!(next(&mut kept).await.unwrap().is_confirmed());
    });
    drop(first);
    runtime().block_on(async {
        let mut late = watch(&mirror, "worker:http");
        assert!(late.next().now_or_never().is_none(), "it is old");
        let feed = source.opened().await;
        feed.unbounded_send(listed(&["b"])).unwrap();
        let set = next(&mut late).await.unwrap();
        assert_eq!(ids(&set), ["b"]);
        assert!(!set.is_confirmed(), "the source has not said so again");
        assert_eq!(ids(&next(&mut kept).await.unwrap()), ["b"]);
    });
}

#[test]
fn without_timers_it_gives_nothing_and_opens_nothing() {
    let (mut source, mirror) = Source::mirrored();
    let mut watched = watch(&mirror, "worker:http");
    let without = Builder::new_current_thread().build().unwrap();
    without.block_on(async {
        for _ in 0..10 {
            assert!(watched.next().now_or_never().is_none());
            tokio::task::yield_now().await;
        }
    });
    assert!(source.0.try_recv().is_err(), "it was not opened");
    runtime().block_on(async {
        assert!(watched.next().now_or_never().is_none());
        let feed = source.opened().await;
        feed.unbounded_send(listed(&["a"])).unwrap();
        assert_eq!(ids(&next(&mut watched).await.unwrap()), ["a"]);
    });
}
