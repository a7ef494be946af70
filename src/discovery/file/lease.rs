//! The lease of a registration that is a file.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::hub::Hub;
use super::keeper::{Command, Edit, Reply};
use super::posts::Key;
use crate::discovery::LeaseEdit;
use crate::discovery::{BoxFuture, LeaseHandle};
use crate::error::discovery::RegisterError;
use crate::model::instance::InstanceId;

pub(super) struct Posted {
    hub: Arc<Hub>,
    key: Key,
    id: InstanceId,
}

impl Posted {
    pub(super) fn new(hub: Arc<Hub>, key: Key, id: InstanceId) -> Self {
        Self { hub, key, id }
    }

    fn change(&self, edit: Edit) -> BoxFuture<'_, Result<(), RegisterError>> {
        Box::pin(asked(&self.hub, |reply| {
            Command::Change(self.key, edit, reply)
        }))
    }
}

/// Has the thread do something, and waits for it.
pub(super) async fn asked<T>(
    hub: &Hub,
    command: impl FnOnce(Reply<T>) -> Command,
) -> Result<T, RegisterError> {
    let (reply, replied) = oneshot::channel();
    let _ = hub.commands.send(command(reply));
    replied.await.unwrap_or_else(|gone| {
        Err(RegisterError::backend(
            "asking the thread of the folder",
            gone,
        ))
    })
}

impl LeaseHandle for Posted {
    fn id(&self) -> &InstanceId {
        &self.id
    }

    fn edit(&self, edit: LeaseEdit) -> BoxFuture<'_, Result<(), RegisterError>> {
        self.change(Box::new(move |announced| edit.apply(announced)))
    }

    fn deregister(&mut self) -> BoxFuture<'_, Result<(), RegisterError>> {
        let key = self.key;
        Box::pin(asked(&self.hub, move |reply| {
            Command::Withdraw(key, Some(reply))
        }))
    }
}

impl Drop for Posted {
    fn drop(&mut self) {
        let _ = self.hub.commands.send(Command::Withdraw(self.key, None));
    }
}
