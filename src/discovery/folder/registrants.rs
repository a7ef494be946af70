//! The registrations of this handle: written by one at a time, and looked after.

use std::collections::HashMap;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::Notify;
use tokio::task;

use super::look::{Sight, sweep_temporary};
use super::place::Place;
use super::writer::Writer;
use crate::discovery::announcement::Announcement;
use crate::discovery::backend::{Publish, Task};
use crate::error::discovery::RegisterError;

/// Who is to be told that something happened to a record of this name.
#[derive(Clone, Default)]
pub(super) struct Registrants {
    named: Arc<Mutex<HashMap<String, Arc<Notify>>>>,
    /// One at a time: more would only wait for each other's claims, on threads that others need.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Registrants {
    fn named(&self) -> MutexGuard<'_, HashMap<String, Arc<Notify>>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tell(&self, seen: &Sight) {
        let told: Vec<_> = {
            let named = self.named();
            match seen {
                Sight::Everything => named.values().cloned().collect(),
                Sight::Names(names) => {
                    let told = names.iter().filter_map(|name| named.get(name));
                    told.cloned().collect()
                }
            }
        };
        for registrant in told {
            registrant.notify_one();
        }
    }
}

/// One registration.
pub(super) struct Registrant {
    writer: Arc<Mutex<Writer>>,
    told: Arc<Notify>,
    name: Option<String>,
    registrants: Registrants,
    place: Place,
    /// What watches the folder.
    watcher: Arc<Task>,
}

impl Registrant {
    pub(super) fn new(place: Place, registrants: Registrants, watcher: Arc<Task>) -> Self {
        Self {
            writer: Arc::new(Mutex::new(Writer::new(place.clone()))),
            told: Arc::default(),
            name: None,
            registrants,
            place,
            watcher,
        }
    }

    /// Does something with the disk, in turn.
    async fn written<T: Send + 'static>(
        &self,
        write: impl FnOnce(&mut Writer) -> T + Send + 'static,
    ) -> Result<T, RegisterError> {
        let turn = Arc::clone(&self.registrants.turn).lock_owned().await;
        let writer = Arc::clone(&self.writer);
        let written = task::spawn_blocking(move || {
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            let written = write(&mut writer);
            drop(turn);
            written
        });
        let lost = |error| RegisterError::backend("writing to a folder", io::Error::other(error));
        written.await.map_err(lost)
    }

    async fn is_in_place(&self) -> bool {
        let writer = Arc::clone(&self.writer);
        let looked = task::spawn_blocking(move || {
            let writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            writer.is_in_place()
        });
        looked.await.unwrap_or(false)
    }

    fn forget(&mut self) {
        if let Some(name) = self.name.take() {
            let mut named = self.registrants.named();
            if named
                .get(&name)
                .is_some_and(|told| Arc::ptr_eq(told, &self.told))
            {
                named.remove(&name);
            }
        }
    }
}

impl Publish for Registrant {
    async fn put(&mut self, announcement: &Announcement) -> Result<(), RegisterError> {
        let (announced, place) = (announcement.clone(), self.place.clone());
        let is_first = self.name.is_none();
        let name = self
            .written(move |writer| {
                writer.put(&announced)?;
                if is_first {
                    sweep_temporary(&place);
                }
                Ok::<_, RegisterError>(writer.name().map(str::to_owned))
            })
            .await??;
        if self.name != name {
            self.forget();
            if let Some(name) = name {
                let told = Arc::clone(&self.told);
                self.registrants.named().insert(name.clone(), told);
                self.name = Some(name);
            }
        }
        Ok(())
    }

    /// Waits until the record is not in place as it was written.
    async fn renew(&mut self) -> Result<(), RegisterError> {
        let mut watcher = self.watcher.user();
        while self.is_in_place().await {
            let told = pin!(self.told.notified());
            let watched = pin!(watcher.keeps_running());
            if let Either::Right((never, _)) = select(told, watched).await {
                match never {}
            }
        }
        Err(RegisterError::backend(
            format!("keeping a record in {}", self.place.path.display()),
            "somebody removed or changed it",
        ))
    }

    fn every(&self) -> Duration {
        Duration::ZERO
    }

    async fn withdraw(&mut self) -> Result<(), RegisterError> {
        self.forget();
        let withdrawn = self.written(Writer::withdraw).await?;
        withdrawn.map_err(|error| {
            let doing = format!("removing a record from {}", self.place.path.display());
            RegisterError::backend(doing, error)
        })
    }
}

impl Drop for Registrant {
    fn drop(&mut self) {
        self.forget();
    }
}
