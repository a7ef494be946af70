//! A check that is due: of which connection, and with which service.

use std::fmt;
use std::sync::Arc;

use super::members::member::Member;
use super::roster::dials::Ticket;
use super::shared::Bound;
use crate::model::instance::Instance;

/// A check of a connection that is due. Its outcome is reported to [`Fleet::checked`](crate::fleet::Fleet::checked) with the
/// ticket.
pub struct DueCheck<S> {
    ticket: Ticket,
    member: Arc<Member<Bound<S>>>,
}

impl<S> DueCheck<S> {
    pub(crate) fn new(ticket: Ticket, member: Arc<Member<Bound<S>>>) -> Self {
        Self { ticket, member }
    }

    /// Names the connection.
    pub fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// The instance to check.
    pub fn instance(&self) -> &Instance {
        &self.member.instance
    }

    /// The service that [`Fleet::connected`](crate::fleet::Fleet::connected) received for the connection.
    pub fn service(&self) -> &S {
        self.member.service()
    }
}

impl<S> fmt::Debug for DueCheck<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DueCheck")
            .field("ticket", &self.ticket)
            .finish_non_exhaustive()
    }
}
