//! A role environment as a subject: what registers there is an editor of the file, as a deployment tool is one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rolecall::discovery::conformance::{Ability, Subject};
use rolecall::discovery::{
    Announcement, BoxFuture, LeaseEdit, LeaseHandle, RegisterError, RolesFile,
};
use rolecall::{Boundary, Discovery, EndpointName, InstanceId, Lease, Registration, Role};
use serde_json::{Value, json};

use crate::folder::{InFolder, watched};

pub(crate) struct Roles {
    folder: InFolder,
    editor: Arc<Editor>,
}

impl Default for Roles {
    fn default() -> Self {
        let folder = InFolder::default();
        let editor = Arc::new(Editor {
            path: folder.path.join("roles.json"),
            book: Mutex::default(),
            written: tokio::sync::Mutex::new(0),
        });
        editor.write("{}").unwrap();
        Self { folder, editor }
    }
}

impl Subject for Roles {
    fn open(&self) -> Arc<dyn Discovery> {
        Arc::new(RolesFile::new(&self.editor.path))
    }

    /// By the editor of the file.
    fn announce(
        &self,
        registration: Registration,
    ) -> BoxFuture<'static, Result<Lease, RegisterError>> {
        let editor = Arc::clone(&self.editor);
        Box::pin(async move {
            let announced = registration.validate()?;
            let entry = Entry {
                editor,
                id: announced.id().clone(),
                place: (announced.boundary().clone(), announced.role().clone()),
            };
            entry
                .change_and_save(|slot| {
                    *slot = Some(announced);
                    Ok(())
                })
                .await?;
            Ok(Lease::new(entry))
        })
    }

    /// Sets are confirmed a second after an edit.
    fn lacks(&self) -> &'static [Ability] {
        &[Ability::Registration, Ability::Confirmation]
    }

    fn break_it(&self) -> bool {
        self.folder.break_it()
    }

    fn repair(&self) {
        self.folder.repair();
    }

    fn spoil(&self) -> bool {
        let garbage = "\u{1b}[31m\n".repeat(100_000);
        self.editor
            .write(&format!("{{\"role\": [{garbage}"))
            .unwrap();
        true
    }

    fn running(&self) -> usize {
        watched(&self.folder.path)
    }
}

type Place = (Boundary, Role);

#[derive(Default)]
struct Book {
    edits: u64,
    roles: BTreeMap<Place, Written>,
}

/// A role as the file has it.
#[derive(Default)]
struct Written {
    endpoints: BTreeSet<EndpointName>,
    instances: BTreeMap<InstanceId, Announcement>,
}

struct Editor {
    path: PathBuf,
    book: Mutex<Book>,
    /// How many edits the file has; held by whoever writes it.
    written: tokio::sync::Mutex<u64>,
}

impl Editor {
    /// Writes down what was edited; many edits at once are one.
    async fn save(&self, edit: u64) -> io::Result<()> {
        tokio::task::yield_now().await;
        let mut written = self.written.lock().await;
        if *written < edit {
            let (text, edits) = {
                let book = self.book.lock().unwrap();
                (book.text(), book.edits)
            };
            self.write(&text)?;
            *written = edits;
        }
        Ok(())
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        fs::write(&beside, text)?;
        fs::rename(beside, &self.path)
    }
}

impl Book {
    fn text(&self) -> String {
        let roles = self.roles.iter().map(|((boundary, role), written)| {
            let instances: Vec<Value> = written.instances.values().map(described).collect();
            json!({
                "name": role,
                "boundary": boundary,
                "endpoints": written.endpoints,
                "instance": instances,
            })
        });
        json!({ "role": roles.collect::<Vec<_>>() }).to_string()
    }
}

/// An instance as the file has it.
fn described(announced: &Announcement) -> Value {
    let endpoints: BTreeMap<_, _> = announced
        .endpoints()
        .map(|(name, instance)| (name.clone(), instance.address().clone()))
        .collect();
    let first = announced.endpoints().next().map(|(_, instance)| instance);
    let mut described = json!(first.or_else(|| announced.peer()));
    if described.is_null() {
        described = json!({});
    }
    let fields = described.as_object_mut().unwrap();
    fields.remove("address");
    fields.remove("alternates");
    fields.insert("id".to_owned(), json!(announced.id()));
    fields.insert("endpoints".to_owned(), json!(endpoints));
    if let Some(peer) = announced.peer() {
        fields.insert("peer_ip".to_owned(), json!(peer.address().ip()));
    }
    fields.retain(|_, value| !value.is_null());
    described
}

/// The lease of an instance that stands in the file.
struct Entry {
    editor: Arc<Editor>,
    id: InstanceId,
    place: Place,
}

impl Entry {
    fn change(
        &self,
        edit: impl FnOnce(&mut Option<Announcement>) -> Result<(), RegisterError>,
    ) -> Result<u64, RegisterError> {
        let mut book = self.editor.book.lock().unwrap();
        let role = book.roles.entry(self.place.clone()).or_default();
        let mut instance = role.instances.remove(&self.id);
        let edited = edit(&mut instance);
        if let Some(instance) = instance {
            let names = instance.endpoints().map(|(name, _)| name.clone());
            role.endpoints.extend(names);
            role.instances.insert(self.id.clone(), instance);
        }
        book.edits += 1;
        edited.map(|()| book.edits)
    }

    async fn change_and_save(
        &self,
        edit: impl FnOnce(&mut Option<Announcement>) -> Result<(), RegisterError>,
    ) -> Result<(), RegisterError> {
        let edit = self.change(edit)?;
        let saved = self.editor.save(edit).await;
        saved.map_err(|error| RegisterError::backend("writing the file", error))
    }
}

impl LeaseHandle for Entry {
    fn id(&self) -> &InstanceId {
        &self.id
    }

    fn edit(&self, edit: LeaseEdit) -> BoxFuture<'_, Result<(), RegisterError>> {
        Box::pin(self.change_and_save(move |instance| match instance {
            Some(instance) => edit.apply(instance),
            None => Ok(()),
        }))
    }

    fn deregister(&mut self) -> BoxFuture<'_, Result<(), RegisterError>> {
        Box::pin(self.change_and_save(|instance| {
            *instance = None;
            Ok(())
        }))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let removed = self.change(|instance| {
            *instance = None;
            Ok(())
        });
        let editor = Arc::clone(&self.editor);
        if let (Ok(edit), Ok(runtime)) = (removed, tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move { editor.save(edit).await });
        }
    }
}
