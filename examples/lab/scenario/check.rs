//! What a scenario's fields may be; an error names the field.

use std::time::Duration;

use super::{Effect, Scenario, Shape};

/// More would not fit the ports by which servers are told apart.
const MOST_SERVERS: usize = 10_000;
/// A week: 10 000 requests at one a minute.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

impl Scenario {
    pub(crate) fn check(&self) -> Result<(), String> {
        let hour = Duration::from_secs(3600);
        let second = Duration::from_secs(1);
        within("duration", &self.duration, second..=LONGEST)?;
        within(
            "measure_from",
            &self.measure_from,
            Duration::ZERO..=self.duration - second,
        )?;
        within("timeout", &self.timeout, Duration::from_millis(1)..=hour)?;
        self.check_servers()?;
        self.check_clients()?;
        within(
            "service.mean",
            &self.service.mean,
            Duration::from_micros(1)..=second,
        )?;
        self.check_shape()?;
        for (number, fault) in self.faults.iter().enumerate() {
            let field = |name: &str| format!("faults[{number}].{name}");
            for given in &fault.servers {
                let known = self
                    .servers()
                    .any(|(name, group)| *given == name || *given == group.name);
                if !known {
                    return Err(format!(
                        "{} names {given:?}, which is no server",
                        field("servers")
                    ));
                }
            }
            let until = fault.until.unwrap_or(self.duration);
            within(&field("from"), &fault.from, Duration::ZERO..=until)?;
            self.check_effect(fault.effect, &field("effect"))?;
        }
        for (number, outage) in self.discovery.outages.iter().enumerate() {
            let field = format!("discovery.outages[{number}].from");
            within(&field, &outage.from, Duration::ZERO..=outage.until)?;
        }
        Ok(())
    }

    fn check_servers(&self) -> Result<(), String> {
        within(
            "the number of servers",
            &self.servers().count(),
            1..=MOST_SERVERS,
        )?;
        for (number, group) in self.servers.iter().enumerate() {
            let field = |name: &str| format!("servers[{number}].{name}");
            within(&field("slots"), &group.slots, 1..=100_000)?;
            within(&field("slow"), &group.slow, 1e-3..=1e3)?;
            if self.servers[..number]
                .iter()
                .any(|other| other.name == group.name)
            {
                return Err(format!("{} is {:?} again", field("name"), group.name));
            }
        }
        Ok(())
    }

    fn check_clients(&self) -> Result<(), String> {
        let clients = &self.clients;
        within("clients.count", &clients.count, 1..=100_000)?;
        within("clients.retries", &clients.retries, 0..=10)?;
        match (clients.load, clients.requests_per_second) {
            (Some(load), None) => within("clients.load", &load, 1e-3..=10.0),
            (None, Some(rate)) => within("clients.requests_per_second", &rate, 1e-3..=1e6),
            _ => Err("clients needs either load or requests_per_second".to_owned()),
        }
    }

    fn check_shape(&self) -> Result<(), String> {
        match self.service.shape {
            Shape::Exponential => Ok(()),
            Shape::Lognormal { sigma } => {
                within("service.shape.lognormal.sigma", &sigma, 0.0..=3.0)
            }
            Shape::Bimodal {
                long_share,
                long_factor,
            } => {
                within("service.shape.bimodal.long_share", &long_share, 0.0..=1.0)?;
                within("service.shape.bimodal.long_factor", &long_factor, 1.0..=1e4)
            }
        }
    }

    fn check_effect(&self, effect: Effect, field: &str) -> Result<(), String> {
        match effect {
            Effect::Slow(factor) => within(&format!("{field}.slow"), &factor, 1e-3..=1e4),
            Effect::Antagonist(antagonist) => {
                within(
                    &format!("{field}.antagonist.slow"),
                    &antagonist.slow,
                    1.0..=1e4,
                )?;
                let times = Duration::from_millis(1)..=Duration::from_secs(3600);
                within(
                    &format!("{field}.antagonist.on"),
                    &antagonist.on,
                    times.clone(),
                )?;
                within(&format!("{field}.antagonist.off"), &antagonist.off, times)
            }
            Effect::Fail(fail) => within(&format!("{field}.fail.share"), &fail.share, 0.0..=1.0),
            Effect::Hang | Effect::Down | Effect::Unannounced | Effect::Draining => Ok(()),
        }
    }
}

fn within<T: PartialOrd + std::fmt::Debug>(
    field: &str,
    value: &T,
    range: std::ops::RangeInclusive<T>,
) -> Result<(), String> {
    if range.contains(value) {
        return Ok(());
    }
    let (low, high) = range.into_inner();
    Err(format!(
        "{field} is {value:?}, but must be within {low:?}..={high:?}"
    ))
}

#[cfg(test)]
mod tests {
    use super::super::{DEFAULT_SET, Scenario};

    const SMALL: &str = "title = 'two'
        duration = '10s'
        measure_from = '1s'
        timeout = '1s'
        clients = { count = 1, load = 0.5 }
        service = { mean = '10ms', shape = 'exponential' }
        servers = [{ name = 'a', count = 2 }]";

    #[test]
    fn every_scenario_of_the_default_set_is_valid() {
        for name in DEFAULT_SET {
            Scenario::find(name).unwrap();
        }
    }

    #[test]
    fn an_error_names_file_and_field() {
        let error = Scenario::find("nowhere/x.toml").unwrap_err().to_string();
        assert!(error.starts_with("nowhere/x.toml: "), "{error}");
        for (find, put, field) in [
            ("count = 2", "count = 2, slots = 0", "servers[0].slots is 0"),
            ("load = 0.5", "laod = 0.5", "laod"),
            ("timeout = '1s'", "timeout = 'soon'", "timeout = 'soon'"),
            ("timeout = '1s'", "", "missing field `timeout`"),
            ("load = 0.5", "", "clients needs either load"),
            (
                "'exponential'",
                "{ lognormal = { sigma = 9 } }",
                "service.shape.lognormal.sigma is 9",
            ),
        ] {
            let text = SMALL.replace(find, put);
            let error = Scenario::parse("x", &text).unwrap_err();
            assert!(error.contains(field), "{error}");
        }
        let fault = "\nfaults = [{ servers = ['b'], effect = 'hang' }]";
        let error = Scenario::parse("x", &format!("{SMALL}{fault}")).unwrap_err();
        assert!(error.contains("faults[0].servers names \"b\""), "{error}");
    }
}
