//! What all watches and leases of a [`File`](super::File) share while there are any.

use std::future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use tokio::runtime;
use tokio::sync::{mpsc, watch};

use super::awake::Awake;
use super::folder::Folder;
use super::keeper::{Command, Keeper, Source};
use super::posts::Posts;
use super::roles::Roles;
use crate::discovery::{BoxStream, Registry};
use crate::error::discovery::DiscoveryError;
use crate::model::instance::InstanceSet;
use crate::runtime::clock;

/// The thread ends when the last of them lets go of this.
pub(super) struct Hub {
    pub(super) commands: mpsc::UnboundedSender<Command>,
    state: Arc<watch::Sender<State>>,
    /// What the files say.
    registry: Registry,
}

/// How the files stand, besides what they say.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) looked: bool,
    /// There was a good answer, which stays.
    pub(super) readable: bool,
    /// It is a folder that nobody made yet.
    pub(super) unmade: bool,
    pub(super) fault: Option<DiscoveryError>,
    pub(super) serial: u64,
}

type Answer = Result<InstanceSet, DiscoveryError>;

enum Said {
    /// Of the registry.
    News(Answer),
    Fault(DiscoveryError),
    /// The fault is over, and this holds: perhaps what held before, which a watch of the registry does not repeat.
    Well(Answer),
}

/// Whether a watcher knows how the files stand.
#[derive(Default)]
struct Health {
    is_ill: bool,
    /// What it was told when the fault was over; news of it are none.
    well: Option<InstanceSet>,
}

impl Health {
    fn pass(&mut self, said: Said) -> Option<Answer> {
        match said {
            Said::Fault(fault) => {
                self.is_ill = true;
                Some(Err(fault))
            }
            Said::News(Ok(set)) => {
                self.is_ill = false;
                (self.well.take().as_ref() != Some(&set)).then_some(Ok(set))
            }
            Said::News(Err(error)) => Some(Err(error)),
            Said::Well(answer) => {
                let answer = std::mem::take(&mut self.is_ill).then_some(answer)?;
                self.well = answer.as_ref().ok().cloned();
                Some(answer)
            }
        }
    }
}

impl Hub {
    pub(super) fn start(path: &Path, is_folder: bool, lease: Duration) -> io::Result<Arc<Self>> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let (hub, keeping) = Self::new(path, is_folder, lease);
        thread::Builder::new()
            .name("rolecall-file".to_owned())
            .spawn(move || runtime.block_on(keeping))?;
        Ok(hub)
    }

    /// And what its thread does.
    pub(super) fn new(
        path: &Path,
        is_folder: bool,
        lease: Duration,
    ) -> (Arc<Self>, impl Future<Output = ()> + Send + use<>) {
        let source = if is_folder {
            let folder = Folder::new(path.to_owned(), lease, Awake::new(clock::now));
            Source::Folder(folder, Posts::new(path.to_owned(), lease))
        } else {
            Source::Roles(Roles::new(path.to_owned()))
        };
        let (commands, obeyed) = mpsc::unbounded_channel();
        let state = Arc::new(watch::Sender::new(State::default()));
        let registry = Registry::new();
        let told = commands.downgrade();
        let keeper = Keeper::new(source, path, registry.clone(), state.clone(), told);
        let hub = Self {
            commands,
            state,
            registry,
        };
        (Arc::new(hub), keeper.run(lease / 5, obeyed))
    }

    /// What a discovery by registry answers, once the files were read, and faults as they come. Who `lists_all` hears of a
    /// folder that nobody made yet that nobody is there, so that the first to come need not wait for a second.
    pub(super) fn follow(
        self: Arc<Self>,
        lists_all: bool,
        watch: impl Fn(&Registry) -> BoxStream<'static, Answer> + Send + 'static,
    ) -> impl Stream<Item = Answer> + Send {
        let state = self.state.subscribe();
        let mut read = state.clone();
        // The thread ends after this, so it hears of it.
        let _ = self.commands.send(Command::Watched);
        let sets = watch(&self.registry);
        let sets = stream::once(async move {
            let is_known = |state: &State| state.readable || (lists_all && state.unmade);
            let _ = read.wait_for(is_known).await;
            sets.map(move |answer| match answer {
                // Whoever saw it before this thread began has to doubt that: it may as well be gone.
                Ok(set) if !read.borrow().readable => Ok(set.unconfirmed()),
                answer => answer,
            })
        })
        .flatten();
        let ill = (state, watch, 0, self);
        let faults = stream::unfold(ill, |(mut state, watch, told, hub)| async move {
            loop {
                let (serial, fault) = {
                    let now = state.borrow_and_update();
                    (now.serial, now.fault.clone())
                };
                match fault {
                    Some(fault) if serial != told => {
                        return Some((Said::Fault(fault), (state, watch, serial, hub)));
                    }
                    None if told != 0 => {
                        let well = watch(&hub.registry).next().await?;
                        return Some((Said::Well(well), (state, watch, 0, hub)));
                    }
                    _ => state.changed().await.ok()?,
                }
            }
        });
        let mut health = Health::default();
        let said = stream::select(sets.map(Said::News), faults);
        said.filter_map(move |said| future::ready(health.pass(said)))
    }
}
