//! Server-sent events.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use futures_util::stream::{BoxStream, SelectAll, unfold};
use serde::Serialize;
use tokio::sync::watch;

use super::recorder::{Viewer, Watched};
use super::timeline::Clocks;
use super::view::{self, View};
use crate::event::Event;
use crate::runtime::{clock, timer};

/// After this time without an event a comment is sent, which finds out whether the reader is still there.
const SILENCE: Duration = Duration::from_secs(15);
const COMMENT: &[u8] = b":\n\n";

/// Pages, once a second. A reader that is slow misses pages, and gets the newest when it reads on.
pub(super) fn pages(viewer: Viewer, view: View) -> impl Stream<Item = Bytes> + Send {
    let samples = viewer.recorder().samples();
    unfold(
        (viewer, view, samples),
        |(viewer, view, mut samples)| async {
            let page = if is_in_time(&mut samples).await {
                page(&viewer, &view)
            } else {
                // The runtime of whoever took samples may have ended.
                viewer.recorder().look();
                Bytes::from_static(COMMENT)
            };
            Some((page, (viewer, view, samples)))
        },
    )
}

async fn is_in_time(samples: &mut watch::Receiver<u64>) -> bool {
    let changed = pin!(samples.changed());
    let Some(silence) = timer::sleep_until(clock::now() + SILENCE) else {
        return changed.await.is_ok();
    };
    matches!(select(changed, silence).await, Either::Left((Ok(()), _)))
}

fn page(viewer: &Viewer, view: &View) -> Bytes {
    let mut page = String::from("event: view\ndata: ");
    let clocks = Clocks {
        now: clock::now(),
        wall: clock::wall(),
    };
    let recorder = viewer.recorder();
    recorder.read(|records| view::write(&mut page, records, view, clocks));
    page.push_str("\n\n");
    page.into()
}

/// One event of one balancer, as programs read it.
#[derive(Serialize)]
struct Told<'a> {
    target: &'a str,
    text: String,
    #[serde(flatten)]
    event: &'a Event,
}

/// Each event of each balancer, from now on.
pub(super) fn events(viewer: Viewer) -> impl Stream<Item = Bytes> + Send {
    let targets = viewer.recorder().targets().iter();
    let events: SelectAll<_> = targets.map(events_of).collect();
    // At once, so that a client knows that it is connected.
    let head = futures_util::stream::iter([Bytes::from_static(COMMENT)]);
    head.chain(unfold((viewer, events), |(viewer, mut events)| async {
        let event = match timer::sleep_until(clock::now() + SILENCE) {
            Some(silence) => match select(events.next(), silence).await {
                Either::Left((event, _)) => event?,
                Either::Right(_) => Bytes::from_static(COMMENT),
            },
            None => events.next().await?,
        };
        Some((event, (viewer, events)))
    }))
}

fn events_of(watched: &Watched) -> BoxStream<'static, Bytes> {
    let name = watched.name.clone();
    let events = watched.control.events();
    let events = events.filter_map(move |event| {
        let told = Told {
            target: &name,
            text: event.to_string(),
            event: &event,
        };
        // JSON has no line feeds.
        let json = serde_json::to_string(&told).ok();
        let message = json.map(|json| format!("event: {}\ndata: {json}\n\n", event.kind()));
        std::future::ready(message.map(Bytes::from))
    });
    events.boxed()
}
