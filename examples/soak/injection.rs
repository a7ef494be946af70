//! Makes the faults of a schedule happen.

use std::io;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use rolecall::{Availability, BalanceConfig, BoxError, ConfigBuilder, Load, OutlierConfig};
use tokio::time::{sleep, sleep_until};

use crate::callers::Client;
use crate::discovery::{Announcer, Answers};
use crate::ledger::Ledger;
use crate::schedule::{Fault, Planned, Schedule};
use crate::servers::{self, Manner, Servers};

/// How long a drained server is gone.
const GONE: Duration = Duration::from_secs(1);

pub(crate) struct Injector<'a> {
    servers: &'a Servers,
    announcer: &'a Announcer,
    clients: [&'a Client; 2],
    ledger: &'a Ledger,
}

impl<'a> Injector<'a> {
    pub(crate) fn new(
        servers: &'a Servers,
        announcer: &'a Announcer,
        clients: [&'a Client; 2],
        ledger: &'a Ledger,
    ) -> Self {
        Self {
            servers,
            announcer,
            clients,
            ledger,
        }
    }

    /// Returns when the last fault is over.
    pub(crate) async fn run(&self, schedule: &Schedule) -> Result<(), BoxError> {
        let began = Instant::now();
        let faults = schedule.faults.iter().map(async |planned| {
            sleep_until((began + planned.at).into()).await;
            self.inject(planned).await
        });
        try_join_all(faults).await?;
        Ok(())
    }

    async fn inject(&self, planned: &Planned) -> Result<(), BoxError> {
        let Planned {
            fault, lasts, draw, ..
        } = *planned;
        let server = planned.server.unwrap_or_default();
        let leaving = [0, 1, 2].map(|it| ((draw + it) % u64::from(servers::COUNT)) as u8);
        let (setting, config) = configuration(draw);
        let weight = if draw % 2 == 0 { 0 } else { 3 };
        let what = match fault {
            Fault::Reweight => format!(": weight {weight}"),
            Fault::Leave => format!(": {}", leaving.map(servers::id).join(", ")),
            Fault::Reconfigure => format!(": {setting}"),
            _ => String::new(),
        };
        let window = self.ledger.begin(fault, planned.server, &what);
        match fault {
            Fault::Kill => {
                self.servers.kill(server).await;
                sleep(lasts).await;
                self.servers.restart(server)?;
            }
            Fault::Move => self.move_elsewhere(server, lasts).await?,
            Fault::Slow => self.misbehave(server, Manner::Slow, lasts).await,
            Fault::Hang => self.misbehave(server, Manner::Hung, lasts).await,
            Fault::Errors => self.misbehave(server, Manner::Failing, lasts).await,
            Fault::Flaky => self.misbehave(server, Manner::Flaky, lasts).await,
            Fault::Drain => {
                let announcer = self.announcer;
                announcer.edit(server, |it| it.availability = Availability::Draining);
                sleep(lasts).await;
                announcer.edit(server, |it| it.is_present = false);
                sleep(GONE).await;
                announcer.edit(server, |it| {
                    it.is_present = true;
                    it.availability = Availability::Available;
                });
            }
            Fault::Busy => {
                let announcer = self.announcer;
                announcer.edit(server, |it| it.availability = Availability::Busy);
                sleep(lasts).await;
                announcer.edit(server, |it| it.availability = Availability::Available);
            }
            Fault::Reweight => {
                self.announcer.edit(server, |it| it.weight = weight);
                sleep(lasts).await;
                self.announcer.edit(server, |it| it.weight = 1);
            }
            Fault::Leave => {
                self.announcer
                    .edit_all(&leaving, |it| it.is_present = false);
                sleep(lasts).await;
                self.announcer.edit_all(&leaving, |it| it.is_present = true);
            }
            Fault::EmptySet => self.answer(Answers::Nothing, lasts).await,
            Fault::SmallSet => self.answer(Answers::Three, lasts).await,
            Fault::DiscoveryDown => self.answer(Answers::Error, lasts).await,
            Fault::Reconfigure => {
                let config = config.build()?;
                for client in self.clients {
                    client.control().reconfigure(config.clone());
                }
                sleep(lasts).await;
                for client in self.clients {
                    client.control().reconfigure(BalanceConfig::default());
                }
            }
        }
        self.ledger.end(window);
        Ok(())
    }

    async fn misbehave(&self, server: u8, manner: Manner, lasts: Duration) {
        self.servers.set_manner(server, manner);
        sleep(lasts).await;
        self.servers.set_manner(server, Manner::Well);
    }

    async fn answer(&self, answers: Answers, lasts: Duration) {
        self.announcer.set_answers(answers);
        sleep(lasts).await;
        self.announcer.set_answers(Answers::Truth);
    }

    async fn move_elsewhere(&self, server: u8, lasts: Duration) -> io::Result<()> {
        self.servers.kill(server).await;
        sleep(lasts).await;
        let addr = self.servers.restart_elsewhere(server)?;
        self.announcer.edit(server, |it| it.addr = addr);
        self.announcer.until_truth().await;
        Ok(())
    }
}

/// A configuration to change to, and what it is called.
fn configuration(draw: u64) -> (&'static str, ConfigBuilder) {
    let config = BalanceConfig::builder();
    match draw % 6 {
        0 => ("least in flight", config.load(Load::least_in_flight())),
        1 => ("ejection off", config.outlier(None)),
        2 => {
            let shadow = OutlierConfig::builder().shadow(true).build();
            ("ejection in shadow", config.outlier(shadow.ok()))
        }
        3 => ("two choices", config.max_choices(2)),
        4 => ("no slow start", config.slow_start(Duration::ZERO)),
        _ => ("at most 64 in flight", config.max_in_flight(64)),
    }
}
