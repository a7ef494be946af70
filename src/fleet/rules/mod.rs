//! One file per rule: its decision, its numbers and its failure mode. Rules are functions of numbers and small states; they
//! know no ids. Only `doubt` and `subset` look at whole sets.

pub(crate) mod backoff;
pub(crate) mod cap;
pub(crate) mod chance;
pub(crate) mod doubt;
pub(crate) mod ejection_time;
pub(crate) mod failure_rate;
pub(crate) mod failures_in_row;
pub(crate) mod late;
pub(crate) mod outlier;
pub(crate) mod overload;
pub(crate) mod peers;
pub(crate) mod rank;
pub(crate) mod slow_start;
pub(crate) mod subset;
pub(crate) mod suspect;
pub(crate) mod tiers;
pub(crate) mod trial;
pub(crate) mod unresponsive;
pub(crate) mod zone;
