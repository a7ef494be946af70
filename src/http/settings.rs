//! What a connector says of the connections to one instance.

use std::time::Duration;

/// Of both protocols.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) connect_timeout: Duration,
    pub(super) max_age: Option<Duration>,
    pub(super) http1: Http1,
    pub(super) http2: Http2,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Http1 {
    pub(super) idle_timeout: Duration,
    pub(super) max_idle: usize,
    /// `None`: hyper's 100, for which it has room without an allocation.
    pub(super) max_headers: Option<usize>,
    /// `None`: hyper's, about 400 KB.
    pub(super) max_buffer: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Http2 {
    /// At least 1.
    pub(super) max_connections: usize,
    /// At least 1; `None`: what the server takes.
    pub(super) streams_per_connection: Option<usize>,
    pub(super) stream_window: u32,
    pub(super) connection_window: u32,
    pub(super) max_header_list_size: u32,
    pub(super) keep_alive: KeepAlive,
}

/// How an HTTP/2 connection is asked whether it lives.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeepAlive {
    /// After this time without a frame; `None`: never.
    pub(super) interval: Option<Duration>,
    pub(super) timeout: Duration,
    pub(super) while_idle: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            max_age: None,
            http1: Http1 {
                idle_timeout: Duration::from_secs(60),
                max_idle: 128,
                max_headers: None,
                max_buffer: None,
            },
            http2: Http2 {
                max_connections: 4,
                streams_per_connection: None,
                // As hyper and tonic.
                stream_window: 2 << 20,
                // So that 512 answers that nobody reads do not stall the others. What the instance may send unread is limited by
                // the windows of the streams.
                connection_window: 1 << 30,
                // Long error messages in trailers and large cookies are larger than hyper's 16 KiB.
                max_header_list_size: 256 << 10,
                keep_alive: KeepAlive {
                    interval: Some(Duration::from_secs(20)),
                    timeout: Duration::from_secs(20),
                    while_idle: false,
                },
            },
        }
    }
}
