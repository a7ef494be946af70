//! Registrants in processes of their own: this test binary, started again as one.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, Command, Stdio};

use rolecall::Registrar;
use rolecall::discovery::{Folder, RegisterErrorKind};
use rustix::process::{Pid, Signal, kill_process, umask};

use crate::{Answers, ids, worker};

/// Set where the folder has several users.
const SHARED: &str = "ROLECALL_TEST_SHARED";
/// What a child does that is to be killed in the midst of it.
const STEP: &str = "ROLECALL_TEST_STEP";

/// A process that registers `default/worker`, watches it or claims an id of it; killed when dropped.
pub(crate) struct Child(process::Child, BufReader<process::ChildStdout>);

impl Child {
    /// One that is registered.
    pub(crate) fn start(folder: &Path, id: &str) -> Self {
        let mut child = Self::run("registrant", folder, id);
        assert_eq!(child.line(), "registered");
        child
    }

    /// One that tells the ids of every set that it is given.
    pub(crate) fn watch(folder: &Path) -> Self {
        Self::run("watcher", folder, "")
    }

    /// One that claims this id whenever it is [asked](Self::ask).
    pub(crate) fn claim(folder: &Path, id: &str) -> Self {
        Self::run("claimant", folder, id)
    }

    /// The lines that a watcher tells up to the first with this many ids.
    pub(crate) fn told(&mut self, ids: usize) -> Vec<String> {
        let mut told = Vec::new();
        while told
            .last()
            .is_none_or(|last: &String| last.split(' ').count() != ids)
        {
            told.push(self.line());
        }
        told
    }

    /// Says a line to a claimant.
    pub(crate) fn ask(&mut self, what: &str) {
        let stdin = self.0.stdin.as_mut().unwrap();
        writeln!(stdin, "{what}").unwrap();
    }

    /// The next line that it says with the mark of ours.
    pub(crate) fn line(&mut self) -> String {
        self.next_line().expect("the child has not ended")
    }

    /// The same; `None` if it has ended.
    pub(crate) fn next_line(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.1.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            // The harness writes the name of its test in front of it.
            if let Some((_, said)) = line.trim_end().split_once("said: ") {
                return Some(said.to_owned());
            }
        }
    }

    /// One of another user, who may execute `program`, a copy of this one; the folder is shared.
    pub(crate) fn of_user(uid: u32, program: &Path, what: &str, folder: &Path, id: &str) -> Self {
        let mut command = Command::new(program);
        command.uid(uid).current_dir("/").env(SHARED, "yes");
        Self::run_by(command, what, folder, id)
    }

    /// One that registers, edits or withdraws when it is [asked](Self::ask).
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn step(does: &str, folder: &Path, id: &str) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.env(STEP, does);
        Self::run_by(command, "stepped", folder, id)
    }

    #[cfg(target_arch = "x86_64")]
    pub(crate) fn process(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.0.id().cast_signed())
    }

    /// Kills it; it may have ended, and whoever follows it may have waited for it.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn kill_if_there(&mut self) {
        let _ = self.0.kill();
    }

    fn run(what: &str, folder: &Path, id: &str) -> Self {
        let command = Command::new(env::current_exe().unwrap());
        Self::run_by(command, what, folder, id)
    }

    fn run_by(mut command: Command, what: &str, folder: &Path, id: &str) -> Self {
        let mut process = command
            .args([
                "--exact",
                &format!("child::{what}"),
                "--ignored",
                "--nocapture",
            ])
            .env("ROLECALL_TEST_FOLDER", folder)
            .env("ROLECALL_TEST_ID", id)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self(process, output)
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
    let mut folder = Folder::new(folder);
    if env::var_os(SHARED).is_some() {
        folder = folder.allow_other_writers();
    }
    let lease = match folder.register(worker(&id)).await {
        Ok(lease) => lease,
        Err(error) => return say(&format!("refused: {error:?}")),
    };
    say("registered");
    tokio::task::spawn_blocking(|| {
        let mut end = String::new();
        let _ = std::io::stdin().read_line(&mut end);
        process::exit(0);
    });
    std::future::pending::<()>().await;
    drop(lease);
}

fn say(what: &str) {
    println!("said: {what}");
    std::io::stdout().flush().unwrap();
}

/// Tells every set, and ends with its parent.
#[tokio::test]
#[ignore = "started by other tests"]
async fn watcher() {
    let Ok(folder) = env::var("ROLECALL_TEST_FOLDER") else {
        return println!("not started by a test");
    };
    let mut answers = Answers::of(&Folder::new(folder));
    loop {
        match futures::StreamExt::next(&mut answers.0).await {
            Some(Ok(set)) => say(&ids(&set).join(" ")),
            Some(Err(error)) => say(&format!("error: {error}")),
            None => return,
        }
    }
}

/// Claims its id when it is told to, says whether it got it, and gives it back or ends with it.
#[tokio::test]
#[ignore = "started by other tests"]
async fn claimant() {
    let (Ok(folder), Ok(id)) = (
        env::var("ROLECALL_TEST_FOLDER"),
        env::var("ROLECALL_TEST_ID"),
    ) else {
        return println!("not started by a test");
    };
    let folder = Folder::new(folder);
    let mut lease = None;
    for line in std::io::stdin().lines() {
        match line.unwrap().as_str() {
            "claim" => match folder.register(worker(&id)).await {
                Ok(new) => {
                    lease = Some(new);
                    say("won");
                }
                Err(error) => {
                    assert_eq!(error.kind(), RegisterErrorKind::IdTaken, "{error:?}");
                    say("lost");
                }
            },
            _ => {
                if let Some(lease) = lease.take() {
                    lease.deregister().await.unwrap();
                }
                say("left");
            }
        }
    }
}

/// Does one thing when it is told to, says so, and waits to be killed.
#[tokio::test]
#[ignore = "started by other tests"]
async fn stepped() {
    let (Ok(folder), Ok(id), Ok(does)) = (
        env::var("ROLECALL_TEST_FOLDER"),
        env::var("ROLECALL_TEST_ID"),
        env::var(STEP),
    ) else {
        return println!("not started by a test");
    };
    let folder = Folder::new(folder);
    let lease = match does.as_str() {
        "register" => None,
        _ => Some(folder.register(worker(&id)).await.unwrap()),
    };
    let mut lines = std::io::stdin().lines();
    say("ready");
    lines.next();
    match lease {
        None => std::mem::forget(folder.register(worker(&id)).await.unwrap()),
        Some(lease) if does == "withdraw" => lease.deregister().await.unwrap(),
        Some(lease) => {
            let addr = ([10, 0, 0, 7], 81);
            lease.add_endpoint("http", addr).await.unwrap();
            // Killed with it, and not withdrawn.
            std::mem::forget(lease);
        }
    }
    say("done");
    lines.next();
}
