//! Tasks, descriptors and memory of this process.

use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use rolecall::BoxError;
use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::callers;

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Idle connections are gone by then.
const STEADY: Duration = callers::IDLE.saturating_add(Duration::from_secs(1));
const MOST: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Of the callers' runtime, which is not the servers'.
    pub(crate) tasks: usize,
    pub(crate) descriptors: usize,
    /// Resident memory in KiB, without the pages of files: those of the program itself come as its code is used.
    pub(crate) memory: u64,
}

impl Usage {
    pub(crate) fn now() -> Result<Self, BoxError> {
        let status = fs::read_to_string("/proc/self/status")?;
        let memory = status.lines().find_map(|line| {
            let rest = line.strip_prefix("RssAnon:")?;
            rest.trim().strip_suffix(" kB")?.parse().ok()
        });
        Ok(Self {
            tasks: Handle::current().metrics().num_alive_tasks(),
            descriptors: fs::read_dir("/proc/self/fd")?.count(),
            memory: memory.ok_or("/proc/self/status: expected RssAnon in kB")?,
        })
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = self.memory as f64 / 1024.0;
        let (tasks, descriptors) = (self.tasks, self.descriptors);
        write!(
            f,
            "{tasks} tasks, {descriptors} descriptors, {memory:.1} MiB"
        )
    }
}

/// What is used once tasks and descriptors did not change for a while.
pub(crate) async fn settled() -> Result<Usage, BoxError> {
    let began = Instant::now();
    let mut usage = Usage::now()?;
    let mut since = began;
    while since.elapsed() < STEADY && began.elapsed() < MOST {
        sleep(LOOK_EVERY).await;
        let now = Usage::now()?;
        if (now.tasks, now.descriptors) != (usage.tasks, usage.descriptors) {
            since = Instant::now();
        }
        usage = now;
    }
    Ok(usage)
}
