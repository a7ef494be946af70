//! What a guard's clones, its listeners, its connections and its watcher share.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::connection::Live;
use super::journal::Journal;
use super::peers::{AllowList, Allowed};
use super::{BoundaryStatus, Event, Explanation, Status};
use crate::error::discovery::DiscoveryError;
use crate::model::name::Boundary;
use crate::runtime::clock;

pub(super) struct Gate {
    list: ArcSwap<AllowList>,
    /// Held by whoever publishes another list: the number of the next grant.
    next_grant: Mutex<u64>,
    /// Tells the watcher that other boundaries are admitted.
    pub(super) granted: Arc<Notify>,
    /// Tells those that wait for an answer to look again.
    pub(super) published: Notify,
    pub(super) proxies: ArcSwap<Vec<IpAddr>>,
    cuts_off: AtomicBool,
    live: Mutex<HashMap<u64, Arc<Live>>>,
    admitted: AtomicU64,
    refused: AtomicU64,
    headers_refused: AtomicU64,
    cut_offs: AtomicU64,
    pub(super) journal: Journal,
}

impl Gate {
    pub(super) fn new(boundary: Boundary) -> Self {
        let gate = Self {
            list: ArcSwap::default(),
            next_grant: Mutex::new(0),
            granted: Arc::default(),
            published: Notify::new(),
            proxies: ArcSwap::default(),
            cuts_off: AtomicBool::new(false),
            live: Mutex::default(),
            admitted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            headers_refused: AtomicU64::new(0),
            cut_offs: AtomicU64::new(0),
            journal: Journal::new(boundary.clone()),
        };
        gate.allow(boundary);
        gate
    }

    pub(super) fn list(&self) -> Arc<AllowList> {
        self.list.load_full()
    }

    /// Lock-free.
    pub(super) fn admits(&self, ip: IpAddr) -> bool {
        self.list.load().find(ip.to_canonical()).is_some()
    }

    /// Publishes another list.
    pub(super) fn edit<R>(&self, edit: impl FnOnce(&mut Vec<Allowed>, &mut u64) -> R) -> R {
        let mut next_grant = lock(&self.next_grant);
        let mut list = AllowList::clone(&self.list.load());
        let result = edit(&mut list.0, &mut next_grant);
        self.list.store(Arc::new(list));
        drop(next_grant);
        self.published.notify_waiters();
        result
    }

    /// Whether it was not allowed before.
    pub(super) fn allow(&self, boundary: Boundary) -> bool {
        let is_new = self.edit(|list, next_grant| {
            if list.iter().any(|allowed| allowed.boundary == boundary) {
                return false;
            }
            list.push(Allowed {
                boundary,
                grant: *next_grant,
                peers: Arc::default(),
                heard: None,
                is_ended: false,
                error: None,
            });
            *next_grant += 1;
            true
        });
        self.granted.notify_one();
        is_new
    }

    /// Whether it was allowed before.
    pub(super) fn revoke(&self, boundary: &Boundary) -> bool {
        let revoked = self.edit(|list, _| {
            let revoked = list.iter().filter(|allowed| allowed.boundary == *boundary);
            let revoked: Vec<_> = revoked.cloned().collect();
            list.retain(|allowed| allowed.boundary != *boundary);
            AllowList(revoked)
        });
        self.granted.notify_one();
        let was_allowed = !revoked.0.is_empty();
        if was_allowed {
            self.journal.tell(Event::BoundaryRevoked {
                boundary: boundary.clone(),
            });
            self.cut(|live| self.cuts_off() || revoked.find(live.ip()).is_some());
        }
        was_allowed
    }

    pub(super) fn cuts_off(&self) -> bool {
        self.cuts_off.load(SeqCst)
    }

    pub(super) fn cut_off(&self, cut_off: bool) {
        self.cuts_off.store(cut_off, SeqCst);
        self.sweep();
    }

    /// Closes the connections of those that are admitted no longer, if that was asked for.
    pub(super) fn sweep(&self) {
        if self.cuts_off() {
            self.cut(|_| true);
        }
    }

    /// Closes the connections of those of them that are admitted no longer.
    fn cut(&self, of: impl Fn(&Live) -> bool) {
        let list = self.list.load();
        let departed: Vec<_> = lock(&self.live)
            .values()
            .filter(|live| live.is_stranger_to(&list) && of(live))
            .cloned()
            .collect();
        let mut counts = HashMap::<_, usize>::new();
        // With no lock held: wakers are foreign code.
        for live in departed {
            if live.cut() {
                self.cut_offs.fetch_add(1, Relaxed);
                *counts.entry(live.ip()).or_default() += 1;
            }
        }
        let now = clock::now();
        for (ip, connections) in counts {
            self.journal.tell_of_cut_off(ip, connections, now);
        }
    }

    pub(super) fn opened(&self, live: &Arc<Live>) {
        lock(&self.live).insert(live.number(), Arc::clone(live));
    }

    pub(super) fn closed(&self, live: &Live) {
        lock(&self.live).remove(&live.number());
    }

    /// Counts a connection as admitted; the number names it.
    pub(super) fn count_admitted(&self) -> u64 {
        self.admitted.fetch_add(1, Relaxed)
    }

    pub(super) fn refuse(&self, ip: IpAddr) {
        self.refused.fetch_add(1, Relaxed);
        self.journal
            .tell_of_stranger(ip, || self.explain(ip), clock::now());
    }

    pub(super) fn refuse_header(&self, ip: IpAddr, error: super::HeaderError) {
        self.headers_refused.fetch_add(1, Relaxed);
        let event = Event::HeaderRefused { ip, error };
        self.journal.tell_of(ip, event, clock::now());
    }

    pub(super) fn explain(&self, ip: IpAddr) -> Explanation {
        let list = self.list();
        let ip = ip.to_canonical();
        let friend = list.find(ip);
        let (heard, unheard): (Vec<_>, Vec<_>) =
            list.0.iter().partition(|allowed| allowed.heard.is_some());
        let names = |list: Vec<&Allowed>| list.iter().map(|a| a.boundary.clone()).collect();
        let oldest = list.0.iter().filter_map(|allowed| allowed.heard).min();
        let errors = list.0.iter().filter_map(|allowed| {
            let error = allowed.error.as_ref()?;
            Some((allowed.boundary.clone(), error.with_causes()))
        });
        Explanation {
            ip,
            friend: friend.map(|(boundary, id)| (boundary.clone(), id.clone())),
            errors: errors.collect(),
            age: oldest.map(|heard| clock::now().saturating_duration_since(heard)),
            heard: names(heard),
            unheard: names(unheard),
        }
    }

    pub(super) fn status(&self) -> Status {
        let now = clock::now();
        let list = self.list();
        let boundaries = list.0.iter().map(|allowed| BoundaryStatus {
            boundary: allowed.boundary.clone(),
            addresses: allowed.peers.len(),
            set_age: allowed
                .heard
                .map(|heard| now.saturating_duration_since(heard)),
            discovery_error: allowed.error.as_ref().map(DiscoveryError::with_causes),
        });
        Status {
            boundaries: boundaries.collect(),
            open: lock(&self.live).len(),
            admitted: self.admitted.load(Relaxed),
            refused: self.refused.load(Relaxed),
            headers_refused: self.headers_refused.load(Relaxed),
            cut_off: self.cut_offs.load(Relaxed),
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No foreign code runs under these locks, so what is poisoned is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
