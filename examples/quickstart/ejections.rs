//! Who was ejected, why, and when it came back.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use rolecall::http::Client;
use rolecall::{EjectionReason, Event};
/// What the balancer's events tell of it, with when they came.
pub(crate) struct Ejections(Arc<Mutex<Vec<(Duration, Event)>>>);

impl Ejections {
    /// Writes down what happens from now on, and prints it.
    pub(crate) fn follow(client: &Client) -> Self {
        let (began, mut events) = (Instant::now(), client.control().events());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if let Event::Ejected { .. } | Event::TrialFailed { .. } | Event::Returned { .. } =
                    event
                {
                    println!("          {event}");
                    let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                    noted.push((began.elapsed(), event));
                }
            }
        });
        Self(seen)
    }

    pub(crate) fn print(&self) {
        for (at, event) in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            println!("at {:>4.1} s: {event}", at.as_secs_f64());
        }
        println!();
    }

    /// Whether an instance was ejected for such a reason and returned later.
    pub(crate) fn ejected_and_back(
        &self,
        instance: &str,
        expected: impl Fn(&EjectionReason) -> bool,
    ) -> bool {
        let events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut events = events.iter().map(|(_, event)| event);
        let ejected = |event: &Event| match event {
            Event::Ejected { id, reason, .. } => *id == *instance && expected(reason),
            _ => false,
        };
        let returned = |event: &Event| match event {
            Event::Returned { id, .. } => *id == *instance,
            _ => false,
        };
        events.any(ejected) && events.any(returned)
    }
}
