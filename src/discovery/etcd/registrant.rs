//! One announcement: a key that a lease keeps alive.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Compare, CompareOp, Error, PutOptions, Txn, TxnOp};
use tokio::runtime::Handle;
use tokio::time;

use super::connection::{Connection, REQUEST, RequestError, Session};
use super::keys::Keys;
use crate::discovery::announcement::Announcement;
use crate::discovery::backend::{Publish, Record};
use crate::error::discovery::RegisterError;
use crate::runtime::clock;

/// Between attempts to renew, while the lease may still live; less if it is short.
const AGAIN: Duration = Duration::from_millis(250);
/// For one attempt of a request while a lease of this time to live has to be renewed: a renewal begins after a third of it,
/// and the rest must do for a dead connection and a new one.
fn patience(ttl: Duration) -> Duration {
    (ttl / 6).max(Duration::from_millis(500))
}

pub(super) struct Registrant {
    connection: Arc<Connection>,
    session: Session,
    keys: Keys,
    /// Of the last announcement.
    key: String,
    ttl: Duration,
    lease: Option<i64>,
    /// Whether the key was ours when it was last written.
    is_stored: bool,
}

impl Registrant {
    pub(super) fn new(connection: Arc<Connection>, keys: Keys, ttl: Duration) -> Self {
        Self {
            session: Session::new(&connection, REQUEST),
            connection,
            keys,
            key: String::new(),
            ttl,
            lease: None,
            is_stored: false,
        }
    }

    /// Stores the record under the lease; false if another lease has the key.
    ///
    /// An answer that was lost may have stored it, so the key may be ours at the first attempt, too.
    async fn store(&mut self, value: &[u8], lease: i64) -> Result<bool, RequestError> {
        let key = self.key.clone();
        let is_free = Compare::create_revision(key.as_str(), CompareOp::Equal, 0);
        let is_ours = Compare::lease(key.as_str(), CompareOp::Equal, lease);
        let conditions = match self.is_stored {
            true => [is_ours, is_free],
            false => [is_free, is_ours],
        };
        for condition in conditions {
            let put = PutOptions::new().with_lease(lease);
            let txn =
                Txn::new()
                    .when([condition])
                    .and_then([TxnOp::put(key.as_str(), value, Some(put))]);
            self.is_stored = self.succeeds(txn).await?;
            if self.is_stored {
                break;
            }
        }
        Ok(self.is_stored)
    }

    /// Renews the lease; false if the key is not ours any more.
    async fn keep_alive(&mut self, lease: i64) -> Result<bool, RequestError> {
        let renewed = self
            .session
            .request(|mut client| async move { client.lease_keep_alive(lease).await });
        renewed.await?;
        let is_ours = Compare::lease(self.key.as_str(), CompareOp::Equal, lease);
        self.succeeds(Txn::new().when([is_ours])).await
    }

    async fn succeeds(&mut self, txn: Txn) -> Result<bool, RequestError> {
        let answer = self.session.request(|mut client| {
            let txn = txn.clone();
            async move { client.txn(txn).await }
        });
        Ok(answer.await?.succeeded())
    }

    async fn grant(&mut self) -> Result<i64, RequestError> {
        let seconds = self.ttl.as_secs();
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        let granted = self
            .session
            .request(|mut client| async move { client.lease_grant(seconds, None).await });
        let granted = granted.await?;
        // The server's shortest lease may be longer.
        if let Ok(seconds) = u64::try_from(granted.ttl()) {
            self.ttl = Duration::from_secs(seconds.max(1));
        }
        Ok(granted.id())
    }
}

impl Publish for Registrant {
    async fn put(&mut self, announcement: &Announcement) -> Result<(), RegisterError> {
        let key = announcement.key();
        let stored = serde_json::to_vec(&Record::from(announcement))
            .map_err(|error| RegisterError::backend("writing the record", error))?;
        self.key = self.keys.of(&key);
        loop {
            let (lease, is_new) = match self.lease {
                Some(lease) => (lease, false),
                None => {
                    // There is nothing to lose yet, and a server that is asked by all at once takes its time.
                    let share = self.connection.share_of(REQUEST);
                    self.session.set_timeout(share);
                    let granted = self.grant().await;
                    let granted = granted
                        .map_err(|error| RegisterError::backend("creating an etcd lease", error))?;
                    self.lease = Some(granted);
                    (granted, true)
                }
            };
            match self.store(&stored, lease).await {
                Ok(true) => {
                    self.session.set_timeout(patience(self.ttl));
                    return Ok(());
                }
                Ok(false) => {
                    return Err(RegisterError::id_taken(&key.boundary, &key.role, &key.id));
                }
                Err(error) if is_gone(&error) && !is_new => self.lease = None,
                Err(error) => return Err(RegisterError::backend("writing to etcd", error)),
            }
        }
    }

    /// A server that does not answer has not ended the lease: it is asked until the lease must have expired.
    async fn renew(&mut self) -> Result<(), RegisterError> {
        let expires = clock::now() + self.ttl * 2 / 3;
        let lease = self.lease.unwrap_or_default();
        loop {
            let error = match self.keep_alive(lease).await {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    let cause = "somebody deleted or overwrote the key";
                    return Err(RegisterError::backend("renewing the etcd lease", cause));
                }
                Err(error) => error,
            };
            if is_gone(&error) {
                self.lease = None;
                return Err(RegisterError::backend("renewing the etcd lease", error));
            }
            if clock::now() >= expires {
                return Err(RegisterError::backend("renewing the etcd lease", error));
            }
            time::sleep(AGAIN.min(self.ttl / 12)).await;
        }
    }

    fn every(&self) -> Duration {
        self.ttl / 3
    }

    /// Revokes the lease, and with it goes the key, but only if it is still ours.
    async fn withdraw(&mut self) -> Result<(), RegisterError> {
        let Some(lease) = self.lease else {
            return Ok(());
        };
        let revoked = self
            .session
            .request(|mut client| async move { client.lease_revoke(lease).await });
        match revoked.await {
            Err(error) if !is_gone(&error) => {
                Err(RegisterError::backend("revoking the etcd lease", error))
            }
            _ => {
                self.lease = None;
                Ok(())
            }
        }
    }
}

impl Drop for Registrant {
    fn drop(&mut self) {
        if let (Some(lease), Ok(runtime)) = (self.lease, Handle::try_current()) {
            let mut session = Session::new(&self.connection, REQUEST);
            runtime.spawn(async move {
                // It expires otherwise.
                let revoked =
                    session.request(|mut client| async move { client.lease_revoke(lease).await });
                let _ = revoked.await;
            });
        }
    }
}

/// Whether the server does not know the lease.
fn is_gone(error: &RequestError) -> bool {
    let RequestError::Etcd(error) = error else {
        return false;
    };
    match &**error {
        Error::LeaseKeepAliveError(_) => true,
        Error::GRpcStatus(status) => status.message().contains("requested lease not found"),
        _ => false,
    }
}
