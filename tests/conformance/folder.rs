//! A folder as a subject: every handle a [`Folder`] of its own, as in different processes.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rolecall::discovery::conformance::{Ability, Subject, Victim};
use rolecall::discovery::{BoxFuture, Folder, RegisterError};
use rolecall::{Discovery, Lease, Registrar, Registration};

use crate::child::Child;

pub(crate) struct InFolder {
    pub(crate) path: PathBuf,
    registrar: Folder,
}

impl Default for InFolder {
    fn default() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let root = env::temp_dir().join(format!("rolecall-{}-{number}", process::id()));
        let path = root.join("folder");
        fs::create_dir_all(&path).unwrap();
        let registrar = Folder::new(&path);
        Self { path, registrar }
    }
}

impl InFolder {
    /// A handle of its own, as in another process.
    pub(crate) fn handle(&self) -> Folder {
        Folder::new(&self.path)
    }

    fn elsewhere(&self) -> PathBuf {
        self.path.with_file_name("elsewhere")
    }
}

impl Drop for InFolder {
    fn drop(&mut self) {
        let root = self.path.parent().unwrap();
        let _ = fs::remove_dir_all(root);
    }
}

impl Subject for InFolder {
    fn open(&self) -> Arc<dyn Discovery> {
        Arc::new(self.handle())
    }

    fn announce(
        &self,
        registration: Registration,
    ) -> BoxFuture<'static, Result<Lease, RegisterError>> {
        self.registrar.register(registration)
    }

    fn lacks(&self) -> &'static [Ability] {
        &[Ability::Memory]
    }

    fn break_it(&self) -> bool {
        fs::rename(&self.path, self.elsewhere()).unwrap();
        true
    }

    fn repair(&self) {
        fs::rename(self.elsewhere(), &self.path).unwrap();
    }

    fn spoil(&self) -> bool {
        let write = |name: &str, text: &[u8]| fs::write(self.path.join(name), text).unwrap();
        write("default.worker.torn.rolecall", b"{\"boundary\": \"def");
        write("default.worker.empty.rolecall", b"");
        write("default.worker.zero.rolecall", &[0; 4096]);
        write("default.worker.huge.rolecall", &vec![b' '; 4 << 20]);
        write(
            "default.worker.text.rolecall",
            "\u{1b}[31m\n".repeat(1000).as_bytes(),
        );
        write("w-1.rolecall", b"{}");
        write("README", b"not one of ours");
        write(
            "w-2.rolecall",
            br#"{"rolecall":1,"role":"worker","id":"w-9"}"#,
        );
        write(".half.tmp", b"{");
        fs::create_dir(self.path.join("default.worker.folder.rolecall")).unwrap();
        let missing = self.path.join("missing");
        let link = self.path.join("default.worker.link.rolecall");
        std::os::unix::fs::symlink(missing, link).unwrap();
        true
    }

    fn victim(&self, registration: Registration) -> BoxFuture<'_, Option<Victim>> {
        let announced = registration.validate().unwrap();
        let (_, instance) = announced.endpoints().next().unwrap();
        let mut child = Child::start_at(
            &self.path,
            announced.id().as_str(),
            instance.address().tcp().unwrap(),
        );
        child.registered();
        let victim = Victim::new(Duration::from_secs(1), move || child.kill());
        Box::pin(std::future::ready(Some(victim)))
    }

    fn running(&self) -> usize {
        watched(&self.path)
    }
}

/// Watches of a folder, and files that are open in it.
pub(crate) fn watched(folder: &Path) -> usize {
    let Ok(there) = fs::metadata(folder) else {
        return 0;
    };
    let inode = format!(" ino:{:x} ", there.ino());
    let entries = |of: &str| fs::read_dir(of).into_iter().flatten().flatten();
    let open = entries("/proc/self/fd")
        .filter_map(|fd| fs::read_link(fd.path()).ok())
        .filter(|path| path.starts_with(folder))
        .count();
    let watches: usize = entries("/proc/self/fdinfo")
        .filter_map(|fd| fs::read_to_string(fd.path()).ok())
        .map(|info| info.matches(&inode).count())
        .sum();
    open + watches
}
