use std::time::Duration;

use rolecall::{DiscoveryExt, InstanceSet};
use tokio::time::Instant;

use crate::source::{Source, Watch, fault, ids, set, unknown};

fn both() -> (Source, Source, Watch) {
    let (left, right) = (Source::default(), Source::default());
    let watch = Watch::of(&left.clone().merge(right.clone()));
    (left, right, watch)
}

#[tokio::test(start_paused = true)]
async fn the_first_set_waits_for_both_sides() {
    let (left, right, mut watch) = both();
    left.say(Ok(set(&["l"], 1)));
    assert!(watch.now().await.is_none(), "the right side may answer yet");
    right.say(Ok(set(&["r"], 2)));
    assert_eq!(ids(&watch.set().await), ["l", "r"]);
    assert!(watch.now().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_error_or_an_end_is_an_answer_too() {
    let (left, right, mut watch) = both();
    left.say(Ok(set(&["l"], 1)));
    right.say(fault("down"));
    let mut answers = [watch.next().await, watch.next().await];
    answers.sort_by_key(Result::is_err);
    let [Ok(only), Err(_)] = &answers else {
        panic!("{answers:?}")
    };
    assert_eq!(ids(only), ["l"]);

    let (left, right, mut watch) = both();
    left.say(Ok(set(&["l"], 1)));
    right.end();
    assert_eq!(ids(&watch.set().await), ["l"]);
}

#[expect(clippy::disallowed_methods, reason = "paused time")]
#[tokio::test(start_paused = true)]
async fn the_first_set_waits_for_a_second_at_most() {
    let (left, right, mut watch) = both();
    let began = Instant::now();
    left.say(Ok(set(&["l"], 1)));
    assert_eq!(ids(&watch.set().await), ["l"]);
    let waited = began.elapsed();
    let second = Duration::from_secs(1);
    assert!(waited >= second && waited < second * 11 / 10, "{waited:?}");
    left.say(Ok(set(&["l", "m"], 1)));
    assert_eq!(watch.set().await.len(), 2, "later sets do not wait");
    right.say(Ok(set(&["r"], 1)));
    assert_eq!(watch.set().await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn of_one_id_the_left_instance_wins() {
    let (left, right, mut watch) = both();
    left.say(Ok(set(&["a", "b"], 1)));
    right.say(Ok(set(&["b", "c"], 2)));
    let merged = watch.set().await;
    assert_eq!(ids(&merged), ["a", "b", "c"]);
    assert_eq!(merged.get("b").unwrap().address().port().unwrap(), 1);
    left.say(Ok(set(&["a"], 1)));
    let merged = watch.set().await;
    assert_eq!(merged.get("b").unwrap().address().port().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn it_is_confirmed_if_both_are() {
    for (of_left, of_right, both_are) in [
        (true, true, true),
        (true, false, false),
        (false, true, false),
    ] {
        let (left, right, mut watch) = both();
        let marked = |set: InstanceSet, is: bool| if is { set.confirmed() } else { set };
        left.say(Ok(marked(set(&["l"], 1), of_left)));
        right.say(Ok(marked(set(&["r"], 1), of_right)));
        assert_eq!(watch.set().await.is_confirmed(), both_are);
    }
    let (left, right, mut watch) = both();
    left.say(Ok(set(&["l"], 1).confirmed()));
    right.end();
    assert!(!watch.set().await.is_confirmed(), "half of it is not known");
}

#[tokio::test(start_paused = true)]
async fn a_side_that_errs_or_ends_keeps_its_last_set() {
    let (left, right, mut watch) = both();
    left.say(Ok(set(&["l"], 1)));
    right.say(Ok(set(&["r"], 1)));
    assert_eq!(watch.set().await.len(), 2);
    left.say(fault("down"));
    assert!(watch.next().await.is_err());
    right.say(Ok(set(&["r", "s"], 1)));
    assert_eq!(ids(&watch.set().await), ["l", "r", "s"]);
    left.end();
    right.say(Ok(set(&["s"], 1)));
    assert_eq!(ids(&watch.set().await), ["l", "s"]);
    right.end();
    assert!(watch.now().await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn that_a_role_is_unknown_counts_if_neither_has_it() {
    let (left, right, mut watch) = both();
    left.say(unknown());
    assert!(watch.now().await.is_none(), "the other may have it");
    right.say(Ok(set(&["r"], 1)));
    assert_eq!(ids(&watch.set().await), ["r"]);
    assert!(watch.now().await.is_none());

    let (left, right, mut watch) = both();
    left.say(unknown());
    right.say(unknown());
    assert!(watch.next().await.is_err());
    assert!(watch.now().await.is_none(), "once for both");
}

#[tokio::test(start_paused = true)]
async fn what_both_say_at_once_is_one_set() {
    let (left, right, mut watch) = both();
    left.say(Ok(set(&["l"], 1)));
    right.say(Ok(set(&["r"], 1)));
    assert_eq!(watch.set().await.len(), 2);
    for port in 2..9 {
        left.say(Ok(set(&["l"], port)));
        right.say(Ok(set(&["r"], port)));
    }
    assert_eq!(watch.set().await, set(&["l", "r"], 8));
    assert!(watch.now().await.is_none());
}
