//! A task of a backend, which lives as long as somebody uses it.

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_core::Stream;
use futures_util::future::{Either, select};
use futures_util::{FutureExt, StreamExt, stream};
use tokio::runtime::Handle;
use tokio::sync::watch as signal;
use tokio::{task, time};

use crate::discovery::{BoxFuture, BoxStream};
use crate::runtime::timer;

/// Pause after work that panicked, before it is started again.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// Work that runs as one task while it has users: in the runtime of the user that polls first, and again in that of
/// another user when that runtime has ended.
pub(in crate::discovery) struct Task {
    work: Box<dyn Fn(Users) -> BoxFuture<'static, ()> + Send + Sync>,
    is_running: AtomicBool,
    users: signal::Sender<usize>,
    /// Rings when the task has ended.
    ended: signal::Sender<()>,
}

impl Task {
    pub(in crate::discovery) fn new<F>(
        work: impl Fn(Users) -> F + Send + Sync + 'static,
    ) -> Arc<Self>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Arc::new(Self {
            work: Box::new(move |users| Box::pin(work(users))),
            is_running: AtomicBool::new(false),
            users: signal::Sender::new(0),
            ended: signal::Sender::default(),
        })
    }

    /// One more user; the task runs once that polls.
    pub(in crate::discovery) fn user(self: &Arc<Self>) -> User {
        self.users.send_modify(|users| *users += 1);
        User {
            ended: self.ended.subscribe(),
            task: Arc::clone(self),
        }
    }

    /// The work, if it does not run and can run here.
    fn begin(self: &Arc<Self>) -> Option<(Handle, BoxFuture<'static, ()>)> {
        if self.is_running.load(Ordering::Acquire) {
            return None;
        }
        let runtime = Handle::try_current().ok()?;
        // All work sets timers, and without a time driver that panics.
        if !timer::is_there() || self.is_running.swap(true, Ordering::AcqRel) {
            return None;
        }
        let running = Running(Arc::clone(self));
        let users = Users(self.users.subscribe());
        let work = async move {
            let work = AssertUnwindSafe((running.0.work)(users)).catch_unwind();
            if work.await.is_err() {
                time::sleep(AFTER_PANIC).await;
            }
        };
        Some((runtime, Box::pin(work)))
    }

    /// The same stream, which keeps the task running while it is polled.
    pub(in crate::discovery) fn feeding<T: Send + 'static>(
        self: &Arc<Self>,
        stream: impl Stream<Item = T> + Send + 'static,
    ) -> BoxStream<'static, T> {
        let fed = (self.user(), Box::pin(stream));
        Box::pin(stream::unfold(fed, |(mut user, mut stream)| async move {
            let kept = Box::pin(user.keeps_running());
            // The task first, so that the first look finds what it has at once.
            let item = match select(kept, stream.next()).await {
                Either::Left((never, _)) => match never {},
                Either::Right((item, _)) => item?,
            };
            Some((item, (user, stream)))
        }))
    }
}

/// Keeps a task in use.
pub(in crate::discovery) struct User {
    ended: signal::Receiver<()>,
    task: Arc<Task>,
}

/// What never comes.
pub(in crate::discovery) enum Never {}

impl User {
    /// Starts the task if it does not run, and if there is a runtime with timers here.
    pub(in crate::discovery) fn start(&self) {
        if let Some((runtime, work)) = self.task.begin() {
            runtime.spawn(work);
        }
    }

    /// Starts the task where this is polled, and again whenever it has ended.
    ///
    /// A task that is started here is polled once before it is spawned: what it has at once is there when this returns.
    pub(in crate::discovery) async fn keeps_running(&mut self) -> Never {
        loop {
            self.ended.mark_unchanged();
            let task = &self.task;
            let mut ended = std::pin::pin!(self.ended.changed());
            // It may be polled outside a runtime first.
            poll_fn(|cx| {
                if let Some((runtime, mut work)) = task.begin()
                    && (&mut work).now_or_never().is_none()
                {
                    runtime.spawn(work);
                }
                match ended.as_mut().poll(cx) {
                    Poll::Ready(Ok(())) => Poll::Ready(()),
                    // The sender lives as long as this user, so there is no error.
                    Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
                }
            })
            .await;
            // A runtime that shuts down drops new tasks at once: it must get to drop this one, too.
            task::yield_now().await;
        }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.task
            .users
            .send_modify(|users| *users = users.saturating_sub(1));
    }
}

/// For the work: whether anybody needs it.
pub(in crate::discovery) struct Users(signal::Receiver<usize>);

impl Users {
    /// Waits until there is no user.
    pub(in crate::discovery) async fn gone(&mut self) {
        // An error says that the task itself is gone.
        let _ = self.0.wait_for(|users| *users == 0).await;
    }

    /// Does the work until it is done, or until nobody needs it.
    pub(in crate::discovery) async fn while_any(&mut self, work: impl Future<Output = ()>) {
        let gone = std::pin::pin!(self.gone());
        select(gone, std::pin::pin!(work)).await;
    }
}

/// Dropped with the task, however that ends.
struct Running(Arc<Task>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.is_running.store(false, Ordering::Release);
        self.0.ended.send_replace(());
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    /// A task that counts how often it was started, and how often it saw its last user go.
    fn counted() -> (Arc<Task>, Arc<AtomicUsize>, Arc<AtomicUsize>) {
        let (starts, goings) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (started, gone) = (Arc::clone(&starts), Arc::clone(&goings));
        let task = Task::new(move |mut users| {
            started.fetch_add(1, Ordering::Relaxed);
            let gone = Arc::clone(&gone);
            async move {
                users.gone().await;
                gone.fetch_add(1, Ordering::Relaxed);
            }
        });
        (task, starts, goings)
    }

    async fn polled_once(stream: &mut BoxStream<'static, ()>) {
        assert!(stream.next().now_or_never().is_none());
        task::yield_now().await;
    }

    #[test]
    fn it_runs_once_for_all_users_and_ends_with_the_last() {
        runtime().block_on(async {
            let (task, starts, goings) = counted();
            let mut watches = [
                task.feeding(stream::pending::<()>()),
                task.feeding(stream::pending()),
            ];
            assert_eq!(starts.load(Ordering::Relaxed), 0, "nobody polled yet");
            for watch in &mut watches {
                polled_once(watch).await;
            }
            assert_eq!(starts.load(Ordering::Relaxed), 1);
            let [first, second] = watches;
            drop(first);
            task::yield_now().await;
            assert_eq!(goings.load(Ordering::Relaxed), 0, "one is left");
            drop(second);
            task::yield_now().await;
            assert_eq!(goings.load(Ordering::Relaxed), 1);
            let mut again = task.feeding(stream::pending());
            polled_once(&mut again).await;
            assert_eq!(starts.load(Ordering::Relaxed), 2);
        });
    }

    #[test]
    fn it_goes_on_in_another_runtime_when_its_own_has_ended() {
        let (task, starts, _) = counted();
        let (first, second) = (runtime(), runtime());
        let mut here = task.feeding(stream::pending::<()>());
        first.block_on(polled_once(&mut here));
        let mut there = task.feeding(stream::pending::<()>());
        let waiting = second.spawn(async move { there.next().await });
        second.block_on(task::yield_now());
        assert_eq!(starts.load(Ordering::Relaxed), 1, "one for both");
        drop(first);
        second.block_on(async {
            while starts.load(Ordering::Relaxed) == 1 {
                task::yield_now().await;
            }
        });
        assert_eq!(starts.load(Ordering::Relaxed), 2, "nobody polled it again");
        waiting.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_panics_is_started_again_after_a_pause() {
        let starts = Arc::new(AtomicUsize::new(0));
        let started = Arc::clone(&starts);
        let task = Task::new(move |_| {
            let before = started.fetch_add(1, Ordering::Relaxed);
            async move {
                assert!(before > 1, "the work panics twice");
                std::future::pending().await
            }
        });
        let mut watch = task.feeding(stream::pending::<()>());
        let watched = time::timeout(AFTER_PANIC * 5 / 2, watch.next());
        assert!(watched.await.is_err());
        assert!(starts.load(Ordering::Relaxed) >= 3);
    }
}
