//! A server that may open no more files. In a process of its own, since the limit is that of the whole process.

use std::env;
use std::net::SocketAddr;
use std::process::Stdio;

use futures::StreamExt;
use rolecall::Registry;
use rolecall::guard::{Guard, GuardEvent};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use super::support::*;

const SERVER: &str = "out_of_files::the_server";
/// Set where it is started, so that nobody else's files are limited by accident.
const STARTED: &str = "ROLECALL_OUT_OF_FILES";
const FILES: u64 = 40;

#[tokio::test]
async fn a_server_out_of_files_accepts_again_once_it_has_some() {
    let mut process = Command::new(env::current_exe().unwrap())
        .args(["--exact", SERVER, "--ignored", "--nocapture"])
        .env(STARTED, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut says = async |what: &str| {
        in_time(async {
            loop {
                let line = said.next_line().await.unwrap().expect("it lives");
                // The harness says something on the same line before.
                if let Some((_, rest)) = line.split_once(what) {
                    return rest.trim().to_owned();
                }
            }
        })
        .await
    };
    let addr: SocketAddr = says("it listens at").await.parse().unwrap();
    // The system accepts them all; the server can take on some.
    let mut friends = Vec::new();
    for _ in 0..2 * FILES {
        friends.push(connect(FRIEND, addr).await);
    }
    says("accepting failed").await;
    greet(&mut friends[0], b"x")
        .await
        .expect("it was accepted before");
    let mut last = friends.pop().unwrap();
    let waiting = tokio::spawn(async move { greet(&mut last, b"x").await });
    drop(friends);
    waiting
        .await
        .unwrap()
        .expect("accepted once there was room");
    greet(&mut connect(FRIEND, addr).await, b"x").await.unwrap();
}

/// Serves until its starter is gone.
#[tokio::test]
#[ignore = "the other test starts it"]
async fn the_server() {
    if env::var_os(STARTED).is_none() {
        return;
    }
    let limit = Rlimit {
        current: Some(FILES),
        ..getrlimit(Resource::Nofile)
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    let registry = Registry::new();
    let _lease = register(&registry, "shop", FRIEND).await;
    let guard = Guard::builder(registry, boundary("shop")).build().unwrap();
    in_time(guard.synced()).await;
    let mut events = guard.events();
    let server = Server::start(&guard).await;
    println!("it listens at {}", server.addr);
    let mut end = Vec::new();
    let mut starter = tokio::io::stdin();
    let mut telling = std::pin::pin!(async {
        while let Some(event) = events.next().await {
            if matches!(event, GuardEvent::AcceptFailed { .. }) {
                println!("{event}");
            }
        }
    });
    tokio::select! {
        _ = &mut telling => {}
        _ = starter.read_to_end(&mut end) => {}
    }
}
