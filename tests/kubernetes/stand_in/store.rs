//! Objects by kind, namespace and name, and the log of their changes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Plural, namespace, name.
pub(crate) type Key = (String, String, String);

#[derive(Default)]
pub(crate) struct Store {
    /// The newest resourceVersion.
    pub(crate) version: u64,
    objects: BTreeMap<Key, Value>,
    log: Vec<Change>,
    /// Events up to this version are forgotten.
    compacted: u64,
    made: u64,
}

struct Change {
    version: u64,
    key: Key,
    before: Option<Value>,
    after: Option<Value>,
}

/// Which objects a request is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    pub(crate) plural: String,
    pub(crate) namespace: Option<String>,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) fields: Vec<(String, String)>,
}

impl Selection {
    fn includes(&self, key: &Key, object: &Value) -> bool {
        let in_namespace = |namespace: &String| key.1 == *namespace;
        key.0 == self.plural
            && self.namespace.as_ref().is_none_or(in_namespace)
            && self
                .labels
                .iter()
                .all(|(label, value)| object["metadata"]["labels"][label].as_str() == Some(value))
            && self.fields.iter().all(|(path, value)| {
                let field = path.split('.').fold(object, |field, name| &field[name]);
                field.as_str() == Some(value)
            })
    }
}

impl Store {
    /// Adds an object, or replaces the one of its name, and returns it as stored.
    pub(crate) fn put(&mut self, mut object: Value) -> Value {
        let key = key_of(&object);
        self.version += 1;
        let before = self.objects.get(&key).cloned();
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = self.version.to_string().into();
        metadata["namespace"] = key.1.as_str().into();
        match &before {
            Some(before) => {
                metadata["uid"] = before["metadata"]["uid"].clone();
                metadata["creationTimestamp"] = before["metadata"]["creationTimestamp"].clone();
            }
            None => {
                self.made += 1;
                if metadata["uid"].is_null() {
                    metadata["uid"] = format!("00000000-0000-4000-8000-{:012}", self.made).into();
                }
                metadata["creationTimestamp"] = json!("2026-11-30T12:00:00Z");
            }
        }
        self.objects.insert(key.clone(), object.clone());
        self.record(key, before, Some(object.clone()));
        object
    }

    pub(crate) fn delete(&mut self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        let before = self.objects.remove(&key)?;
        self.version += 1;
        self.record(key, Some(before.clone()), None);
        Some(before)
    }

    fn record(&mut self, key: Key, before: Option<Value>, after: Option<Value>) {
        let version = self.version;
        self.log.push(Change {
            version,
            key,
            before,
            after,
        });
    }

    pub(crate) fn compact(&mut self) {
        self.version += 1;
        self.compacted = self.version;
        self.log.clear();
    }

    pub(crate) fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        self.objects.get(&key).cloned()
    }

    /// At most `limit` objects after the key `from`, and the key of the last if there are more.
    pub(crate) fn list(
        &self,
        selection: &Selection,
        from: Option<&Key>,
        limit: usize,
    ) -> (Vec<Value>, Option<Key>) {
        let all = self.objects.iter();
        let mut rest = all
            .filter(|(key, object)| selection.includes(key, object))
            .filter(|(key, _)| from.is_none_or(|from| *key > from));
        let page: Vec<_> = rest.by_ref().take(limit).collect();
        let last = page.last().map(|(key, _)| (*key).clone());
        let more = rest.next().and(last);
        (
            page.into_iter().map(|(_, object)| object.clone()).collect(),
            more,
        )
    }

    /// The events after a version, or `None` if they are forgotten.
    pub(crate) fn events(&self, selection: &Selection, after: u64) -> Option<Vec<Value>> {
        if after < self.compacted {
            return None;
        }
        let changes = self.log.iter().filter(|change| change.version > after);
        Some(
            changes
                .filter_map(|change| change.event(selection))
                .collect(),
        )
    }
}

impl Change {
    /// As one watch sees it: an object that no longer matches is deleted.
    fn event(&self, selection: &Selection) -> Option<Value> {
        let includes = |object: &&Value| selection.includes(&self.key, object);
        let before = self.before.as_ref().filter(includes);
        let after = self.after.as_ref().filter(includes);
        let (kind, object) = match (before, after) {
            (None, None) => return None,
            (None, Some(after)) => ("ADDED", after),
            (Some(_), Some(after)) => ("MODIFIED", after),
            (Some(before), None) => ("DELETED", before),
        };
        let mut object = object.clone();
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        Some(json!({ "type": kind, "object": object }))
    }
}

/// The plural of a kind.
pub(crate) fn plural(kind: &str) -> String {
    format!("{}s", kind.to_lowercase())
}

fn key_of(object: &Value) -> Key {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    let plural = plural(object["kind"].as_str().unwrap_or_default());
    (
        plural,
        text(&metadata["namespace"]),
        text(&metadata["name"]),
    )
}
