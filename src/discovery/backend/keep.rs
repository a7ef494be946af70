use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::watch as signal;
use tokio::time;

use super::backoff::{Backoff, Pauses};
use super::task::{Task, User, Users};
use crate::discovery::BoxFuture;
use crate::discovery::announcement::Announcement;
use crate::discovery::lease::{Lease, LeaseEdit, LeaseHandle, LeaseState, LeaseStates};
use crate::error::discovery::RegisterError;
use crate::model::instance::InstanceId;
use crate::runtime::{clock, timer};

/// What a registrar writes for one instance; [`keep`] does the rest.
///
/// Calls never overlap. A future may be dropped before it is done, and is if it takes too long; after that `put` is called
/// again, or `withdraw`. [`keep`] gives `put` and `withdraw` the time of one renewal to the next, within 5 to 30 s, and 30 s
/// where that is zero. A renewal has twice that time, which is what is left of a time to live of three; where it is
/// zero, renewals have no limit. Dropping the publisher withdraws best-effort, without blocking.
pub trait Publish: Send + 'static {
    /// Announces the instance, or what it has changed to. Called again with the same announcement it changes nothing.
    ///
    /// It creates a session, or a lease of the server's, where there is none or it was lost.
    fn put(
        &mut self,
        announcement: &Announcement,
    ) -> impl Future<Output = Result<(), RegisterError>> + Send;

    /// Renews the announcement; an error says that it is lost.
    ///
    /// Where the backend says by itself that something is lost, it waits for that, and [`every`](Self::every) is zero.
    fn renew(&mut self) -> impl Future<Output = Result<(), RegisterError>> + Send;

    /// The time from one renewal to the next: a third of the server's time to live, say. It also bounds the pauses between
    /// attempts to announce again.
    fn every(&self) -> Duration;

    /// Ends the announcement; nothing happens if there is none.
    fn withdraw(&mut self) -> impl Future<Output = Result<(), RegisterError>> + Send;
}

/// Announces an instance, and keeps it announced while the lease lives.
///
/// One task edits, renews, and announces again with backoff what was lost. Edits that come together are written once.
/// An edit that fails is tried again, like everything else that is wanted: after 200 ms, then after pauses that double up to
/// 10 s, but never longer than the time from one renewal to the next. The lease tells its
/// [state](Lease::state). When it is dropped, the announcement is withdrawn, for which the backend has 5 s.
///
/// # Errors
///
/// That of the first [`put`](Publish::put), also if it does not end in time.
///
/// # Cancellation
///
/// Dropping the future drops the publisher.
///
/// # Examples
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use std::time::Duration;
/// use rolecall::Registration;
/// use rolecall::discovery::backend::{Publish, keep};
/// use rolecall::discovery::{Announcement, RegisterError};
///
/// /// A row in some table.
/// struct Row(Arc<Mutex<Option<Announcement>>>);
///
/// impl Publish for Row {
///     async fn put(&mut self, announcement: &Announcement) -> Result<(), RegisterError> {
///         *self.0.lock().expect("no panic") = Some(announcement.clone());
///         Ok(())
///     }
///     async fn renew(&mut self) -> Result<(), RegisterError> {
///         Ok(())
///     }
///     fn every(&self) -> Duration {
///         Duration::from_secs(3)
///     }
///     async fn withdraw(&mut self) -> Result<(), RegisterError> {
///         *self.0.lock().expect("no panic") = None;
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let row = Arc::default();
/// let worker = Registration::new("worker").endpoint("http", ([10, 0, 0, 7], 80));
/// let lease = keep(Row(Arc::clone(&row)), worker.validate()?).await?;
/// assert!(row.lock().expect("no panic").is_some());
/// lease.deregister().await?;
/// assert!(row.lock().expect("no panic").is_none());
/// # Ok(())
/// # }
/// ```
pub async fn keep(
    mut publish: impl Publish,
    announcement: Announcement,
) -> Result<Lease, RegisterError> {
    put(&mut publish, &announcement).await?;
    let id = announcement.id().clone();
    let kept = Arc::new(Kept {
        wanted: Mutex::new(Wanted {
            announcement,
            edits: 0,
            is_over: false,
        }),
        asked: signal::Sender::default(),
        done: signal::Sender::default(),
        states: LeaseStates::announced(),
    });
    let publish = Arc::new(tokio::sync::Mutex::new((publish, 0_u64)));
    let worked = Arc::clone(&kept);
    let task = Task::new(move |users| {
        let (kept, publish) = (Arc::clone(&worked), Arc::clone(&publish));
        async move {
            // Of a task whose runtime ended in the midst of something, nobody knows what it has done.
            let (publish, runs) = &mut *publish.lock().await;
            *runs += 1;
            kept.run(publish, *runs > 1, users).await;
        }
    });
    let user = task.user();
    user.start();
    let states = &kept.states;
    let handle = KeptLease {
        id,
        kept: Arc::clone(&kept),
        user,
        task,
    };
    Ok(Lease::with_states(handle, states))
}

/// For withdrawing what nobody waits for.
const WITHDRAWAL: Duration = Duration::from_secs(5);
/// For one call of a publisher.
const SHORTEST_LIMIT: Duration = Duration::from_secs(5);
const LONGEST_LIMIT: Duration = Duration::from_secs(30);
/// Between attempts to announce again.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Renewals are that far apart at least.
const SHORTEST_RENEWAL: Duration = Duration::from_millis(100);

/// What the lease and its task share.
struct Kept {
    wanted: Mutex<Wanted>,
    /// Rings when something else is wanted.
    asked: signal::Sender<()>,
    done: signal::Sender<Done>,
    states: LeaseStates,
}

struct Wanted {
    announcement: Announcement,
    /// How many edits it has.
    edits: u64,
    is_over: bool,
}

#[derive(Default)]
struct Done {
    /// How many edits were tried, and with which outcome.
    tried: u64,
    failed: Option<RegisterError>,
    withdrawn: Option<Result<(), RegisterError>>,
}

/// The time for one call: a server that answers later than an announcement lives is of no use.
fn limit(publish: &impl Publish) -> Duration {
    match publish.every() {
        Duration::ZERO => LONGEST_LIMIT,
        every => every.clamp(SHORTEST_LIMIT, LONGEST_LIMIT),
    }
}

async fn limited(
    limit: Duration,
    doing: &'static str,
    call: impl Future<Output = Result<(), RegisterError>>,
) -> Result<(), RegisterError> {
    // Without timers there is no limit, but there is a registration.
    let Some(late) = timer::sleep_until(clock::now() + limit) else {
        return call.await;
    };
    match select(pin!(call), late).await {
        Either::Left((done, _)) => done,
        Either::Right(_) => {
            let cause = format!("no answer for {limit:?}");
            Err(RegisterError::backend(doing, cause))
        }
    }
}

async fn put(publish: &mut impl Publish, announcement: &Announcement) -> Result<(), RegisterError> {
    let limit = limit(publish);
    limited(limit, "announcing", publish.put(announcement)).await
}

async fn renew(publish: &mut impl Publish) -> Result<(), RegisterError> {
    match publish.every() {
        Duration::ZERO => publish.renew().await,
        every => {
            let limit = every.max(SHORTEST_RENEWAL).saturating_mul(2);
            limited(limit, "renewing", publish.renew()).await
        }
    }
}

/// The pauses between attempts to announce again: shorter than the announcement would live.
fn pauses(publish: &impl Publish) -> Pauses {
    let most = match publish.every() {
        Duration::ZERO => LONGEST_PAUSE,
        every => every.min(LONGEST_PAUSE),
    };
    Backoff::new(FIRST_PAUSE.min(most), most).pauses()
}

/// What ends the wait for something to do.
enum Woken {
    Asked,
    Unused,
    Lost(RegisterError),
    Renewed,
}

impl Kept {
    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        // No foreign code runs under the lock, so it is whole if it is poisoned.
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(&self, publish: &mut impl Publish, is_unsure: bool, mut users: Users) {
        let mut asked = self.asked.subscribe();
        let mut pauses = pauses(publish);
        let mut must_put = is_unsure;
        let mut renewal = clock::now() + publish.every();
        loop {
            asked.mark_unchanged();
            let (announcement, edits, is_over) = {
                let wanted = self.wanted();
                (wanted.announcement.clone(), wanted.edits, wanted.is_over)
            };
            if is_over {
                let limit = limit(publish);
                let withdrawn = limited(limit, "withdrawing", publish.withdraw()).await;
                self.done
                    .send_modify(|done| done.withdrawn = Some(withdrawn));
                return users.gone().await;
            }
            let is_edited = self.done.borrow().tried < edits;
            let mut failed = None;
            if must_put || is_edited {
                // Whoever ends the lease does not wait for a server that hangs.
                let put = {
                    let (over, gone) = (pin!(self.over()), pin!(users.gone()));
                    let put = pin!(put(publish, &announcement));
                    match select(put, select(over, gone)).await {
                        Either::Left((put, _)) => Some(put),
                        Either::Right(_) => None,
                    }
                };
                failed = match put {
                    Some(put) => put.err(),
                    None if self.wanted().is_over => continue,
                    None => return self.withdraw(publish).await,
                };
                let outcome = failed.clone();
                self.done.send_modify(|done| {
                    done.tried = edits;
                    done.failed = outcome;
                });
            }
            if let Some(error) = failed {
                must_put = true;
                self.lost(error);
                let paused = pin!(pauses.pause());
                let asked = pin!(asked.changed());
                let woken = pin!(select(paused, asked));
                if let Either::Right(_) = select(woken, pin!(users.gone())).await {
                    return self.withdraw(publish).await;
                }
                continue;
            }
            if must_put {
                // The server may have said how long the announcement lives.
                pauses = self::pauses(publish);
                must_put = false;
                renewal = clock::now() + publish.every();
                if matches!(self.states.get(), LeaseState::Lost { .. }) {
                    tracing::info!(
                        boundary = %announcement.boundary(), role = %announcement.role(),
                        id = %announcement.id(),
                        "announced again"
                    );
                }
                self.states.set(LeaseState::Announced);
            }
            let woken = {
                let renewed = async {
                    time::sleep_until(renewal.into()).await;
                    match renew(publish).await {
                        Ok(()) => Woken::Renewed,
                        Err(error) => Woken::Lost(error),
                    }
                };
                let asked = async {
                    // An error says that the lease is gone, and so are its users.
                    let _ = asked.changed().await;
                    Woken::Asked
                };
                let unused = async {
                    users.gone().await;
                    Woken::Unused
                };
                let (asked, unused) = (pin!(asked), pin!(unused));
                let told = select(asked, unused);
                match select(told, pin!(renewed)).await {
                    Either::Left((Either::Left((woken, _)) | Either::Right((woken, _)), _))
                    | Either::Right((woken, _)) => woken,
                }
            };
            match woken {
                Woken::Asked => {}
                Woken::Unused => return self.withdraw(publish).await,
                Woken::Renewed => renewal = clock::now() + publish.every().max(SHORTEST_RENEWAL),
                Woken::Lost(error) => {
                    must_put = true;
                    self.lost(error);
                }
            }
        }
    }

    /// Waits until the lease is deregistered.
    async fn over(&self) {
        let mut asked = self.asked.subscribe();
        while !self.wanted().is_over {
            if asked.changed().await.is_err() {
                // The lease is gone, and so are its users.
                std::future::pending::<()>().await;
            }
        }
    }

    fn lost(&self, error: RegisterError) {
        let since = match self.states.get() {
            LeaseState::Lost { since, .. } => since,
            _ => {
                let announcement = self.wanted().announcement.clone();
                tracing::warn!(
                    boundary = %announcement.boundary(), role = %announcement.role(),
                    id = %announcement.id(), error = &error as &dyn std::error::Error,
                    "announcement lost; announcing again"
                );
                clock::now()
            }
        };
        self.states.set(LeaseState::Lost { since, error });
    }

    async fn withdraw(&self, publish: &mut impl Publish) {
        let withdrawn = time::timeout(WITHDRAWAL, publish.withdraw()).await;
        let error = match &withdrawn {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error as &dyn std::error::Error,
            Err(late) => late,
        };
        tracing::warn!(error, "announcement could not be withdrawn");
    }
}

struct KeptLease {
    id: InstanceId,
    kept: Arc<Kept>,
    user: User,
    task: Arc<Task>,
}

impl KeptLease {
    /// Waits for what the task has done, and keeps it running meanwhile.
    async fn done<T: Send>(&self, outcome: impl Fn(&Done) -> Option<T>) -> Option<T> {
        let known = outcome(&self.kept.done.borrow());
        if known.is_some() {
            return known;
        }
        let mut user = self.task.user();
        let mut done = self.kept.done.subscribe();
        self.kept.asked.send_replace(());
        let kept = pin!(user.keeps_running());
        let waited = pin!(async {
            let done = done.wait_for(|done| outcome(done).is_some()).await.ok()?;
            outcome(&done)
        });
        match select(waited, kept).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right((never, _)) => match never {},
        }
    }
}

impl LeaseHandle for KeptLease {
    fn id(&self) -> &InstanceId {
        &self.id
    }

    fn edit(&self, edit: LeaseEdit) -> BoxFuture<'_, Result<(), RegisterError>> {
        Box::pin(async move {
            let edit = {
                let mut wanted = self.kept.wanted();
                let mut edited = wanted.announcement.clone();
                edit.apply(&mut edited)?;
                let has_failed = self.kept.done.borrow().failed.is_some();
                if edited != wanted.announcement || has_failed {
                    wanted.announcement = edited;
                    wanted.edits += 1;
                }
                // If an edit to the same is in flight, its outcome is the answer.
                wanted.edits
            };
            let tried = |done: &Done| (done.tried >= edit).then(|| done.failed.clone());
            match self.done(tried).await.flatten() {
                Some(error) => Err(error),
                None => Ok(()),
            }
        })
    }

    fn run(&self) -> BoxFuture<'_, ()> {
        let mut user = self.task.user();
        Box::pin(async move { match user.keeps_running().await {} })
    }

    fn deregister(&mut self) -> BoxFuture<'_, Result<(), RegisterError>> {
        self.kept.wanted().is_over = true;
        Box::pin(async {
            let withdrawn = self.done(|done| done.withdrawn.clone()).await;
            withdrawn.unwrap_or(Ok(()))
        })
    }
}

impl Drop for KeptLease {
    fn drop(&mut self) {
        let is_withdrawn = self.kept.done.borrow().withdrawn.is_some();
        if !is_withdrawn {
            // It withdraws when this user is gone.
            self.user.start();
        }
    }
}
