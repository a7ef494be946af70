use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Release};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::futures::OwnedNotified;
use tokio::sync::oneshot;

use super::event::GuardEvent;
use super::gate::Gate;
use super::peers::Peers;
use crate::balance::watch::Watch;
use crate::discovery::Discovery;
use crate::error::discovery::DiscoveryError;
use crate::fleet::is_doubtful;
use crate::model::instance::InstanceSet;
use crate::model::name::Boundary;
use crate::runtime::timer::Timer;
use crate::runtime::{clock, timer};

/// Answers of discovery taken in one go; a source that is always ready must not starve the others.
const ANSWERS_AT_ONCE: usize = 64;

/// How long an answer is doubted that would take away most peers and is not confirmed, such as that of a file caught half
/// written: as long as a balancer does by default. What it adds is admitted at once.
const GRACE: Duration = Duration::from_secs(30);

/// Follows the peers of every admitted boundary. One task for each guard; it ends with the guard's last clone, listener
/// and connection.
pub(super) struct Watcher {
    gate: Arc<Gate>,
    discovery: Arc<dyn Discovery>,
    /// A watch of the guard's own boundary, the first that is admitted.
    opened: Option<Watch>,
    followed: Vec<Followed>,
    /// Ready when other boundaries are admitted.
    granted: Pin<Box<OwnedNotified>>,
    ended: oneshot::Receiver<()>,
    is_watched: Arc<AtomicBool>,
}

/// One boundary, by its grant.
struct Followed {
    boundary: Boundary,
    grant: u64,
    /// `None` once discovery has no more of it.
    news: Option<Watch>,
    doubt: Option<Doubt>,
    /// Whether its peers are those of a provisional set: no set is doubted by comparison with them.
    is_provisional: bool,
}

/// An answer that is not believed yet, and until when.
struct Doubt {
    set: InstanceSet,
    over: Pin<Box<Timer>>,
}

impl Watcher {
    pub(super) fn new(
        gate: Arc<Gate>,
        discovery: Arc<dyn Discovery>,
        opened: Option<Watch>,
        ended: oneshot::Receiver<()>,
        is_watched: Arc<AtomicBool>,
    ) -> Self {
        // Whoever watched before may have followed them all.
        gate.granted.notify_one();
        let granted = Box::pin(Arc::clone(&gate.granted).notified_owned());
        Self {
            gate,
            discovery,
            opened,
            followed: Vec::new(),
            granted,
            ended,
            is_watched,
        }
    }

    /// Begins to follow what is admitted, and ends to follow what is not.
    fn regrant(&mut self) {
        let list = self.gate.list();
        let grants = || list.0.iter();
        self.followed
            .retain(|followed| grants().any(|allowed| allowed.grant == followed.grant));
        for allowed in grants() {
            if self.followed.iter().all(|f| f.grant != allowed.grant) {
                let opened = self.opened.take();
                self.followed.push(Followed {
                    boundary: allowed.boundary.clone(),
                    grant: allowed.grant,
                    news: opened.or_else(|| {
                        (!allowed.is_ended)
                            .then(|| Watch::open(|| self.discovery.peers(&allowed.boundary)))
                    }),
                    doubt: None,
                    is_provisional: false,
                });
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.is_watched.store(false, Release);
    }
}

impl Future for Watcher {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if Pin::new(&mut this.ended).poll(cx).is_ready() {
            return Poll::Ready(());
        }
        while this.granted.as_mut().poll(cx).is_ready() {
            this.granted = Box::pin(Arc::clone(&this.gate.granted).notified_owned());
            this.regrant();
        }
        let mut is_more = false;
        for followed in &mut this.followed {
            is_more |= followed.poll(&this.gate, cx);
        }
        if is_more {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Followed {
    /// Takes what discovery has to say; only the newest set counts. Whether there may be more of it at once.
    fn poll(&mut self, gate: &Gate, cx: &mut Context<'_>) -> bool {
        let mut newest = None;
        let mut is_more = true;
        for _ in 0..ANSWERS_AT_ONCE {
            let answer = self.news.as_mut().map(|news| news.poll(cx));
            match answer {
                Some(Poll::Ready(Some(Ok(set)))) => newest = Some(set),
                Some(Poll::Ready(Some(Err(error)))) => {
                    // The set that came before it is older news.
                    if let Some(set) = newest.take() {
                        self.judge(gate, set);
                    }
                    self.report(gate, error);
                }
                Some(Poll::Ready(None)) => {
                    self.news = None;
                    gate.edit(|list, _| {
                        let allowed = list.iter_mut().find(|a| a.grant == self.grant);
                        allowed.map(|allowed| allowed.is_ended = true)
                    });
                    let boundary = self.boundary.clone();
                    gate.journal.tell(GuardEvent::DiscoveryEnded { boundary });
                }
                Some(Poll::Pending) | None => {
                    is_more = false;
                    break;
                }
            }
        }
        if let Some(set) = newest {
            self.judge(gate, set);
        }
        let is_over = |doubt: &mut Doubt| doubt.over.as_mut().poll(cx).is_ready();
        if self.doubt.as_mut().is_some_and(is_over)
            && let Some(doubt) = self.doubt.take()
        {
            self.is_provisional = doubt.set.provisional_age().is_some();
            self.believe(gate, Peers::of(&doubt.set));
        }
        is_more
    }

    /// Believes an answer, or admits what it adds and waits.
    fn judge(&mut self, gate: &Gate, set: InstanceSet) {
        let peers = Peers::of(&set);
        let list = gate.list();
        let Some(known) = list.0.iter().find(|a| a.grant == self.grant) else {
            return;
        };
        let gone = || known.peers.missing_in(&peers);
        let earlier = self.doubt.take().map(|doubt| doubt.over);
        let size = if self.is_provisional {
            0
        } else {
            known.peers.len()
        };
        let over = is_doubtful(&set, size, gone)
            .then(|| earlier.or_else(|| timer::sleep_until(clock::now() + GRACE)))
            .flatten();
        let Some(over) = over else {
            self.is_provisional = set.provisional_age().is_some();
            return self.believe(gate, peers);
        };
        self.believe(gate, peers.and(&known.peers));
        self.doubt = Some(Doubt { set, over });
    }

    fn believe(&self, gate: &Gate, peers: Peers) {
        let peers = Arc::new(peers);
        let now = clock::now();
        let replaced = gate.edit(|list, _| {
            let allowed = list.iter_mut().find(|a| a.grant == self.grant)?;
            allowed.synced = Some(now);
            allowed.error = None;
            Some(std::mem::replace(&mut allowed.peers, Arc::clone(&peers)))
        });
        // Revoked meanwhile, it is no news.
        let Some(before) = replaced else { return };
        let added = peers.missing_in(&before);
        let removed = before.missing_in(&peers);
        if removed > 0 {
            gate.sweep();
        }
        if added + removed > 0 {
            let event = GuardEvent::PeersChanged {
                boundary: self.boundary.clone(),
                added,
                removed,
                known: peers.len(),
            };
            gate.journal.tell_of_change(event, now);
        }
    }

    fn report(&self, gate: &Gate, error: DiscoveryError) {
        let text = error.with_causes();
        let list = gate.list();
        let known = list.0.iter().find(|a| a.grant == self.grant);
        let is_told = |told: &DiscoveryError| told.with_causes() == text;
        // A backend that says the same whenever it is asked is told of once.
        if known.is_none_or(|known| known.error.as_ref().is_some_and(is_told)) {
            return;
        }
        gate.edit(|list, _| {
            if let Some(allowed) = list.iter_mut().find(|a| a.grant == self.grant) {
                allowed.error = Some(error.clone());
            }
        });
        let boundary = self.boundary.clone();
        gate.journal.tell_of_error(boundary, error, clock::now());
    }
}
