//! The one thread of a [`File`](super::File) that touches the disk.

use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{self, Sleep};

use super::claim::{Holder, Refused};
use super::edits::Edits;
use super::eyes::Eyes;
use super::fault::Fault;
use super::folder::Folder;
use super::hub::{Hub, State};
use super::lease::Posted;
use super::posts::{Key, Posts};
use super::roles::Roles;
use super::stamp::Stamp;
use crate::discovery::{Announcement, Registry};
use crate::error::discovery::{DiscoveryError, RegisterError};
use crate::runtime::clock;

pub(super) type Reply<T> = oneshot::Sender<Result<T, RegisterError>>;
pub(super) type Edit = Box<dyn FnOnce(&mut Announcement) -> Result<(), RegisterError> + Send>;

pub(super) enum Command {
    /// Somebody began to watch.
    Watched,
    /// Something in the folder changed.
    Changed,
    /// By whom a name is held, and looks as it did when it was found to be dead, does not count.
    Announce(
        Arc<Hub>,
        Box<Announcement>,
        Option<Stamp>,
        Reply<Result<Posted, Holder>>,
    ),
    Change(Key, Edit, Reply<()>),
    Withdraw(Key, Option<Reply<()>>),
}

pub(super) enum Source {
    Folder(Folder, Posts),
    Roles(Roles),
}

pub(super) struct Keeper {
    source: Source,
    /// The folder, or the one that the file is in.
    folder: PathBuf,
    eyes: Eyes,
    registry: Registry,
    state: Arc<watch::Sender<State>>,
    fault: Option<Fault>,
    told: mpsc::WeakUnboundedSender<Command>,
    /// A change was told of and not yet looked at.
    changed: Arc<AtomicBool>,
    /// Ends when changes have had time to come together.
    settled: Option<Timer>,
}

type Timer = Pin<Box<Sleep>>;

enum Woken {
    Command(Command),
    Beat,
    Due,
    Settled,
    Ended,
}

/// How often a role environment is looked at that nobody tells of.
const POLL: Duration = Duration::from_secs(1);
/// Many changes come together, as when a file is written and then renamed.
const SETTLE: Duration = Duration::from_millis(10);
/// So much longer for each file of the folder, so that a busy one is not looked at all the time.
const SETTLE_EACH: Duration = Duration::from_micros(20);
/// Between two pieces of work that are always due, for commands.
const BREATH: Duration = Duration::from_millis(2);

impl Keeper {
    pub(super) fn new(
        source: Source,
        path: &Path,
        registry: Registry,
        state: Arc<watch::Sender<State>>,
        told: mpsc::WeakUnboundedSender<Command>,
    ) -> Self {
        let folder = match (&source, path.parent()) {
            (Source::Folder(..), _) => path,
            (Source::Roles(_), Some(parent)) if parent != Path::new("") => parent,
            (Source::Roles(_), _) => Path::new("."),
        };
        Self {
            folder: folder.to_owned(),
            source,
            eyes: Eyes::default(),
            registry,
            state,
            fault: None,
            told,
            changed: Arc::default(),
            settled: None,
        }
    }

    /// Until the last handle is gone.
    pub(super) async fn run(
        mut self,
        beats_apart: Duration,
        mut commands: mpsc::UnboundedReceiver<Command>,
    ) {
        let mut beat = Box::pin(time::sleep(beats_apart));
        let mut due = Box::pin(time::sleep(Duration::ZERO));
        loop {
            match self.woken(&mut beat, &mut due, &mut commands).await {
                Woken::Command(command) => {
                    if !self.obey(command) {
                        continue;
                    }
                }
                Woken::Settled => {
                    self.settled = None;
                    if self.watched() {
                        self.look();
                    }
                }
                Woken::Beat => {
                    let began = clock::now();
                    if let Source::Folder(_, posts) = &mut self.source {
                        posts.beat();
                    }
                    let took = clock::now().saturating_duration_since(began);
                    let rest = beats_apart.saturating_sub(took).max(beats_apart / 4);
                    beat = Box::pin(time::sleep(rest));
                    continue;
                }
                Woken::Due if self.watched() => self.look(),
                Woken::Due => self.rest(),
                Woken::Ended => return,
            }
            let rest = match &self.source {
                Source::Folder(folder, _) => folder.rest(),
                Source::Roles(_) => POLL,
            };
            due = Box::pin(time::sleep(rest.max(BREATH)));
        }
    }

    async fn woken(
        &mut self,
        beat: &mut Timer,
        due: &mut Timer,
        commands: &mut mpsc::UnboundedReceiver<Command>,
    ) -> Woken {
        poll_fn(|cx| {
            // Beats come first: a folder that never rests must not let ours expire.
            if beat.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Woken::Beat);
            }
            if due.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Woken::Due);
            }
            if let Some(settled) = &mut self.settled
                && settled.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Woken::Settled);
            }
            match commands.poll_recv(cx) {
                Poll::Ready(Some(command)) => Poll::Ready(Woken::Command(command)),
                Poll::Ready(None) => Poll::Ready(Woken::Ended),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    fn watched(&self) -> bool {
        self.state.receiver_count() > 0
    }

    /// Whether that took a look.
    fn obey(&mut self, command: Command) -> bool {
        match command {
            Command::Watched => {
                // A change while nobody watched was told of, and not looked at.
                if !self.state.borrow().looked || self.changed.load(Ordering::Acquire) {
                    self.look();
                    return true;
                }
            }
            Command::Changed => {
                if self.settled.is_none() {
                    let files = match &self.source {
                        Source::Folder(folder, _) => folder.len(),
                        Source::Roles(_) => 0,
                    };
                    let files = u32::try_from(files).unwrap_or(u32::MAX);
                    let settle = SETTLE + SETTLE_EACH.saturating_mul(files);
                    self.settled = Some(Box::pin(time::sleep(settle)));
                }
            }
            Command::Announce(hub, announced, dead, reply) => {
                let Source::Folder(_, posts) = &mut self.source else {
                    let _ = reply.send(Err(RegisterError::backend(
                        "registering",
                        "a role environment takes no registrations",
                    )));
                    return false;
                };
                let id = announced.id().clone();
                // If nobody waits for it any more, the handle deregisters as it is dropped.
                let _ = reply.send(match posts.announce(*announced, dead) {
                    Ok(key) => Ok(Ok(Posted::new(hub, key, id))),
                    Err(Refused::Held(holder)) => Ok(Err(holder)),
                    Err(Refused::Failed(error)) => Err(error),
                });
            }
            Command::Change(key, edit, reply) => {
                if let Source::Folder(_, posts) = &mut self.source {
                    let _ = reply.send(posts.change(key, edit));
                }
            }
            Command::Withdraw(key, reply) => {
                if let Source::Folder(_, posts) = &mut self.source {
                    let withdrawn = posts.withdraw(key);
                    if let Some(reply) = reply {
                        let _ = reply.send(withdrawn);
                    }
                }
            }
        }
        false
    }

    fn look(&mut self) {
        let beats = matches!(self.source, Source::Folder(..));
        let (told, changed) = (self.told.clone(), self.changed.clone());
        self.eyes.on(&self.folder, beats, move || {
            if !changed.swap(true, Ordering::AcqRel)
                && let Some(told) = told.upgrade()
            {
                let _ = told.send(Command::Changed);
            }
        });
        // Before looking, so that a change during the look is told again.
        self.changed.store(false, Ordering::Release);
        let mut edits = Edits::default();
        let looked = match &mut self.source {
            Source::Folder(folder, _) => folder.look(&mut edits),
            Source::Roles(roles) => roles.look(clock::now(), &mut edits),
        };
        edits.apply(&self.registry);
        let (readable, fault) = match looked {
            Ok(fault) => (true, fault),
            Err(fault) => (false, Some(fault)),
        };
        let news = fault != self.fault;
        if news && let Some(fault) = &fault {
            tracing::debug!(%fault, "discovery by file");
        }
        self.fault.clone_from(&fault);
        let unmade = match &self.source {
            Source::Folder(folder, _) => !readable && folder.is_unmade(),
            Source::Roles(_) => false,
        };
        self.state.send_if_modified(|state| {
            let first = !state.looked || (readable && !state.readable);
            state.looked = true;
            state.readable |= readable;
            state.unmade = unmade;
            if news {
                state.serial += 1;
                state.fault = fault.map(|fault| DiscoveryError::backend("reading files", fault));
            }
            first || news
        });
    }

    /// Nobody watches: nothing is looked at, so nothing is known.
    fn rest(&mut self) {
        let before = self.state.borrow().clone();
        if !before.looked {
            return;
        }
        // Whoever comes from now on waits for a look.
        self.state.send_modify(|state| {
            state.looked = false;
            state.readable = false;
            state.unmade = false;
            state.fault = None;
        });
        if self.watched() {
            // Who came just before reads already, and must not find everybody gone.
            self.state.send_replace(before);
            self.look();
            return;
        }
        self.eyes.close();
        let mut edits = Edits::default();
        match &mut self.source {
            Source::Folder(folder, _) => folder.forget(&mut edits),
            Source::Roles(roles) => roles.forget(&mut edits),
        }
        edits.apply(&self.registry);
        self.fault = None;
    }
}
