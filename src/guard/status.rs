use std::fmt;
use std::time::Duration;

use crate::model::name::Boundary;

/// The state of a guard at one moment. `Display` is a table for people.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct GuardStatus {
    /// The boundaries that are admitted; the first is the guard's own.
    pub boundaries: Vec<BoundaryStatus>,
    /// Connections that are open.
    pub open: usize,
    /// Connections admitted so far.
    pub admitted: u64,
    /// Connections denied so far.
    pub refused: u64,
    /// Connections of trusted proxies closed so far because their PROXY header was missing, late or invalid.
    pub headers_refused: u64,
    /// Connections closed so far because their peer had left.
    pub cut_off: u64,
}

/// What a guard knows of one boundary.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BoundaryStatus {
    /// Which one.
    pub boundary: Boundary,
    /// From how many addresses its instances are admitted.
    pub addresses: usize,
    /// How long ago discovery last answered with a set; `None` if it never did. Most backends answer again only when
    /// something changed.
    pub set_age: Option<Duration>,
    /// The last error of discovery with its causes, if no set came after it.
    pub discovery_error: Option<String>,
}

impl fmt::Display for GuardStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} open, {} admitted, {} refused, {} PROXY headers refused, {} cut off",
            self.open, self.admitted, self.refused, self.headers_refused, self.cut_off
        )?;
        for boundary in &self.boundaries {
            write!(
                f,
                "\n{}: {} addresses, ",
                boundary.boundary, boundary.addresses
            )?;
            match boundary.set_age {
                Some(age) => write!(f, "{} s old", age.as_secs())?,
                None => f.write_str("discovery has not answered")?,
            }
            if let Some(error) = &boundary.discovery_error {
                write!(f, "; {error}")?;
            }
        }
        Ok(())
    }
}
