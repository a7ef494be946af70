//! One binary, started as four workers of a role that find and call each other, by their environment alone.
//!
//! The starter gives each of them five variables and a folder to register in, and reads what they say. All four serve
//! `worker:http` and ask it 25 times a second. One is killed, one is told to end and drains, as under any supervisor. The
//! exit code is 0 only if the kill failed no request but those in the victim's hands, and the drain failed none.
//!
//! ```sh
//! cargo run --example worker_role
//! ```

#![expect(clippy::disallowed_methods, reason = "a program may look at the clock")]

mod book;
mod process;
mod work;

use std::env;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rolecall::BoxError;
use rustix::process::Signal;
use tokio::time::sleep;

use crate::book::Book;
use crate::process::Process;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const SECOND: Duration = Duration::from_secs(1);

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<ExitCode, BoxError> {
    if env::args().any(|arg| arg == process::AS_WORKER) {
        work::run().await?;
        return Ok(ExitCode::SUCCESS);
    }

    let folder = env::temp_dir().join(format!("rolecall-worker-role-{}", std::process::id()));
    let told = tell(&folder.to_string_lossy()).await;
    // What is left of the one that was killed.
    let _ = std::fs::remove_dir_all(&folder);
    Ok(if told? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The story; whether it came true.
async fn tell(folder: &str) -> Result<bool, BoxError> {
    let book = Book::default();
    let mut workers = Vec::new();
    for name in NAMES {
        workers.push(Process::start(name, folder, &book)?);
    }
    let met = |asking: &[&str], answering: &[&str]| {
        let pairs = asking
            .iter()
            .flat_map(|a| answering.iter().map(move |b| (a, b)));
        pairs.into_iter().all(|(a, b)| book.answers(a, b) > 0)
    };
    wait("each was answered by each", || met(&NAMES, &NAMES)).await?;
    println!("a, b, c and d found each other in {folder}");

    let mut d = workers.pop().ok_or("four were started")?;
    let mut c = workers.pop().ok_or("four were started")?;
    c.signal(Signal::KILL)?;
    c.ended().await?;
    let in_hand = book.failures().len();
    sleep(2 * SECOND).await;
    let failed = book.failures();
    println!("c was killed: {} failed", failed.len());
    for failure in &failed {
        println!("  {failure}");
    }
    // Three callers, and a request takes a millisecond or two.
    let mut came_true = failed.len() <= 3 + in_hand;

    let before = failed.len();
    d.signal(Signal::TERM)?;
    let status = d.ended().await?;
    let answered = book.answered(&["d"]);
    sleep(SECOND).await;
    let failed = book.failures();
    println!(
        "d was told to end, drained, and ended: {status}; {} failed",
        failed.len() - before
    );
    for failure in &failed[before..] {
        println!("  {failure}");
    }
    came_true &= status.success() && failed.len() == before && book.answered(&["d"]) == answered;

    for worker in &mut workers {
        worker.signal(Signal::TERM)?;
    }
    for worker in &mut workers {
        came_true &= worker.ended().await?.success();
    }
    book.print(&NAMES);
    Ok(came_true && book.failures().len() == before)
}

async fn wait(what: &str, condition: impl Fn() -> bool) -> Result<(), BoxError> {
    let began = Instant::now();
    while !condition() {
        if began.elapsed() > 20 * SECOND {
            return Err(format!("waited 20 s in vain until {what}").into());
        }
        sleep(SECOND / 100).await;
    }
    Ok(())
}
