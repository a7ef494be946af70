//! The file of a Unix socket: bound, replaced if it is stale, and removed at the end.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

/// Removes the socket when it is dropped, if the file is still the one that was bound.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    file: Option<Identity>,
}

type Identity = (u64, u64);

/// Binds a Unix socket. A socket of our own uid on which nobody listens is replaced; any other file is left alone.
pub(super) fn bind(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && remove_stale(path)? => {
            UnixListener::bind(path)?
        }
        bound => bound?,
    };
    let file = SocketFile {
        path: path.to_owned(),
        file: own_socket(path)?,
    };
    Ok((listener, file))
}

/// Removes the socket at this path if it is ours and nobody listens on it. Returns whether it did.
fn remove_stale(path: &Path) -> io::Result<bool> {
    let Some(seen) = own_socket(path)? else {
        return Ok(false);
    };
    if has_listener(path)? || own_socket(path)? != Some(seen) {
        return Ok(false);
    }
    tracing::info!(target: "rolecall", path = %path.display(), "stale socket removed");
    std::fs::remove_file(path)?;
    Ok(true)
}

/// Whether a process listens on the socket at this path. Asks without waiting: a listener whose queue is full counts, too.
fn has_listener(path: &Path) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let connected = socket.connect(&SockAddr::unix(path)?);
    let refused = connected.err().map(|error| error.kind());
    Ok(refused != Some(io::ErrorKind::ConnectionRefused))
}

/// The identity of the socket at this path, if it is one and our own.
fn own_socket(path: &Path) -> io::Result<Option<Identity>> {
    let found = std::fs::symlink_metadata(path)?;
    let is_ours = found.file_type().is_socket() && found.uid() == nix::unistd::geteuid().as_raw();
    Ok(is_ours.then(|| (found.dev(), found.ino())))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.file.is_some() && own_socket(&self.path).ok().flatten() == self.file {
            let removed = std::fs::remove_file(&self.path);
            if let Err(error) = removed {
                tracing::debug!(target: "rolecall", path = %self.path.display(), %error, "socket not removed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let place =
                std::env::temp_dir().join(format!("rolecall-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&place).unwrap();
            Self(place)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_removed_at_the_end() {
        let place = Place::new("stale");
        let path = place.0.join("a.sock");
        // The standard library leaves the file behind, as does a crash.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let (listener, file) = bind(&path).unwrap();
        let (dialled, accepted) =
            tokio::join!(tokio::net::UnixStream::connect(&path), listener.accept());
        assert!(dialled.is_ok() && accepted.is_ok());
        let error = bind(&path).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "somebody listens");
        drop(listener);
        drop(file);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_listener_whose_queue_is_full_is_asked_without_waiting() {
        let place = Place::new("full");
        let path = place.0.join("full.sock");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        let address = SockAddr::unix(&path).unwrap();
        listener.bind(&address).unwrap();
        listener.listen(0).unwrap();
        let mut waiting = Vec::new();
        loop {
            let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            if client.connect(&address).is_err() {
                break;
            }
            waiting.push(client);
        }
        // On another thread, so that one that waits fails the test and does not hang it.
        let (bound, told) = std::sync::mpsc::channel();
        let asked = path.clone();
        std::thread::spawn(move || bound.send(remove_stale(&asked)));
        let removed = told.recv_timeout(std::time::Duration::from_secs(10));
        assert!(!removed.expect("an answer at once").unwrap());
        assert!(path.exists());
    }

    #[tokio::test]
    async fn no_other_file_is_ever_removed() {
        let place = Place::new("foreign");
        let file = place.0.join("file");
        std::fs::write(&file, "mine").unwrap();
        let link = place.0.join("link");
        let gone = place.0.join("gone.sock");
        drop(std::os::unix::net::UnixListener::bind(&gone).unwrap());
        std::os::unix::fs::symlink(&gone, &link).unwrap();
        for path in [&file, &link, &place.0] {
            assert!(bind(path).is_err(), "{}", path.display());
        }
        assert_eq!(std::fs::read(&file).unwrap(), b"mine");
        assert!(link.is_symlink() && gone.exists());

        let replaced = place.0.join("b.sock");
        let bound = bind(&replaced).unwrap();
        std::fs::remove_file(&replaced).unwrap();
        std::fs::write(&replaced, "another's").unwrap();
        drop(bound);
        assert_eq!(std::fs::read(&replaced).unwrap(), b"another's");
    }
}
