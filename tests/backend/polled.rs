//! `poll` and `per_target`: sources that are watched for each target.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{FutureExt, StreamExt, stream};
use rolecall::discovery::backend::{Backoff, PerTarget, PollAnswer, PollBounds, per_target, poll};
use rolecall::discovery::{DiscoveryError, DiscoveryErrorKind};
use rolecall::{Boundary, Discovery, Instance, InstanceSet, Target};
use tokio::time::{self, Instant};

use super::{ids, now, text, watch};

fn one(id: &str) -> InstanceSet {
    [Instance::new(id, ([10, 0, 0, 7], 80))]
        .into_iter()
        .collect()
}

/// When a source was asked, and for what.
type Asked = Arc<Mutex<Vec<(Duration, String)>>>;

/// Answers with the number of the query, valid for 8 s, and fails each `fails`-th time.
#[expect(clippy::disallowed_methods, reason = "paused time of a test")]
fn counted(fails: usize) -> (Asked, PerTarget) {
    let asked = Asked::default();
    let (began, noted) = (Instant::now(), Arc::clone(&asked));
    let bounds = PollBounds::new(Duration::from_secs(1), Duration::from_secs(30));
    let discovery = poll(
        move |target: Target| {
            let mut asked = noted.lock().unwrap();
            asked.push((began.elapsed(), target.to_string()));
            let number = asked.len();
            async move {
                if number.is_multiple_of(fails) {
                    return Err(DiscoveryError::backend("asking", "refused"));
                }
                let answer = PollAnswer::new(one(&number.to_string()));
                Ok(answer.valid_for(Duration::from_secs(8)))
            }
        },
        bounds,
    );
    (asked, discovery)
}

#[tokio::test(start_paused = true)]
async fn a_poll_asks_once_for_all_watches_of_a_target_and_again_when_its_answer_is_old() {
    let (asked, discovery) = counted(usize::MAX);
    let mut watches = [
        watch(&discovery, "worker:http"),
        watch(&discovery.clone(), "worker:http"),
    ];
    for answers in &mut watches {
        assert_eq!(ids(&answers.next().await.unwrap().unwrap()), ["1"]);
    }
    for answers in &mut watches {
        assert_eq!(ids(&answers.next().await.unwrap().unwrap()), ["2"]);
    }
    let (again, of) = asked.lock().unwrap()[1].clone();
    assert_eq!(of, "worker:http");
    assert!(
        (7..=8).contains(&again.as_secs()),
        "{again:?} of 8 s, 10 % more or less"
    );
    let mut other = watch(&discovery, "other:http");
    assert_eq!(ids(&other.next().await.unwrap().unwrap()), ["3"]);
    drop(watches);
    drop(other);
    time::sleep(Duration::from_secs(60)).await;
    assert_eq!(asked.lock().unwrap().len(), 3, "nobody watches");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_asks_again_soon_and_at_most_once_a_second() {
    let (asked, discovery) = counted(usize::MAX);
    let target: Target = "worker:http".parse().unwrap();
    let mut answers = discovery.watch(&target);
    discovery.refresh(&target);
    answers.next().await.unwrap().unwrap();
    let reading = tokio::spawn(async move { while answers.next().await.is_some() {} });
    time::sleep(Duration::from_secs(2)).await;
    for _ in 0..300 {
        discovery.refresh(&target);
        discovery.refresh(&"unknown:http".parse().unwrap());
        time::sleep(Duration::from_millis(10)).await;
    }
    reading.abort();
    let times: Vec<_> = asked.lock().unwrap().iter().map(|(at, _)| *at).collect();
    assert!((4..=5).contains(&times.len()), "{times:?}");
    assert!(times[1] < Duration::from_millis(2500), "soon: {times:?}");
    let close = times
        .windows(2)
        .any(|two| two[1] - two[0] < Duration::from_secs(1));
    assert!(!close, "at most once a second: {times:?}");
}

#[tokio::test(start_paused = true)]
async fn a_query_that_fails_keeps_the_set_and_is_repeated() {
    let (_, discovery) = counted(2);
    let mut answers = watch(&discovery, "worker:http");
    assert_eq!(ids(&answers.next().await.unwrap().unwrap()), ["1"]);
    let error = answers.next().await.unwrap().unwrap_err();
    assert!(text(&error).ends_with("refused"), "{error}");
    let mut late = watch(&discovery, "worker:http");
    assert_eq!(
        ids(&late.next().await.unwrap().unwrap()),
        ["1"],
        "the last good one"
    );
    assert_eq!(ids(&answers.next().await.unwrap().unwrap()), ["3"]);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_ends_or_panics_is_opened_again() {
    let opened = Mutex::new(0);
    let discovery = per_target(
        move |_| {
            let mut opened = opened.lock().unwrap();
            *opened += 1;
            match *opened {
                1 => stream::iter([Ok(one("a"))]).boxed(),
                2 => stream::once(async { panic!("it breaks") }).boxed(),
                _ => stream::iter([Ok(one("b"))])
                    .chain(stream::pending())
                    .boxed(),
            }
        },
        Backoff::default(),
    );
    let mut answers = watch(&discovery, "worker:http");
    assert_eq!(ids(&answers.next().await.unwrap().unwrap()), ["a"]);
    let error = answers.next().await.unwrap().unwrap_err();
    assert!(text(&error).ends_with("it breaks"), "{error}");
    assert_eq!(ids(&answers.next().await.unwrap().unwrap()), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn peers_are_unsupported_unless_their_source_is_given() {
    let silent = |_| stream::pending();
    let discovery = per_target(silent, Backoff::default());
    let mut peers = discovery.peers(&Boundary::default());
    let error = now(&mut peers).unwrap().unwrap_err();
    assert_eq!(error.kind(), DiscoveryErrorKind::Unsupported);
    assert!(peers.next().now_or_never().unwrap().is_none());
    let of = |boundary: Boundary| {
        let set = one(&format!("{boundary}/1"));
        stream::iter([Ok(set)]).chain(stream::pending())
    };
    let discovery = discovery.with_peers(of, Backoff::default());
    let mut peers = discovery.peers(&Boundary::default());
    assert_eq!(ids(&peers.next().await.unwrap().unwrap()), ["default/1"]);
}

#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "paused time of a test")]
async fn what_is_absent_is_asked_again_within_seconds() {
    for is_unknown in [true, false] {
        let asked: Arc<Mutex<Vec<Instant>>> = Arc::default();
        let noted = Arc::clone(&asked);
        let bounds = PollBounds::new(Duration::from_secs(1), Duration::from_secs(60));
        let discovery = poll(
            move |target: Target| {
                noted.lock().unwrap().push(Instant::now());
                async move {
                    let hour = Duration::from_secs(3600);
                    match is_unknown {
                        true => Err(DiscoveryError::unknown_role(&target)),
                        false => Ok(PollAnswer::new(InstanceSet::empty()).valid_for(hour)),
                    }
                }
            },
            bounds,
        );
        let mut answers = watch(&discovery, "worker:http");
        let reading = tokio::spawn(async move { while answers.next().await.is_some() {} });
        time::sleep(Duration::from_secs(600)).await;
        reading.abort();
        let asked = asked.lock().unwrap();
        let gaps = asked.windows(2).map(|two| two[1] - two[0]);
        let longest = gaps.max().unwrap();
        assert!(longest <= Duration::from_millis(5501), "{longest:?}");
        assert!(asked.len() < 280, "no flood: {}", asked.len());
    }
}
