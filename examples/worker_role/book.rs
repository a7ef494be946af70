//! What the workers say of their requests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Clone, Default)]
pub(crate) struct Book(Arc<Mutex<Entries>>);

#[derive(Default)]
struct Entries {
    /// By who asked and who answered.
    answers: BTreeMap<(String, String), usize>,
    failures: Vec<String>,
}

impl Book {
    /// Writes down a line of a worker: `ok` and who answered, or what failed.
    pub(crate) fn write(&self, name: &str, line: &str) {
        let mut entries = self.entries();
        match line.strip_prefix("ok ") {
            Some(by) => {
                let pair = (name.to_owned(), by.to_owned());
                *entries.answers.entry(pair).or_default() += 1;
            }
            None => entries.failures.push(format!("{name}: {line}")),
        }
    }

    pub(crate) fn answers(&self, asking: &str, answering: &str) -> usize {
        let pair = (asking.to_owned(), answering.to_owned());
        self.entries().answers.get(&pair).copied().unwrap_or(0)
    }

    /// How much they answered, whoever asked.
    pub(crate) fn answered(&self, names: &[&str]) -> usize {
        let entries = self.entries();
        let theirs = entries
            .answers
            .iter()
            .filter(|((_, by), _)| names.contains(&by.as_str()));
        theirs.map(|(_, count)| count).sum()
    }

    pub(crate) fn failures(&self) -> Vec<String> {
        self.entries().failures.clone()
    }

    pub(crate) fn print(&self, names: &[&str]) {
        print!("\nasked by");
        names.iter().for_each(|name| print!("{name:>6}"));
        println!();
        for asking in names {
            print!("{asking:<8}");
            names
                .iter()
                .for_each(|by| print!("{:>6}", self.answers(asking, by)));
            println!();
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
