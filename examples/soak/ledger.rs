//! What happened: faults, requests, events, and what no fault explains.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rolecall::Event;

use crate::callers::Caller;
use crate::schedule::Fault;
use crate::servers;
use crate::window::{Cause, Row, Window};

/// A request that was sent this long after a fault may still fail by it: a connection that was reset meanwhile.
const FAILURE_GRACE: Duration = Duration::from_millis(250);
/// A request that was sent before the end of a fault may be judged this long after it: callers wait for up to a second.
const EJECTION_GRACE: Duration = Duration::from_millis(1500);
/// A fault that ended longer ago explains nothing.
const REMEMBERED: Duration = Duration::from_secs(10);
/// Of the log.
const MOST_LINES: usize = 20_000;
const MOST_VIOLATIONS: usize = 1000;
/// Requests whose server is remembered: far more than are under way.
const ASKED: usize = 1 << 14;

/// How one request ended.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    /// Well.
    Answered(u8),
    /// By an error or a bad answer, of that server if it is known.
    Failed(Option<u8>, String),
    /// The caller waited for as long as it ever does.
    TimedOut,
    /// The caller went away early, as some do.
    Cancelled,
}

/// Something that no fault explains.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) at: Instant,
    pub(crate) what: String,
}

pub(crate) struct Ledger {
    began: Instant,
    prints: bool,
    /// Which server has which request, by the last bits of its number.
    asked: Vec<AtomicU64>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    windows: Vec<Window>,
    windows_so_far: u64,
    rows: BTreeMap<Cause, Row>,
    requests: u64,
    failed: u64,
    cancelled: u64,
    ejections: u64,
    log: VecDeque<(Instant, String)>,
    violations: Vec<Violation>,
    /// Answers to the busy caller while shares are counted.
    answers: Option<[u64; servers::COUNT as usize]>,
}

impl Ledger {
    pub(crate) fn new(prints: bool) -> Self {
        Self {
            began: Instant::now(),
            prints,
            asked: (0..ASKED).map(|_| AtomicU64::new(0)).collect(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line to the log.
    pub(crate) fn note(&self, line: String) {
        self.write(&mut self.state(), line);
    }

    fn write(&self, state: &mut State, line: String) {
        let now = Instant::now();
        if self.prints {
            println!("{}", self.line(now, &line));
        }
        if state.log.len() == MOST_LINES {
            state.log.pop_front();
        }
        state.log.push_back((now, line));
    }

    /// Adds something that must not be.
    pub(crate) fn violation(&self, what: String) {
        self.violate(&mut self.state(), what);
    }

    fn violate(&self, state: &mut State, what: String) {
        self.write(state, format!("VIOLATION: {what}"));
        if state.violations.len() < MOST_VIOLATIONS {
            let at = Instant::now();
            state.violations.push(Violation { at, what });
        }
    }

    /// A fault is about to happen. Returns what [`end`](Self::end) takes.
    pub(crate) fn begin(&self, fault: Fault, server: Option<u8>, what: &str) -> u64 {
        let mut state = self.state();
        let cause = Cause::Fault(fault);
        let name = fault.name();
        let line = match server {
            Some(server) => format!("{}: {name} begins{what}", servers::id(server)),
            None => format!("{name} begins{what}"),
        };
        self.write(&mut state, line);
        state.rows.entry(cause).or_default().times += 1;
        state.open(cause, server, Instant::now())
    }

    pub(crate) fn end(&self, number: u64) {
        let mut state = self.state();
        let now = Instant::now();
        let window = state.windows.iter_mut().find(|it| it.number == number);
        let Some(window) = window else {
            return;
        };
        window.ended = Some(now);
        let Window { cause, server, .. } = *window;
        if let Cause::Fault(fault) = cause {
            let of = server.map_or_else(String::new, |it| format!("{}: ", servers::id(it)));
            self.write(&mut state, format!("{of}{} is over", fault.name()));
        }
        let is_remembered = |it: &Window| it.ended.is_none_or(|ended| ended + REMEMBERED > now);
        state.windows.retain(is_remembered);
    }

    /// This process did not run.
    pub(crate) fn stalled(&self, from: Instant, to: Instant) {
        let mut state = self.state();
        let number = state.open(Cause::Stall, None, from);
        state.rows.entry(Cause::Stall).or_default().times += 1;
        let line = format!("this process stood still for {:.0?}", to - from);
        self.write(&mut state, line);
        drop(state);
        self.end(number);
    }

    /// A server got a request.
    pub(crate) fn asked(&self, request: u64, server: u8) {
        let entry = request << 8 | u64::from(server);
        self.asked[request as usize % ASKED].store(entry, Relaxed);
    }

    /// The server that got a request last.
    fn server_of(&self, request: u64) -> Option<u8> {
        let entry = self.asked[request as usize % ASKED].load(Relaxed);
        (entry >> 8 == request).then_some((entry & 0xff) as u8)
    }

    /// A request ended just now.
    pub(crate) fn ended(&self, caller: Caller, request: u64, sent: Instant, ending: &Ending) {
        let now = Instant::now();
        let server = match ending {
            Ending::Answered(server) | Ending::Failed(Some(server), _) => Some(*server),
            _ => self.server_of(request),
        };
        let failed = matches!(ending, Ending::Failed(..) | Ending::TimedOut);
        let mut state = self.state();
        state.requests += 1;
        state.failed += u64::from(failed);
        state.cancelled += u64::from(matches!(ending, Ending::Cancelled));
        if let (Caller::Busy, Ending::Answered(server)) = (caller, ending)
            && let Some(answers) = &mut state.answers
            && let Some(answers) = answers.get_mut(usize::from(*server))
        {
            *answers += 1;
        }
        let concerns = |it: &&Window| {
            it.covers(sent, now, FAILURE_GRACE) && (it.server.is_none() || it.server == server)
        };
        let mut causes: Vec<_> = state
            .windows
            .iter()
            .filter(concerns)
            .map(|it| it.cause)
            .collect();
        causes.sort_unstable();
        causes.dedup();
        let explains = |cause: &Cause| match cause {
            Cause::Fault(fault) => fault.explains_failures(),
            Cause::Stall => matches!(ending, Ending::TimedOut),
            Cause::Nothing => false,
        };
        // Those that explain failures come first.
        let explanation = causes.iter().copied().find(explains);
        if causes.is_empty() {
            causes.push(Cause::Nothing);
        }
        for cause in &causes {
            state.rows.entry(*cause).or_default().requests += 1;
        }
        if !failed {
            return;
        }
        let row = state
            .rows
            .entry(explanation.unwrap_or(causes[0]))
            .or_default();
        row.failed += 1;
        row.explained += u64::from(explanation.is_some());
        if explanation.is_none() {
            let of = server.map_or_else(|| "no server".to_owned(), servers::id);
            let what = match ending {
                Ending::Failed(_, what) => what,
                _ => "timed out",
            };
            let took = now - sent;
            let line = format!("a request of the {caller} caller failed, {of}, {took:.0?}: {what}");
            self.violate(&mut state, line);
        }
    }

    /// Something happened to a balancer.
    pub(crate) fn event(&self, caller: Caller, event: &Event) {
        let now = Instant::now();
        let mut state = self.state();
        self.write(&mut state, format!("{caller}: {event}"));
        let id = match event {
            Event::Ejected { id, .. } => id,
            // An ejection may have been among them.
            Event::Missed { .. } => return self.violate(&mut state, format!("{caller}: {event}")),
            _ => return,
        };
        state.ejections += 1;
        let server = servers::number(id.as_str());
        let explains = |it: &Window| {
            let explains = matches!(it.cause, Cause::Fault(fault) if fault.explains_ejections());
            explains && it.server == server && it.covers(now, now, EJECTION_GRACE)
        };
        if !state.windows.iter().any(explains) {
            self.violate(
                &mut state,
                format!("ejected without a fault: {caller}: {event}"),
            );
        }
    }

    pub(crate) fn begin_shares(&self) {
        self.state().answers = Some(Default::default());
    }

    /// Every server must have between 0.7 and 1.4 of the mean.
    pub(crate) fn end_shares(&self) {
        let mut state = self.state();
        let answers = state.answers.take().unwrap_or_default();
        let fair = answers.iter().sum::<u64>() as f64 / f64::from(servers::COUNT);
        let shares = answers.map(|answers| answers as f64 / fair);
        let text: Vec<_> = shares.iter().map(|share| format!("{share:.2}")).collect();
        let line = format!("shares of {fair:.0} answers each: {}", text.join(" "));
        if shares.iter().all(|share| (0.7..=1.4).contains(share)) {
            self.write(&mut state, line);
        } else {
            self.violate(&mut state, line);
        }
    }

    pub(crate) fn progress(&self) -> String {
        let state = self.state();
        let (failed, violations) = (state.failed, state.violations.len());
        format!(
            "{} requests, {failed} failed, {violations} violations",
            state.requests
        )
    }

    pub(crate) fn totals(&self) -> String {
        let state = self.state();
        let (requests, cancelled, ejections) = (state.requests, state.cancelled, state.ejections);
        format!("{requests} requests, {cancelled} cancelled by callers, {ejections} ejections")
    }

    pub(crate) fn ejections(&self) -> u64 {
        self.state().ejections
    }

    pub(crate) fn row(&self, cause: Cause) -> Row {
        self.state().rows.get(&cause).copied().unwrap_or_default()
    }

    pub(crate) fn violations(&self) -> Vec<Violation> {
        self.state().violations.clone()
    }

    /// The lines of the log from `before` it to a second after it.
    pub(crate) fn excerpt(&self, violation: &Violation, before: Duration) -> Vec<String> {
        let to = violation.at + Duration::from_secs(1);
        let state = self.state();
        let lines = state.log.iter();
        let lines = lines.filter(|(at, _)| *at + before >= violation.at && *at <= to);
        lines.map(|(at, line)| self.line(*at, line)).collect()
    }

    fn line(&self, at: Instant, line: &str) -> String {
        let line = format!("{:>8.2} s  {line}", (at - self.began).as_secs_f64());
        line.chars().take(100).collect()
    }
}

impl State {
    fn open(&mut self, cause: Cause, server: Option<u8>, began: Instant) -> u64 {
        self.windows_so_far += 1;
        self.windows.push(Window {
            number: self.windows_so_far,
            cause,
            server,
            began,
            ended: None,
        });
        self.windows_so_far
    }
}
