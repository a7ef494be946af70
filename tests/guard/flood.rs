use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use rolecall::Registry;
use rolecall::guard::Guard;
use tokio::io::AsyncReadExt;
use tracing_subscriber::fmt::MakeWriter;

use super::support::*;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// That many strangers, each from an address of its own, 32 at a time.
async fn strangers(from: u32, count: u32, to: SocketAddr) {
    let knocking =
        futures::stream::iter(from..from + count).for_each_concurrent(32, |n| async move {
            let ip = IpAddr::V4(Ipv4Addr::from_bits(0x7f01_0001 + n));
            let mut stranger = connect(ip, to).await;
            assert_eq!(in_time(stranger.read(&mut [0])).await.unwrap_or(0), 0);
        });
    knocking.await;
}

#[test]
fn a_flood_of_strangers_takes_no_memory_and_few_lines() {
    let captured = Captured::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(captured.clone())
        .finish();
    let lines = || {
        let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
        text.lines()
            .filter(|line| line.contains("rolecall"))
            .count()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // A second dispatcher, so that what is of interest is not decided once for all while another test has none.
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let _capture = tracing::subscriber::set_default(subscriber);
    let registry = Registry::new();
    let (guard, server, _lease) = runtime.block_on(async {
        let lease = register(&registry, "shop", FRIEND).await;
        let guard = Guard::new(registry, boundary("shop"));
        in_time(guard.heard()).await;
        let server = Server::start(&guard).await;
        strangers(0, 1000, server.addr).await;
        (guard, server, lease)
    });
    // What tokio, the log's buffer and the guard keep once is there by now.
    let used = allocation_counter::measure(|| {
        runtime.block_on(strangers(1000, 9000, server.addr));
    });
    assert!(
        used.bytes_current < 64 << 10,
        "{} bytes stay after 9000 strangers",
        used.bytes_current
    );
    assert!(
        used.bytes_max < 1 << 20,
        "{} bytes at most while 32 at a time knocked",
        used.bytes_max
    );
    let status = guard.status();
    assert_eq!(
        (status.refused, status.admitted, status.open),
        (10_000, 0, 0)
    );
    assert!((1..100).contains(&lines()), "{} lines", lines());
    runtime.block_on(async {
        assert!(is_served(FRIEND, server.addr).await);
    });
}
