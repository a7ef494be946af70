//! Child processes that never outlive their guards, and the CPU time of any.

use std::io::{self, BufRead, BufReader, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::{fs, process};

use rustix::param::clock_ticks_per_second;

/// The argument by which this program knows that it is to be a server.
pub(crate) const AS_SERVER: &str = "as-server";

/// A process, killed and waited for when this is dropped, also by a panic.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        command.spawn().map(Self)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server process.
pub(crate) struct Server {
    addr: SocketAddr,
    process: Process,
}

impl Server {
    /// Starts one, and returns when it listens.
    pub(crate) fn start(number: u8) -> io::Result<Self> {
        let addr = SocketAddr::from((Ipv4Addr::new(127, 0, 1, 1 + number), 0));
        let mut process = Process::start(
            Command::new(std::env::current_exe()?)
                .args([AS_SERVER, &addr.to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped()),
        )?;
        let says = process.0.stdout.take().ok_or(ErrorKind::BrokenPipe)?;
        let mut line = String::new();
        BufReader::new(says).read_line(&mut line)?;
        let addr = line.trim_end().parse().map_err(io::Error::other)?;
        Ok(Self { addr, process })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// Microseconds of CPU time that a process has taken so far, in user and kernel mode.
pub(crate) fn cpu_micros(pid: u32) -> io::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // After the name in brackets, which may contain anything: the 14th and 15th field of all.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Ok(ticks as f64 * 1e6 / clock_ticks_per_second() as f64)
}

/// The same of this one.
pub(crate) fn own_cpu_micros() -> io::Result<f64> {
    cpu_micros(process::id())
}
