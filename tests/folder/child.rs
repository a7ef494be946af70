//! Registrants in processes of their own: this test binary, started again as one.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{self, Command, Stdio};

use rolecall::Registrar;
use rolecall::discovery::Folder;
use rustix::process::{Pid, Signal, kill_process, umask};

use crate::worker;

/// A process that registers `default/worker`; killed when dropped.
pub(crate) struct Child(process::Child);

impl Child {
    /// One that is registered.
    pub(crate) fn start(folder: &Path, id: &str) -> Self {
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child::registrant", "--ignored", "--nocapture"])
            .env("ROLECALL_TEST_FOLDER", folder)
            .env("ROLECALL_TEST_ID", id)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut said = String::new();
        while !said.contains("registered\n") {
            let read = output.read_line(&mut said).unwrap();
            assert!(read > 0, "the child could not register: {said}");
        }
        Self(process)
    }

    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().cast_signed()).unwrap()
    }

    /// Processor time so far, in ticks of the system.
    pub(crate) fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let after_name = stat.rsplit_once(") ").unwrap().1;
        let fields: Vec<_> = after_name.split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// How often its threads gave up the processor by themselves, which is once for each wake-up.
    pub(crate) fn wake_ups(&self) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.0.id())).unwrap();
        let status = tasks.map(|task| {
            let status = task.unwrap().path().join("status");
            std::fs::read_to_string(status).unwrap_or_default()
        });
        let voluntary = status.filter_map(|status| {
            let line = status
                .lines()
                .find(|l| l.starts_with("voluntary_ctxt_switches"));
            line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        });
        voluntary.sum()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The child's half. It ends with its parent.
#[tokio::test]
#[ignore = "started by other tests"]
async fn registrant() {
    let (Ok(folder), Ok(id)) = (
        env::var("ROLECALL_TEST_FOLDER"),
        env::var("ROLECALL_TEST_ID"),
    ) else {
        return println!("not started by a test");
    };
    // The worst that a process can have inherited.
    umask(rustix::fs::Mode::empty());
    let lease = match Folder::new(folder).register(worker(&id)).await {
        Ok(lease) => lease,
        Err(error) => return println!("refused: {error:?}"),
    };
    println!("registered");
    std::io::stdout().flush().unwrap();
    tokio::task::spawn_blocking(|| {
        let mut end = String::new();
        let _ = std::io::stdin().read_line(&mut end);
        process::exit(0);
    });
    std::future::pending::<()>().await;
    drop(lease);
}
