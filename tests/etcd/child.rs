//! Registrants in processes of their own: this test binary, started again as one.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::process::{self, Command, Stdio};
use std::time::Duration;

use rolecall::discovery::Etcd;
use rolecall::{InstanceId, Registrar, Registration};

/// A process that registers `default/worker` for 1 s at a time; killed when dropped.
pub(crate) struct Child {
    process: process::Child,
    output: BufReader<process::ChildStdout>,
}

impl Child {
    pub(crate) fn start(endpoint: &str, id: &InstanceId, address: &str) -> Self {
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child::registrant", "--ignored", "--nocapture"])
            .env("ROLECALL_TEST_ETCD", endpoint)
            .env("ROLECALL_TEST_ID", id.as_str())
            .env("ROLECALL_TEST_ADDRESS", address)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self { process, output }
    }

    /// Waits until it is registered.
    pub(crate) fn registered(&mut self) {
        let mut said = String::new();
        while !said.contains("registered\n") {
            let read = self.output.read_line(&mut said).unwrap();
            assert!(read > 0, "the child could not register: {said}");
        }
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The child's half. It ends with its parent.
#[tokio::test]
#[ignore = "started by other tests"]
async fn registrant() {
    let (Ok(endpoint), Ok(id), Ok(address)) = (
        env::var("ROLECALL_TEST_ETCD"),
        env::var("ROLECALL_TEST_ID"),
        env::var("ROLECALL_TEST_ADDRESS"),
    ) else {
        return println!("not started by a test");
    };
    let backend = Etcd::builder([endpoint]).ttl(Duration::from_secs(1));
    let registration = Registration::new("worker").id(id);
    let registration = registration.endpoint("http", address.parse::<rolecall::Address>().unwrap());
    let registered = backend.build().unwrap().register(registration).await;
    let _lease = match registered {
        Ok(lease) => lease,
        Err(error) => return println!("refused: {error:?}"),
    };
    println!("registered");
    std::io::stdout().flush().unwrap();
    let parent = tokio::task::spawn_blocking(|| {
        let mut end = String::new();
        let _ = std::io::stdin().read_line(&mut end);
        process::exit(0);
    });
    parent.await.unwrap();
}
