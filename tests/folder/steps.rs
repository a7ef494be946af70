//! A registrant is killed before each of its system calls on the disk, one after the other.

use std::collections::HashMap;
use std::fs;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rolecall::Lease;
use tokio::time;

use crate::child::Child;
use crate::{Answers, Place, ids, registered};

/// How long a killed one may be seen, and may hold its id.
const GONE: Duration = Duration::from_secs(1);

/// Without `read`, which changes nothing, and in which the process waits to be told.
fn is_of_disk(call: libc::c_long) -> bool {
    [
        libc::SYS_open,
        libc::SYS_openat,
        libc::SYS_close,
        libc::SYS_pread64,
        libc::SYS_write,
        libc::SYS_lseek,
        libc::SYS_fcntl,
        libc::SYS_stat,
        libc::SYS_lstat,
        libc::SYS_fstat,
        libc::SYS_newfstatat,
        libc::SYS_statx,
        libc::SYS_mkdir,
        libc::SYS_chmod,
        libc::SYS_fchmod,
        libc::SYS_rename,
        libc::SYS_renameat2,
        libc::SYS_unlink,
        libc::SYS_unlinkat,
        libc::SYS_getdents64,
    ]
    .contains(&call)
}

/// Follows the system calls of a process until it ends, and kills it when it is about to make the call of this number on the
/// disk. Returns how many it made; `ready` is told when the process is followed, or may not be.
fn follow(process: Pid, last: usize, ready: &mpsc::Sender<Result<(), Errno>>) -> usize {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let threads: Vec<_> = threads
        .map(|thread| thread.unwrap().file_name().into_string().unwrap())
        .map(|thread| Pid::from_raw(thread.parse().unwrap()))
        .collect();
    let options = Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_TRACESYSGOOD;
    for thread in &threads {
        let followed = ptrace::seize(*thread, options).and_then(|()| ptrace::interrupt(*thread));
        if followed.is_err() {
            ready.send(followed).unwrap();
            return 0;
        }
    }
    let mut stopped = 0;
    let mut calls = 0;
    let mut is_inside = HashMap::new();
    // Of this thread's children only: other tests have some of their own.
    let any = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
    loop {
        let (thread, signal) = match waitpid(None, Some(any)) {
            Ok(WaitStatus::PtraceSyscall(thread)) => {
                let is_inside = is_inside.entry(thread).or_insert(false);
                *is_inside = !*is_inside;
                let call = ptrace::getregs(thread).map(|registers| registers.orig_rax);
                if *is_inside && call.is_ok_and(|call| is_of_disk(call.cast_signed())) {
                    calls += 1;
                    if calls == last {
                        kill(process, Signal::SIGKILL).unwrap();
                    }
                }
                (thread, None)
            }
            Ok(WaitStatus::PtraceEvent(thread, ..)) => {
                stopped += 1;
                if stopped == threads.len() {
                    ready.send(Ok(())).unwrap();
                }
                (thread, None)
            }
            Ok(WaitStatus::Stopped(thread, signal)) => (thread, Some(signal)),
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(Errno::ECHILD) => return calls,
            Err(error) => panic!("following a process: {error}"),
        };
        // One that was killed meanwhile cannot go on.
        let _ = ptrace::syscall(thread, signal);
    }
}

/// What the killed one must not have done: hidden somebody who lives, torn a record, kept its id or left a file.
struct Aftermath {
    place: Place,
    answers: Answers,
    _lives: Lease,
}

impl Aftermath {
    async fn new() -> Self {
        let place = Place::new();
        let _lives = registered(&place.folder(), "lives").await;
        let mut answers = Answers::of(&place.folder());
        answers.ids(&["lives"]).await;
        Self {
            place,
            answers,
            _lives,
        }
    }

    /// Waits for exactly these ids.
    async fn are(&mut self, wanted: &[&str], step: &str) {
        loop {
            let answer = self.answers.next().await;
            let set = answer.unwrap_or_else(|error| panic!("{step}: {error:?}"));
            assert!(set.get("lives").is_some(), "{step}: one who lives is lost");
            if ids(&set) == wanted {
                return;
            }
        }
    }

    async fn check(&mut self, step: &str) {
        // Whoever comes now sees no ghost, nor does one who was there claim the id in vain.
        let fresh = time::timeout(GONE, async {
            let mut fresh = Answers::of(&self.place.folder());
            fresh.ids(&["lives"]).await;
        });
        fresh.await.unwrap_or_else(|_| panic!("{step}: a ghost"));
        let claimed = time::timeout(GONE, registered(&self.place.folder(), "dies")).await;
        let claimed = claimed.unwrap_or_else(|_| panic!("{step}: the id is stuck"));
        self.are(&["dies", "lives"], step).await;
        claimed.deregister().await.unwrap();
        self.are(&["lives"], step).await;
        assert_eq!(self.place.records().len(), 1, "{step}: a record is left");
        let left = fs::read_dir(self.place.at(".rolecall/tmp"))
            .unwrap()
            .count();
        assert_eq!(left, 0, "{step}: an unfinished record is left");
    }
}

/// Kills registrants before every `stride`-th call of what they do.
async fn killed_at_each_step(does: &'static str, stride: usize) {
    let mut aftermath = Aftermath::new().await;
    for last in (1..).step_by(stride) {
        let step = format!("{does}, killed before call {last}");
        let mut child = Child::step(does, &aftermath.place.0, "dies");
        assert_eq!(child.next_line().as_deref(), Some("ready"));
        let process = child.process();
        let (ready, is_ready) = mpsc::channel();
        let follower = thread::spawn(move || follow(process, last, &ready));
        if let Err(error) = is_ready.recv().unwrap() {
            return println!("not tested: processes may not be followed here ({error})");
        }
        child.ask("go");
        let is_done = child.next_line().is_some();
        child.kill_if_there();
        let calls = follower.join().unwrap();
        aftermath.check(&step).await;
        if is_done {
            assert!(calls >= 5, "{step}: {calls} calls");
            println!("{does}: killed before every {stride}. of {calls} calls");
            return;
        }
    }
}

#[tokio::test]
async fn a_registrant_killed_at_a_step_of_its_registration_harms_nobody() {
    killed_at_each_step("register", 5).await;
}

#[tokio::test]
async fn a_registrant_killed_at_a_step_of_an_edit_harms_nobody() {
    killed_at_each_step("edit", 5).await;
}

#[tokio::test]
async fn a_registrant_killed_at_a_step_of_its_withdrawal_harms_nobody() {
    killed_at_each_step("withdraw", 3).await;
}

#[tokio::test]
#[ignore = "a process for each system call"]
async fn a_registrant_killed_at_any_step_harms_nobody() {
    for does in ["register", "edit", "withdraw"] {
        killed_at_each_step(does, 1).await;
    }
}
