//! The part of the page that changes: a section for each balancer.

use std::fmt::Write as _;
use std::time::Duration;

use super::escape::{Escaped, Name};
use super::graph::{self, Figure};
use super::instance::{HEAD, Rows};
use super::parameters::encoded;
use super::recorder::Record;
use super::state::Urgency;
use super::timeline::{Clocks, Tone};
use crate::explain::reason::Percent;
use crate::runtime::duration::Rounded;
use crate::runtime::text::Counted;
use crate::status::{EjectionMode, MemberStatus};

/// How many instances are shown in all, and at least of each balancer.
const ROWS: usize = 40;
const LEAST_ROWS: usize = 3;
/// How many events are shown of each balancer where there are several.
const EVENTS: usize = 8;

/// What a viewer asked to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// The name of one balancer; of all if there is none.
    pub(super) target: Option<String>,
    /// Whether all instances are shown. Only of one balancer.
    pub(super) is_whole: bool,
    pub(super) has_controls: bool,
}

/// Writes what a viewer sees. It has no line feed.
pub(super) fn write(to: &mut String, records: &[Record], view: &View, clocks: Clocks) {
    let is_shown = |record: &&Record| {
        let target = view.target.as_deref();
        target.is_none_or(|target| *record.name == *target)
    };
    let mut shown: Vec<Section<'_>> = records.iter().filter(is_shown).map(Section::of).collect();
    // The sort is stable: balancers in the same condition keep their order.
    shown.sort_by_key(|section| (section.urgency(), section.out == 0));
    write_heading(to, &shown, clocks);
    let limit = if view.is_whole && view.target.is_some() {
        usize::MAX
    } else {
        (ROWS / shown.len().max(1)).max(LEAST_ROWS)
    };
    for section in &shown {
        let events = if shown.len() > 1 { EVENTS } else { usize::MAX };
        section.write(to, view, clocks, limit, events);
    }
}

/// The one line that answers whether anything is wrong, and the links to sections.
fn write_heading(to: &mut String, shown: &[Section<'_>], clocks: Clocks) {
    let out: usize = shown.iter().map(|section| section.out).sum();
    let known = shown
        .iter()
        .map(|section| section.record.status.members.len());
    let known: usize = known.sum();
    let worst = shown.iter().map(Section::urgency).min();
    let class = worst.map_or("aside", Urgency::class);
    let _ = write!(to, "<h1 class={class}>");
    let _ = match (out, shown.len()) {
        (_, 0) => write!(to, "no such balancer"),
        (0, _) if class == "out" => write!(to, "requests cannot be served"),
        (0, _) => write!(to, "no instance is out, {known} known"),
        (out, _) => write!(to, "{out} of {} out", Counted(known as u64, "instance")),
    };
    let _ = write!(to, "<time>{} UTC</time></h1>", clocks.at(clocks.now));
    if shown.len() > 1 {
        to.push_str("<nav>");
        for section in shown {
            let (class, name) = (section.urgency().class(), &section.record.name);
            let _ = write!(
                to,
                "<a class={class} href=\"?target={}\">{}<small>{} of {} usable</small></a>",
                encoded(name),
                Name(name),
                section.record.status.usable,
                section.record.status.members.len()
            );
        }
        to.push_str("</nav>");
    }
}

struct Section<'a> {
    record: &'a Record,
    /// The indices of members, the most urgent first.
    order: Vec<(Urgency, usize)>,
    out: usize,
}

impl<'a> Section<'a> {
    fn of(record: &'a Record) -> Self {
        let members = record.status.members.iter();
        let members = members.zip(&record.explanation.members).enumerate();
        let urgency = |(at, (member, explained))| (Urgency::of(member, explained), at);
        let mut order: Vec<_> = members.map(urgency).collect();
        order.sort_unstable();
        let is_out = |(urgency, _): &&(Urgency, usize)| *urgency == Urgency::Out;
        let out = order.iter().filter(is_out).count();
        Self { record, order, out }
    }

    fn urgency(&self) -> Urgency {
        let status = &self.record.status;
        if status.usable == 0 || status.panic_mode || self.out > 0 {
            return Urgency::Out;
        }
        if status.discovery_error.is_some() || status.doubted_for.is_some() {
            return Urgency::Wrong;
        }
        let worst = self.order.first().map(|(urgency, _)| *urgency);
        match worst {
            Some(Urgency::Wrong) => Urgency::Wrong,
            _ => Urgency::Fine,
        }
    }

    fn write(&self, to: &mut String, view: &View, clocks: Clocks, limit: usize, events: usize) {
        let record = self.record;
        let status = &record.status;
        let target = encoded(&record.name);
        let class = self.urgency().class();
        let _ = write!(to, "<section class={class}><h2>{}</h2>", Name(&record.name));
        if view.has_controls {
            write_shadow(to, &target, status.ejection_mode);
        }
        let mut sentence = String::new();
        let _ = record.explanation.write_sentence(&mut sentence);
        let _ = write!(to, "<p>{}</p>", Escaped(sentence));
        self.write_facts(to);
        self.write_members(to, view, clocks, (&target, limit));
        self.write_events(to, clocks, events);
        to.push_str("</section>");
    }

    /// The figures of the whole balancer.
    fn write_facts(&self, to: &mut String) {
        let status = &self.record.status;
        let sum = |figure: fn(&MemberStatus) -> u32| -> u64 {
            status
                .members
                .iter()
                .map(|member| u64::from(figure(member)))
                .sum()
        };
        let (requests, failures) = (sum(|m| m.recent_requests), sum(|m| m.recent_failures));
        let history = &self.record.history;
        to.push_str("<dl><div><dt>requests<dd>");
        let _ = write!(to, "{} in 10 s", requests);
        let scale = graph::highest(history.all(), Figure::Requests);
        graph::write(to, history.all(), Figure::Requests, scale);
        to.push_str("</div><div><dt>failed<dd>");
        let share = failures as f64 / (requests as f64).max(1.0);
        let _ = write!(to, "{} in 10 s, {}", failures, Percent(share));
        to.push_str("</div><div><dt>mean latency<dd>");
        match status.mean_latency {
            Some(latency) => {
                let _ = write!(to, "{}", Rounded(latency));
            }
            None => to.push('–'),
        }
        let scale = graph::highest(history.all(), Figure::Latency);
        graph::write(to, history.all(), Figure::Latency, scale);
        let _ = write!(
            to,
            "</div><div><dt>in flight<dd>{}</div>",
            sum(|m| m.in_flight)
        );
        self.write_ejection(to);
        let _ = match status.set_age {
            Some(age) => write!(to, "<div><dt>set<dd>{} old</div></dl>", Rounded(age)),
            None => write!(to, "<div><dt>set<dd>none yet</div></dl>"),
        };
    }

    fn write_ejection(&self, to: &mut String) {
        let status = &self.record.status;
        let _ = match status.ejection_mode {
            EjectionMode::Shadow => write!(to, "<div><dt>ejection<dd>in shadow</div>"),
            EjectionMode::Off => write!(to, "<div><dt>ejection<dd>off</div>"),
            _ => write!(
                to,
                "<div><dt>may be ejected<dd>{} at once</div>",
                status.ejection_cap
            ),
        };
    }

    fn write_members(
        &self,
        to: &mut String,
        view: &View,
        clocks: Clocks,
        (target, limit): (&str, usize),
    ) {
        let Record {
            status,
            explanation,
            history,
            ..
        } = self.record;
        if status.members.is_empty() {
            return;
        }
        let shown = &self.order[..self.order.len().min(limit)];
        let samples = || {
            let ids = shown
                .iter()
                .map(|&(_, at)| status.members[at].instance.id());
            ids.flat_map(|id| history.of(id))
        };
        let rows = Rows {
            status,
            history,
            clocks,
            controls: view.has_controls.then_some(target),
            most_requests: graph::highest(samples(), Figure::Requests),
            most_latency: graph::highest(samples(), Figure::Latency),
        };
        let _ = write!(to, "<table>{HEAD}");
        if view.has_controls {
            to.push_str("<th scope=col>by hand");
        }
        for &(_, at) in shown {
            rows.write(to, &status.members[at], &explanation.members[at]);
        }
        to.push_str("</table>");
        let hidden = &self.order[shown.len()..];
        if let Some(&(worst, _)) = hidden.first() {
            let is_fine = if worst == Urgency::Fine {
                ", all of them fine"
            } else {
                ""
            };
            let _ = write!(
                to,
                "<p class=more>{} not shown{is_fine}. <a href=\"?target={target}&amp;all\">Show all {}</a></p>",
                Counted(hidden.len() as u64, "instance"),
                self.order.len()
            );
        }
    }

    fn write_events(&self, to: &mut String, clocks: Clocks, limit: usize) {
        to.push_str("<h3>Events</h3>");
        let entries = self.record.timeline.entries();
        if entries.len() == 0 {
            to.push_str("<p class=more>None since the console was set up.</p>");
            return;
        }
        to.push_str("<ol>");
        for entry in entries.take(limit) {
            let class = match entry.tone {
                Tone::Bad => "out",
                Tone::Good => "fine",
                Tone::Plain => "aside",
            };
            let ago = clocks.now.saturating_duration_since(entry.at);
            let ago = Duration::from_secs(ago.as_secs());
            let _ = write!(
                to,
                "<li class={class}><time>{}</time><small>{} ago</small><span>{}",
                clocks.at(entry.at),
                Rounded(ago),
                Escaped(&entry.text)
            );
            if entry.times > 1 {
                let _ = write!(to, " <b>{} times</b>", entry.times);
            }
            to.push_str("</span>");
        }
        to.push_str("</ol>");
    }
}

fn write_shadow(to: &mut String, target: &str, mode: EjectionMode) {
    let (value, text) = match mode {
        EjectionMode::On => ("on", "stop ejecting, only report"),
        EjectionMode::Shadow => ("off", "eject again"),
        EjectionMode::Off => return,
    };
    let _ = write!(
        to,
        "<button form=hand name=shadow value={value} formaction=\"?at=shadow&amp;target={target}\">{text}</button>"
    );
}
