//! What is done to one of the servers.

use std::io;
use std::time::Duration;

use crate::load::Load;
use crate::process::{Order, Server};

/// A flapping server is killed this often, and starts again after half of it.
const FLAP: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Kill,
    Stop,
    Error,
    Slow,
    Refuse,
    Flap,
}

impl Fault {
    pub(crate) const ALL: [Self; 6] = [
        Self::Kill,
        Self::Stop,
        Self::Error,
        Self::Slow,
        Self::Refuse,
        Self::Flap,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Error => "error",
            Self::Slow => "slow",
            Self::Refuse => "refuse",
            Self::Flap => "flap",
        }
    }

    pub(crate) fn explanation(self) -> &'static str {
        match self {
            Self::Kill => "the process is killed (SIGKILL), and started again in the end",
            Self::Stop => {
                "the process is stopped (SIGSTOP): it accepts connections and answers nobody"
            }
            Self::Error => "answers 503, or UNAVAILABLE in gRPC, at once",
            Self::Slow => "takes ten times as long",
            Self::Refuse => "closes its connections between requests and accepts none",
            Self::Flap => {
                "the process is killed every second, and started again half a second later"
            }
        }
    }

    /// Has it for so long, and heals it.
    pub(crate) async fn happen(
        self,
        server: &mut Server,
        time: Duration,
        load: &mut Load,
    ) -> io::Result<()> {
        let end = load.elapsed() + time;
        match self {
            Self::Kill => server.kill(),
            Self::Stop => server.stop()?,
            Self::Error => server.order(Order::Fail)?,
            Self::Slow => server.order(Order::BeSlow)?,
            Self::Refuse => server.order(Order::Refuse)?,
            Self::Flap => {
                let mut at = load.elapsed();
                while at + FLAP / 2 < end {
                    server.kill();
                    load.go_on_until(at + FLAP / 2).await;
                    server.restart()?;
                    at += FLAP;
                    load.go_on_until(at.min(end)).await;
                }
            }
        }
        load.go_on_until(end).await;
        match self {
            Self::Kill => server.restart(),
            Self::Stop => server.go_on(),
            Self::Error | Self::Slow | Self::Refuse => server.order(Order::BeWell),
            Self::Flap => Ok(()),
        }
    }
}
