//! The state that clones of a guard, its listeners, connections and watcher share.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::event::GuardEvent;
use super::explanation::{GuardExplanation, Reason};
use super::journal::Journal;
use super::live::{Live, Origin};
use super::networks::Networks;
use super::peer::Peer;
use super::peers::{AllowList, Allowed};
use super::proxy::HeaderError;
use super::status::{BoundaryStatus, GuardStatus};
use crate::error::discovery::DiscoveryError;
use crate::model::name::Boundary;
use crate::runtime::clock;

pub(super) struct Gate {
    list: ArcSwap<AllowList>,
    /// The number of the next grant. Locked while a list is published.
    next_grant: Mutex<u64>,
    /// Notifies the watcher when the admitted boundaries change.
    pub(super) granted: Arc<Notify>,
    /// Notifies those who wait for the first answer of discovery.
    pub(super) published: Notify,
    pub(super) proxies: ArcSwap<Vec<IpAddr>>,
    cuts_off: AtomicBool,
    /// Networks that are admitted without asking discovery.
    pub(super) networks: Option<Networks>,
    /// User ids admitted over Unix sockets, besides the own effective one.
    pub(super) uids: Vec<u32>,
    live: Mutex<HashMap<u64, Arc<Live>>>,
    /// Notifies those who wait until no connection is open.
    emptied: Notify,
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
            networks: None,
            uids: Vec::new(),
            live: Mutex::default(),
            emptied: Notify::new(),
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

    /// Takes no lock.
    pub(super) fn admits(&self, ip: IpAddr) -> bool {
        self.admits_by(&self.list.load(), ip.to_canonical())
    }

    fn admits_by(&self, list: &AllowList, ip: IpAddr) -> bool {
        self.networks
            .as_ref()
            .is_some_and(|networks| networks.contains(ip))
            || list.find(ip).is_some()
    }

    pub(super) fn admits_uid(&self, uid: u32) -> bool {
        uid == effective_uid() || self.uids.contains(&uid)
    }

    /// The guard's side of a new connection; `None` if it is denied.
    pub(super) fn admit(&self, peer: Peer, origin: Origin) -> Option<Arc<Live>> {
        let is_admitted = || {
            origin == Origin::Proxy
                || match peer {
                    Peer::Tcp(addr) => self.admits(addr.ip()),
                    Peer::Uid(uid) => self.admits_uid(uid),
                }
        };
        if !is_admitted() {
            self.refuse(peer);
            return None;
        }
        let number = self.admitted.fetch_add(1, Relaxed);
        let live = Arc::new(Live::new(peer, origin, number));
        lock(&self.live).insert(number, Arc::clone(&live));
        // It may have left, or its boundary may have been revoked, before it was among those that are cut off for that.
        if !is_admitted() {
            live.cut();
        }
        Some(live)
    }

    pub(super) fn trust_proxy(&self, ip: IpAddr) {
        let ip = ip.to_canonical();
        self.proxies.rcu(|proxies| {
            let others = proxies.iter().filter(|other| **other != ip);
            others.copied().chain([ip]).collect::<Vec<_>>()
        });
    }

    /// Publishes a list.
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
                synced: None,
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
            self.journal.tell(GuardEvent::BoundaryRevoked {
                boundary: boundary.clone(),
            });
            self.cut(|ip| self.cuts_off() || revoked.find(ip).is_some());
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

    /// Closes connections of peers that are not admitted any more, if `cut_off` is on.
    pub(super) fn sweep(&self) {
        if self.cuts_off() {
            self.cut(|_| true);
        }
    }

    /// Closes connections of these peers if they are not admitted any more.
    fn cut(&self, of: impl Fn(IpAddr) -> bool) {
        let list = self.list.load();
        let departed: Vec<_> = lock(&self.live)
            .values()
            .filter_map(|live| Some((live.admitted_ip()?, live)))
            .filter(|(ip, _)| !self.admits_by(&list, *ip) && of(*ip))
            .map(|(ip, live)| (ip, Arc::clone(live)))
            .collect();
        let mut counts = HashMap::<_, usize>::new();
        // With no lock held: wakers are foreign code.
        for (ip, live) in departed {
            if live.cut() {
                self.cut_offs.fetch_add(1, Relaxed);
                *counts.entry(ip).or_default() += 1;
            }
        }
        let now = clock::now();
        for (ip, connections) in counts {
            self.journal.tell_of_cut_off(ip, connections, now);
        }
    }

    pub(super) fn closed(&self, live: &Live) {
        let mut open = lock(&self.live);
        let closed = open.remove(&live.number());
        let is_empty = open.is_empty();
        drop(open);
        drop(closed);
        if is_empty {
            self.emptied.notify_waiters();
        }
    }

    /// Waits until no connection is open.
    pub(super) async fn idle(&self) {
        loop {
            let mut emptied = std::pin::pin!(self.emptied.notified());
            emptied.as_mut().enable();
            if lock(&self.live).is_empty() {
                return;
            }
            emptied.await;
        }
    }

    fn refuse(&self, peer: Peer) {
        self.refused.fetch_add(1, Relaxed);
        let now = clock::now();
        match peer {
            Peer::Tcp(addr) => {
                let ip = addr.ip().to_canonical();
                self.journal.tell_of_denied(ip, || self.explain(ip), now);
            }
            Peer::Uid(uid) => self.journal.tell_of_uid(uid, now),
        }
    }

    pub(super) fn refuse_header(&self, ip: IpAddr, error: HeaderError) {
        self.headers_refused.fetch_add(1, Relaxed);
        let event = GuardEvent::HeaderRefused { ip, error };
        self.journal.tell_of(ip, event, clock::now());
    }

    pub(super) fn explain(&self, ip: IpAddr) -> GuardExplanation {
        let list = self.list();
        let ip = ip.to_canonical();
        let networks = self.networks.as_ref();
        let reason = match (
            list.find(ip),
            networks.filter(|networks| networks.contains(ip)),
        ) {
            (Some((boundary, id)), _) => Reason::Instance(boundary.clone(), id.clone()),
            (None, Some(networks)) => Reason::Networks(networks.clone()),
            (None, None) => Reason::Denied,
        };
        let (synced, waiting): (Vec<_>, Vec<_>) =
            list.0.iter().partition(|allowed| allowed.synced.is_some());
        let names = |list: Vec<&Allowed>| list.iter().map(|a| a.boundary.clone()).collect();
        let oldest = list.0.iter().filter_map(|allowed| allowed.synced).min();
        let errors = list.0.iter().filter_map(|allowed| {
            let error = allowed.error.as_ref()?;
            Some((allowed.boundary.clone(), error.with_causes()))
        });
        GuardExplanation {
            ip,
            reason,
            errors: errors.collect(),
            age: oldest.map(|synced| clock::now().saturating_duration_since(synced)),
            synced: names(synced),
            waiting: names(waiting),
        }
    }

    pub(super) fn status(&self) -> GuardStatus {
        let now = clock::now();
        let list = self.list();
        let boundaries = list.0.iter().map(|allowed| BoundaryStatus {
            boundary: allowed.boundary.clone(),
            addresses: allowed.peers.len(),
            set_age: allowed
                .synced
                .map(|synced| now.saturating_duration_since(synced)),
            discovery_error: allowed.error.as_ref().map(DiscoveryError::with_causes),
        });
        GuardStatus {
            boundaries: boundaries.collect(),
            open: lock(&self.live).len(),
            admitted: self.admitted.load(Relaxed),
            refused: self.refused.load(Relaxed),
            headers_refused: self.headers_refused.load(Relaxed),
            cut_off: self.cut_offs.load(Relaxed),
        }
    }
}

#[cfg(unix)]
fn effective_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// There are no Unix sockets on this platform.
#[cfg(not(unix))]
fn effective_uid() -> u32 {
    u32::MAX
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No foreign code runs under these locks, so what is poisoned is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
