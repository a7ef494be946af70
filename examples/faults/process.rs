//! Child processes that never outlive their guards.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// The argument by which this program knows that it is to be a server.
pub(crate) const AS_SERVER: &str = "as-server";

/// What a server can be told, as a line of its standard input.
#[derive(Clone, Copy)]
pub(crate) enum Order {
    /// Answer that it failed, at once.
    Fail,
    BeSlow,
    /// Accept no connections, and close those that there are, each after the request that it serves.
    Refuse,
    BeWell,
}

impl Order {
    const ALL: [Self; 4] = [Self::Fail, Self::BeSlow, Self::Refuse, Self::BeWell];

    pub(crate) fn parse(line: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|order| order.text() == line)
    }

    fn text(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::BeSlow => "be slow",
            Self::Refuse => "refuse",
            Self::BeWell => "be well",
        }
    }
}

/// A process, killed and waited for when this is dropped, also by a panic.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        command.spawn().map(Self)
    }

    /// Ends it at once, and returns when it is gone.
    pub(crate) fn kill(&mut self) {
        // Both fail only where it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(ErrorKind::InvalidInput)?;
        Ok(kill_process(pid, signal)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A server process.
pub(crate) struct Server {
    number: u8,
    addr: SocketAddr,
    process: Process,
    orders: ChildStdin,
    says: BufReader<ChildStdout>,
}

impl Server {
    /// Starts one on a free port, and returns when it listens.
    ///
    /// Each has a loopback address of its own: no connection of ours takes its port while it is down, as connections to
    /// an address of their own may.
    pub(crate) fn start(number: u8) -> io::Result<Self> {
        Self::start_on(
            number,
            SocketAddr::from((Ipv4Addr::new(127, 0, 1, 1 + number), 0)),
        )
    }

    fn start_on(number: u8, addr: SocketAddr) -> io::Result<Self> {
        let mut process = Process::start(
            Command::new(std::env::current_exe()?)
                .args([AS_SERVER, &number.to_string(), &addr.to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped()),
        )?;
        let pipes = process.0.stdin.take().zip(process.0.stdout.take());
        let (orders, says) = pipes.ok_or(ErrorKind::BrokenPipe)?;
        let mut server = Self {
            number,
            addr,
            process,
            orders,
            says: BufReader::new(says),
        };
        let listens_on = server.hear()?;
        server.addr = listens_on.parse().map_err(io::Error::other)?;
        Ok(server)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns when it is done.
    pub(crate) fn order(&mut self, order: Order) -> io::Result<()> {
        writeln!(self.orders, "{}", order.text())?;
        self.hear().map(|_done| ())
    }

    fn hear(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.says.read_line(&mut line)? == 0 {
            return Err(io::Error::other(format!("server {} ended", self.number)));
        }
        Ok(line.trim_end().to_owned())
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again where it was, and returns when it listens.
    pub(crate) fn restart(&mut self) -> io::Result<()> {
        self.kill();
        *self = Self::start_on(self.number, self.addr)?;
        Ok(())
    }

    /// SIGSTOP: its kernel goes on accepting connections and data, and nobody reads them.
    pub(crate) fn stop(&self) -> io::Result<()> {
        self.process.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub(crate) fn go_on(&self) -> io::Result<()> {
        self.process.signal(Signal::CONT)
    }
}
