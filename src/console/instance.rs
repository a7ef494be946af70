//! The rows of one instance.

use std::fmt::Write as _;

use super::escape::{Escaped, Name, Value};
use super::graph::{self, Figure};
use super::history::History;
use super::state::{Urgency, write_state, write_time};
use super::timeline::Clocks;
use crate::explain::member::MemberExplanation;
use crate::explain::reason::Percent;
use crate::runtime::duration::Rounded;
use crate::status::{MemberState, MemberStatus, Status};

/// The longest id that controls are offered for. Discovery allows 253 bytes.
const LONGEST_CONTROLLED: usize = 1024;

/// What the rows of all instances of a balancer have in common.
pub(super) struct Rows<'a> {
    pub(super) status: &'a Status,
    pub(super) history: &'a History,
    pub(super) clocks: Clocks,
    /// The name of the balancer in a query, if there are controls.
    pub(super) controls: Option<&'a str>,
    /// The highest values, so that graphs can be compared.
    pub(super) most_requests: f32,
    pub(super) most_latency: f32,
}

/// The names of the columns. On a narrow screen each stands beside its value.
pub(super) const HEAD: &str = "<thead><tr><th scope=col>instance<th scope=col>state<th scope=col>share<th scope=col>in flight\
<th scope=col>requests, 10 s<th scope=col>failed, 10 s<th scope=col>latency";

impl Rows<'_> {
    pub(super) fn write(
        &self,
        to: &mut String,
        member: &MemberStatus,
        explained: &MemberExplanation,
    ) {
        let urgency = Urgency::of(member, explained);
        let class = urgency.class();
        let instance = &member.instance;
        let id = instance.id().as_str();
        let _ = write!(
            to,
            "<tbody class={class}><tr><th scope=row title=\"{}\">{}<small>{}",
            Escaped(id),
            Name(id),
            Name(&instance.address().to_string())
        );
        if let Some(zone) = instance.zone() {
            let _ = write!(to, " · {}", Name(zone.as_str()));
        }
        to.push_str("</small><td><b>");
        write_state(to, member);
        to.push_str("</b><small>");
        write_time(to, member, self.status, self.clocks);
        to.push_str("</small>");
        write_share(to, explained);
        let _ = write!(to, "<td>{}", member.in_flight);
        let samples = self.history.of(instance.id());
        let _ = write!(to, "<td>{}", member.recent_requests);
        graph::write(to, samples.clone(), Figure::Requests, self.most_requests);
        write_failures(to, member);
        match member.latency {
            Some(latency) => {
                let _ = write!(to, "<td>{}", Rounded(latency));
            }
            None => to.push_str("<td>–"),
        }
        graph::write(to, samples, Figure::Latency, self.most_latency);
        if let Some(target) = self.controls {
            to.push_str("<td>");
            write_control(to, target, id, member.state);
        }
        if explained.is_notable() {
            let columns = if self.controls.is_some() { 8 } else { 7 };
            let _ = write!(to, "<tr><td colspan={columns}>");
            let mut sentence = String::new();
            let _ = explained.write_predicate(&mut sentence);
            let _ = write!(to, "{}", Escaped(sentence));
        }
    }
}

fn write_share(to: &mut String, explained: &MemberExplanation) {
    to.push_str("<td>");
    match explained.share {
        Some(share) if explained.is_picked => {
            let _ = write!(to, "{}", Percent(share));
            graph::write_share(to, share, explained.fair);
        }
        _ => to.push('–'),
    }
    if explained.is_picked {
        let _ = write!(to, "<small>fair {}</small>", Percent(explained.fair));
    }
}

fn write_failures(to: &mut String, member: &MemberStatus) {
    if member.recent_failures == 0 && member.failures_in_row == 0 {
        to.push_str("<td>0");
        return;
    }
    let _ = write!(to, "<td class=bad>{}<small>", member.recent_failures);
    if member.failures_in_row > 1 {
        let _ = write!(to, "{} in a row ", member.failures_in_row);
    }
    let _ = write!(
        to,
        "{}</small>",
        Escaped(member.last_failure.unwrap_or_default())
    );
}

fn write_control(to: &mut String, target: &str, id: &str, state: MemberState) {
    if id.len() > LONGEST_CONTROLLED {
        return;
    }
    let action = match state {
        MemberState::Ejected | MemberState::Probation => "restore",
        _ => "eject",
    };
    let _ = write!(
        to,
        "<button form=hand name=id value=\"{}\" formaction=\"?at={action}&amp;target={target}\">{action}</button>",
        Value(id)
    );
}
