use std::convert::Infallible;
use std::pin::pin;
use std::sync::mpsc;

use futures_util::{FutureExt, StreamExt, stream};
use http_body_util::{BodyExt, Collected, Full, StreamBody};

use http_body::Body as _;

use super::*;

type Failure = &'static str;

fn data(text: &'static str) -> Result<Frame<Bytes>, Failure> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

/// A body of these frames, which are all at hand; then it is pending for ever, or ends.
fn body(
    frames: impl IntoIterator<Item = Result<Frame<Bytes>, Failure>, IntoIter: Send + 'static>,
    ends: bool,
) -> ReplayBody {
    let rest = match ends {
        true => stream::empty().left_stream(),
        false => stream::pending().right_stream(),
    };
    ReplayBody::new(StreamBody::new(stream::iter(frames).chain(rest)))
}

fn next(body: &mut ReplayBody) -> Option<Result<Bytes, BoxError>> {
    let frame = body.frame().now_or_never().flatten()?;
    Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
}

fn text(body: &mut ReplayBody) -> Bytes {
    next(body).unwrap().unwrap()
}

fn collected(body: ReplayBody) -> Result<Collected<Bytes>, BoxError> {
    pin!(body.collect()).as_mut().now_or_never().unwrap()
}

#[test]
fn what_was_read_comes_again_each_time_and_the_rest_after_it() {
    let mut trailers = HeaderMap::new();
    trailers.insert("checksum", 7.into());
    let frames = || [data("one "), data("two "), data("three")];
    for reads in [[0, 1, 2], [3, 0, 4], [4, 4, 4]] {
        let trailers = Ok(Frame::trailers(trailers.clone()));
        let mut reader = body(frames().into_iter().chain([trailers]), true);
        for read in reads {
            let mut spare = reader.replay().unwrap();
            for _ in 0..read {
                // The record comes as one frame, so there may be fewer.
                drop(next(&mut reader));
            }
            assert!(spare.take_over());
            assert!(next(&mut reader).unwrap().is_err(), "superseded");
            reader = spare;
        }
        let all = collected(reader).unwrap();
        assert_eq!(all.trailers().unwrap()["checksum"], "7");
        assert_eq!(all.to_bytes(), "one two three");
    }
}

#[test]
fn an_empty_body_is_replayed_without_an_allocation() {
    let mut empty = ReplayBody::new(Full::<Bytes>::default());
    assert!(empty.0.is_none());
    assert!(empty.is_end_stream() && empty.replay().unwrap().is_end_stream());
    assert!(empty.take_over());
}

#[test]
fn a_replay_body_is_not_wrapped_again() {
    let outer = ReplayBody::new(body([data("one")], true));
    let handle = outer.0.as_ref().unwrap();
    let again = outer.replay().map(ReplayBody::new).unwrap();
    assert!(Arc::ptr_eq(
        &handle.shared,
        &again.0.as_ref().unwrap().shared
    ));
}

#[test]
fn exactly_the_limit_is_kept() {
    for (length, is_kept) in [(LIMIT, true), (LIMIT + 1, false)] {
        let half = Bytes::from(vec![b'x'; LIMIT / 2]);
        let rest = Bytes::from(vec![b'x'; length - LIMIT / 2]);
        let frames = [half, rest].map(|half| Ok(Frame::data(half)));
        let mut reader = body(frames, true);
        let mut spare = reader.replay().unwrap();
        while next(&mut reader).is_some() {}
        assert_eq!(spare.is_replayable(), is_kept);
        assert_eq!(spare.replay().is_some(), is_kept);
        assert_eq!(spare.take_over(), is_kept);
        match is_kept {
            true => assert_eq!(collected(spare).unwrap().to_bytes().len(), length),
            false => assert!(next(&mut spare).unwrap().is_err(), "not the rest alone"),
        }
    }
}

#[test]
fn a_body_that_announces_more_than_the_limit_is_copied_only_before_it_is_read() {
    let mut reader = ReplayBody::new(Full::<Bytes>::from(vec![b'x'; LIMIT + 1]));
    let mut spare = reader.replay().unwrap();
    let mut second = reader.replay().unwrap();
    assert!(spare.take_over(), "nothing was read");
    assert!(next(&mut reader).unwrap().is_err());
    assert_eq!(text(&mut spare).len(), LIMIT + 1);
    assert!(!second.take_over());
}

#[test]
fn what_is_kept_pins_no_larger_allocation_and_goes_with_the_last_spare() {
    let large = Bytes::from(vec![b'x'; 1 << 20]);
    let frame = Ok(Frame::data(large.slice(..16)));
    let mut reader = body([frame], false);
    let spare = reader.replay().unwrap();
    drop(next(&mut reader));
    assert!(large.is_unique(), "it was copied");
    let record = |body: &ReplayBody| body.0.as_ref().unwrap().state().record.is_some();
    assert!(record(&reader));
    drop(spare);
    assert!(!record(&reader));
    assert!(reader.replay().is_none());
}

#[test]
fn without_a_spare_nothing_is_kept() {
    let mut reader = body([data("one "), data("two")], true);
    assert_eq!(text(&mut reader), "one ");
    assert!(reader.replay().is_none());
    assert_eq!(text(&mut reader), "two");
}

#[test]
fn a_body_that_failed_or_panicked_is_not_sent_again() {
    let panics = stream::iter([data("one")]).chain(stream::once(async { panic!("no more") }));
    let panics = ReplayBody::new(StreamBody::new(panics.boxed()));
    let fails = body([data("one"), Err("no more")], true);
    for mut reader in [fails, panics] {
        let mut spare = reader.replay().unwrap();
        assert_eq!(text(&mut reader), "one");
        let error = next(&mut reader).unwrap().unwrap_err();
        assert!(error.to_string().contains("no more"), "{error}");
        assert!(!spare.take_over());
        assert!(next(&mut spare).unwrap().is_err());
        assert!(next(&mut reader).unwrap().is_err(), "and does not end");
    }
}

#[cfg(all(feature = "grpc", feature = "retry"))]
#[test]
fn what_is_at_hand_is_read_ahead_for_the_reader() {
    for (ends, limit, is_whole) in [(true, 7, true), (true, 3, false), (false, 7, false)] {
        let rest = match ends {
            true => stream::empty().left_stream(),
            false => stream::pending().right_stream(),
        };
        let frames = stream::iter([data("one "), data("two")]).chain(rest);
        let mut reader = ReplayBody::with_limit(StreamBody::new(frames), limit);
        assert_eq!(reader.read_ahead(), is_whole, "{ends} {limit}");
        assert_eq!(reader.is_replayable(), limit == 7);
        let mut read = Vec::new();
        while let Some(data) = next(&mut reader) {
            read.extend_from_slice(&data.unwrap());
        }
        assert_eq!(read, b"one two");
        assert_eq!(reader.is_end_stream(), ends);
    }
    let mut fails = body([data("one"), Err("no more")], true);
    assert!(!fails.read_ahead() && !fails.is_replayable());
    assert_eq!(text(&mut fails), "one");
    let error = next(&mut fails).unwrap().unwrap_err();
    assert_eq!(error.to_string(), "no more");
    let frames = stream::repeat_with(|| Ok::<_, Infallible>(Frame::data(Bytes::new())));
    assert!(!ReplayBody::new(StreamBody::new(frames)).read_ahead());
}

#[test]
fn the_length_is_told_at_every_stage() {
    let mut reader = ReplayBody::new(Full::<Bytes>::from("one two"));
    assert_eq!(reader.size_hint().exact(), Some(7));
    let mut spare = reader.replay().unwrap();
    drop(text(&mut reader));
    assert_eq!(reader.size_hint().exact(), Some(0));
    assert!(reader.is_end_stream() && !spare.is_end_stream());
    assert_eq!(spare.size_hint().exact(), Some(7));
    assert!(spare.take_over() && !spare.is_end_stream());
    assert_eq!(spare.size_hint().exact(), Some(7));
    assert_eq!(text(&mut spare), "one two");
    assert!(spare.is_end_stream());
}

/// The former reader is in the caller's code when the body is taken over: the later one waits and gets what comes of it.
#[test]
fn a_frame_that_a_former_reader_polls_for_comes_to_the_later_one() {
    let (arrive, arrived) = mpsc::channel();
    let (open, opened) = mpsc::channel();
    let mut once = Some((arrive, opened));
    let frames = stream::poll_fn(move |_| {
        let Some((arrive, opened)) = once.take() else {
            return Poll::Ready(None);
        };
        arrive.send(()).unwrap();
        opened.recv().unwrap();
        // More than is kept: the later reader relies on it all the same.
        Poll::Ready(Some(Ok::<_, Infallible>(Frame::data(Bytes::from(vec![
            b'x';
            LIMIT + 1
        ])))))
    });
    let mut reader = ReplayBody::new(StreamBody::new(frames));
    let mut spare = reader.replay().unwrap();
    let former = std::thread::spawn(move || next(&mut reader));
    arrived.recv().unwrap();
    assert!(spare.take_over());
    assert!(next(&mut spare).is_none(), "it waits");
    open.send(()).unwrap();
    assert!(former.join().unwrap().unwrap().is_err(), "superseded");
    assert_eq!(text(&mut spare).len(), LIMIT + 1);
    assert!(next(&mut spare).is_none());
    assert!(spare.is_end_stream());
}
