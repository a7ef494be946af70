use rolecall::DiscoveryExt;

use crate::source::{Source, Watch, fault, ids, set};

#[tokio::test(start_paused = true)]
async fn the_others_sets_are_given_unconfirmed_until_the_first_one() {
    let (first, other) = (Source::default(), Source::default());
    let mut watch = Watch::of(&first.clone().or(other.clone()));
    assert!(watch.now().await.is_none());
    other.say(Ok(set(&["o"], 1).confirmed()));
    let stand_in = watch.set().await;
    assert_eq!(ids(&stand_in), ["o"]);
    assert!(!stand_in.is_confirmed());
    other.say(Ok(set(&["o", "p"], 1)));
    assert_eq!(watch.set().await.len(), 2);

    first.say(Ok(set(&["f"], 2).confirmed()));
    let real = watch.set().await;
    assert_eq!(ids(&real), ["f"]);
    assert!(real.is_confirmed());
    assert_eq!(other.open(), 0, "it is not watched any more");
    first.say(fault("lost"));
    watch.error().await;
    other.say(Ok(set(&["o"], 1)));
    assert!(watch.now().await.is_none(), "never again");
    first.end();
    assert!(watch.now().await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn of_two_that_are_ready_only_the_first_is_heard() {
    let (first, other) = (Source::default(), Source::default());
    let mut watch = Watch::of(&first.clone().or(other.clone()));
    other.say(Ok(set(&["o"], 1)));
    first.say(Ok(set(&["f"], 2)));
    assert_eq!(ids(&watch.set().await), ["f"]);
    assert!(watch.now().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn errors_of_both_are_reported_and_change_nothing() {
    let (first, other) = (Source::default(), Source::default());
    let mut watch = Watch::of(&first.clone().or(other.clone()));
    first.say(fault("one"));
    assert!(watch.next().await.is_err());
    other.say(fault("two"));
    assert!(watch.next().await.is_err());
    other.say(Ok(set(&["o"], 1)));
    assert_eq!(watch.set().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_both_have_ended() {
    let (first, other) = (Source::default(), Source::default());
    let mut watch = Watch::of(&first.clone().or(other.clone()));
    first.end();
    assert!(watch.now().await.is_none());
    other.say(Ok(set(&["o"], 1)));
    assert_eq!(watch.set().await.len(), 1);
    other.end();
    assert!(watch.now().await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn peers_and_hints_go_both_ways() {
    use rolecall::{Boundary, Discovery};
    let (first, other) = (Source::default(), Source::default());
    let both = first.clone().or(other.clone());
    let mut peers = Watch(both.peers(&Boundary::default()));
    other.say(Ok(set(&["o"], 1)));
    assert_eq!(peers.set().await.len(), 1);
    both.refresh(&crate::source::target());
    assert_eq!((first.refreshed(), other.refreshed()), (1, 1));
}
