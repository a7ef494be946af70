//! The server's end of an HTTP/2 connection, frame by frame.

use std::collections::HashMap;
use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) struct Frames {
    stream: TcpStream,
    bodies: HashMap<u32, Vec<u8>>,
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

impl Frames {
    pub(crate) async fn accept(mut stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream
            .read_exact(&mut [0; "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len()])
            .await?;
        let bodies = HashMap::new();
        let mut frames = Self { stream, bodies };
        frames.write(SETTINGS, 0, 0, &[]).await?;
        Ok(frames)
    }

    /// The stream and the body of the next request that is there to its end; `None` at the end of the connection.
    pub(crate) async fn request(&mut self) -> io::Result<Option<(u32, Vec<u8>)>> {
        loop {
            let mut head = [0; 9];
            if self.stream.read_exact(&mut head).await.is_err() {
                return Ok(None);
            }
            let [a, b, c, kind, flags, stream @ ..] = head;
            let stream = u32::from_be_bytes(stream);
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.stream.read_exact(&mut payload).await?;
            match kind {
                HEADERS => drop(self.bodies.entry(stream).or_default()),
                DATA => self.bodies.entry(stream).or_default().append(&mut payload),
                SETTINGS | PING if flags & ACK == 0 => {
                    let echo = if kind == PING { payload } else { Vec::new() };
                    self.write(kind, ACK, 0, &echo).await?;
                }
                _ => {}
            }
            if matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
                let body = self.bodies.remove(&stream);
                return Ok(body.map(|body| (stream, body)));
            }
        }
    }

    pub(crate) async fn refuse(&mut self, stream: u32) -> io::Result<()> {
        self.write(RST_STREAM, 0, stream, &7_u32.to_be_bytes())
            .await
    }

    /// Acts on no request after `last`.
    pub(crate) async fn go_away(&mut self, last: u32) -> io::Result<()> {
        self.abort(last, 0).await
    }

    /// The same, with an error code.
    pub(crate) async fn abort(&mut self, last: u32, code: u32) -> io::Result<()> {
        let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
        self.write(GOAWAY, 0, 0, &payload).await
    }

    pub(crate) async fn write(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
    ) -> io::Result<()> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.stream.write_all(&[&head, payload].concat()).await
    }
}
