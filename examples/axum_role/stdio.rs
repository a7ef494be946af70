//! A backend over the standard streams: what a worker says of itself goes out as lines, and what it hears of others comes
//! in as such.

use std::io::{self, BufRead, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use futures::{TryStreamExt, stream};
use rolecall::discovery::{
    Announcement, BoxFuture, Change, Discovery, LeaseEdit, LeaseHandle, RegisterError, from_changes,
};
use rolecall::{BoxError, Instance, InstanceId, Lease, Registrar, Registration};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

/// One line of news.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum News {
    There(Instance),
    Gone(InstanceId),
}

impl News {
    pub(crate) fn id(&self) -> &InstanceId {
        match self {
            Self::There(instance) => instance.id(),
            Self::Gone(id) => id,
        }
    }

    pub(crate) fn line(&self) -> Result<String, BoxError> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    pub(crate) fn read(line: &str) -> Result<Self, BoxError> {
        Ok(serde_json::from_str(line)?)
    }
}

/// The discovery that news makes.
pub(crate) fn discovery(
    mut news: mpsc::UnboundedReceiver<Result<News, BoxError>>,
) -> impl Discovery {
    from_changes(
        stream::poll_fn(move |cx| news.poll_recv(cx)).map_ok(|news| match news {
            News::There(instance) => Change::Insert(instance),
            News::Gone(id) => Change::Remove(id),
        }),
    )
}

/// The others, by standard input; and what completes when that ends, since then the starter is gone.
pub(crate) fn peers_of(own: &str) -> (impl Discovery + use<>, oneshot::Receiver<()>) {
    let own = InstanceId::from(own);
    let (heard, news) = mpsc::unbounded_channel();
    let (end, ended) = oneshot::channel();
    // tokio's standard input would keep the process from ending.
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            let news = News::read(&line);
            if !news.as_ref().is_ok_and(|news| *news.id() == own) && heard.send(news).is_err() {
                break;
            }
        }
        drop(end);
    });
    (discovery(news), ended)
}

/// Registers by lines on standard output.
pub(crate) struct Announcer;

impl Registrar for Announcer {
    fn register(
        &self,
        registration: Registration,
    ) -> BoxFuture<'static, Result<Lease, RegisterError>> {
        Box::pin(async {
            let announcement = registration.validate()?;
            let own = Own {
                id: announcement.id().clone(),
                announcement: Mutex::new(announcement),
            };
            own.say()?;
            Ok(Lease::new(own))
        })
    }
}

/// What this process said of itself.
struct Own {
    id: InstanceId,
    announcement: Mutex<Announcement>,
}

impl Own {
    fn change(&self, edit: LeaseEdit) -> Result<(), RegisterError> {
        edit.apply(&mut self.announcement())?;
        self.say()
    }

    fn announcement(&self) -> MutexGuard<'_, Announcement> {
        let announcement = self.announcement.lock();
        announcement.unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self) -> Result<(), RegisterError> {
        let announcement = self.announcement();
        // One endpoint is all that this backend knows.
        let here = announcement.endpoints().next();
        say(&match here {
            Some((_, instance)) => News::There(instance),
            None => News::Gone(self.id.clone()),
        })
    }
}

fn say(news: &News) -> Result<(), RegisterError> {
    let said = news.line().and_then(|line| {
        let mut out = io::stdout().lock();
        out.write_all(line.as_bytes())?;
        Ok(out.flush()?)
    });
    said.map_err(|error| RegisterError::backend("writing a line", error))
}

impl LeaseHandle for Own {
    fn id(&self) -> &InstanceId {
        &self.id
    }

    fn edit(&self, edit: LeaseEdit) -> BoxFuture<'_, Result<(), RegisterError>> {
        Box::pin(async move { self.change(edit) })
    }

    fn deregister(&mut self) -> BoxFuture<'_, Result<(), RegisterError>> {
        Box::pin(async { say(&News::Gone(self.id.clone())) })
    }
}
