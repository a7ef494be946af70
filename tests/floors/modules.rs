//! All modules of a crate, and the arrows between their files. An arrow goes from a file that names an item to the file
//! that defines it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use crate::source::{self, Import, Module};

/// The names of modules from the root down; empty for the root.
type Place = Vec<String>;

/// Each module with its file, by its place.
#[derive(Debug)]
pub(crate) struct Modules {
    modules: BTreeMap<Place, (String, Module)>,
}

/// A file names an item that another file defines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Arrow {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) line: usize,
    /// The path as written, without `use`.
    pub(crate) path: String,
}

impl fmt::Display for Arrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            from,
            line,
            path,
            to,
        } = self;
        write!(f, "src/{from}:{line}: `{path}` of src/{to}")
    }
}

/// All arrows, and the paths that make no good one.
#[derive(Debug, Default)]
pub(crate) struct Arrows {
    /// The first one between each pair of files.
    pub(crate) arrows: Vec<Arrow>,
    /// Paths to a name that the crate root re-exports: file, line, path.
    pub(crate) through_root: Vec<(String, usize, String)>,
    /// Paths that no module defines: file, line, path.
    pub(crate) unknown: Vec<(String, usize, String)>,
}

/// Where a path leads.
#[derive(Clone, Debug, PartialEq)]
enum Found {
    Module(Place),
    /// Something that the module at that place defines.
    Item(Place),
    /// An item of another crate, or of a type of this one.
    Foreign,
    Unknown,
}

impl Modules {
    /// Reads `lib.rs` and the modules that it declares, by file name below `src`.
    pub(crate) fn read(files: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut modules = Self {
            modules: BTreeMap::new(),
        };
        modules.enter(files, Vec::new(), "lib.rs".to_owned())?;
        Ok(modules)
    }

    fn enter(
        &mut self,
        files: &BTreeMap<String, String>,
        place: Place,
        file: String,
    ) -> Result<(), String> {
        let text = files
            .get(&file)
            .ok_or_else(|| format!("there is no src/{file}"))?;
        let module = source::read(text).map_err(|error| format!("src/{file}: {error}"))?;
        self.place(files, place, file, module)
    }

    fn place(
        &mut self,
        files: &BTreeMap<String, String>,
        place: Place,
        file: String,
        mut module: Module,
    ) -> Result<(), String> {
        for child in &module.children {
            let place = below(&place, child);
            let name = place.join("/");
            let [leaf, folder] = [format!("{name}.rs"), format!("{name}/mod.rs")];
            let file = if files.contains_key(&leaf) {
                leaf
            } else {
                folder
            };
            self.enter(files, place, file)?;
        }
        for (name, inner) in std::mem::take(&mut module.inline) {
            self.place(files, below(&place, &name), file.clone(), inner)?;
        }
        self.modules.insert(place, (file, module));
        Ok(())
    }

    /// The files that were read, with the code of each line.
    pub(crate) fn files(&self) -> BTreeMap<&str, &BTreeMap<usize, String>> {
        // A file's own module comes before its inline ones, whose lines it also has.
        let mut files = BTreeMap::new();
        for (file, module) in self.modules.values() {
            files.entry(file.as_str()).or_insert(&module.lines);
        }
        files
    }

    pub(crate) fn arrows(&self) -> Arrows {
        let mut all = Arrows::default();
        let mut seen = BTreeSet::new();
        for (place, (file, module)) in &self.modules {
            let mut add = |line: usize, path: &[String], is_glob: bool| {
                let mut through_root = false;
                let found = self.resolve(place, path, &mut through_root);
                let mut written = path.join("::");
                if is_glob {
                    written.push_str("::*");
                }
                if through_root || (is_glob && found == Found::Module(Vec::new())) {
                    all.through_root.push((file.clone(), line, written.clone()));
                }
                let (Found::Module(target) | Found::Item(target)) = found else {
                    if found == Found::Unknown {
                        all.unknown.push((file.clone(), line, written));
                    }
                    return;
                };
                let to = &self.modules[&target].0;
                if to != file && seen.insert((file.clone(), to.clone())) {
                    all.arrows.push(Arrow {
                        from: file.clone(),
                        to: to.clone(),
                        line,
                        path: written,
                    });
                }
            };
            for import in &module.imports {
                if !self.only_passes_on(place, module, import) {
                    add(import.line, &import.path, import.name.is_none());
                }
            }
            for (line, path) in &module.paths {
                add(*line, path, false);
            }
        }
        all.arrows.sort();
        all
    }

    /// Whether an import only re-exports an item of a module below: the code of this module does not use it.
    fn only_passes_on(&self, place: &Place, module: &Module, import: &Import) -> bool {
        let is_used = import
            .name
            .as_ref()
            .is_some_and(|name| module.mentions.contains(name));
        let target = match self.resolve(place, &import.path, &mut false) {
            Found::Module(target) | Found::Item(target) => target,
            Found::Foreign | Found::Unknown => return false,
        };
        import.is_reexport && !is_used && target.len() > place.len() && target.starts_with(place)
    }

    /// Follows a path as the module at that place reads it.
    fn resolve(&self, place: &Place, path: &[String], through_root: &mut bool) -> Found {
        self.follow(place, path, through_root, 0)
    }

    fn follow(
        &self,
        place: &Place,
        path: &[String],
        through_root: &mut bool,
        depth: usize,
    ) -> Found {
        // Imports that refer to each other in a cycle do not compile. They must not hang this test.
        if depth > 64 {
            return Found::Unknown;
        }
        let mut here = place.clone();
        let mut rest = path;
        while let Some((first, tail)) = rest.split_first() {
            match first.as_str() {
                "crate" => here = Vec::new(),
                "super" => drop(here.pop()),
                "self" => {}
                _ => break,
            }
            rest = tail;
        }
        let is_relative = rest.len() == path.len();
        for (index, name) in rest.iter().enumerate() {
            let is_last = index + 1 == rest.len();
            if is_relative && index == 0 {
                // The first name of a relative path is looked up in scope. If it is not there, it is a crate or a type.
                match self.name(&here, name, is_last, depth) {
                    Found::Unknown => return Found::Foreign,
                    Found::Module(module) => here = module,
                    other => return other,
                }
                continue;
            }
            let found = self.name(&here, name, is_last, depth);
            let is_at_root = here.is_empty() && !place.is_empty();
            *through_root |= is_at_root && !self.is_module(&here, name);
            match found {
                Found::Module(module) => here = module,
                other => return other,
            }
        }
        Found::Module(here)
    }

    fn is_module(&self, place: &Place, name: &str) -> bool {
        self.modules.contains_key(&below(place, name))
    }

    /// What a name means in a module. The last name of a path may be an item that has the name of a module.
    fn name(&self, place: &Place, name: &str, is_last: bool, depth: usize) -> Found {
        let Some((_, module)) = self.modules.get(place) else {
            return Found::Unknown;
        };
        let child = below(place, name);
        if !is_last && self.modules.contains_key(&child) {
            return Found::Module(child);
        }
        let imported = |import: &&Import| import.name.as_deref() == Some(name);
        // `use channel;` imports a module under its own name.
        if let Some(import) = module.imports.iter().find(imported)
            && import.path != [name]
        {
            return self.follow(place, &import.path, &mut false, depth + 1);
        }
        if module.defines.contains(name) {
            return Found::Item(place.clone());
        }
        if self.modules.contains_key(&child) {
            return Found::Module(child);
        }
        for import in module.imports.iter().filter(|import| import.name.is_none()) {
            let Found::Module(source) = self.follow(place, &import.path, &mut false, depth + 1)
            else {
                continue;
            };
            match self.name(&source, name, is_last, depth + 1) {
                Found::Unknown => {}
                found => return found,
            }
        }
        Found::Unknown
    }
}

fn below(place: &Place, name: &str) -> Place {
    let mut place = place.clone();
    place.push(name.to_owned());
    place
}

/// Pairs of nodes: from, to.
pub(crate) type Edges<'a> = BTreeSet<(&'a str, &'a str)>;

/// Groups of at least two nodes that all reach each other.
pub(crate) fn cycles<'a>(edges: &Edges<'a>) -> Vec<BTreeSet<&'a str>> {
    let reversed = edges.iter().map(|&(from, to)| (to, from)).collect();
    let mut cycles = Vec::<BTreeSet<&str>>::new();
    for &(node, _) in edges {
        if cycles.iter().any(|cycle| cycle.contains(node)) {
            continue;
        }
        let forwards = reached(edges, node);
        let cycle: BTreeSet<_> = forwards
            .intersection(&reached(&reversed, node))
            .copied()
            .collect();
        if cycle.len() > 1 {
            cycles.push(cycle);
        }
    }
    cycles
}

/// Every node that can be reached from this one, itself included.
fn reached<'a>(edges: &Edges<'a>, start: &'a str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::from([start]);
    let mut waiting = vec![start];
    while let Some(node) = waiting.pop() {
        waiting.extend(after(edges, node).filter(|next| reached.insert(next)));
    }
    reached
}

fn after<'a>(edges: &Edges<'a>, node: &'a str) -> impl Iterator<Item = &'a str> {
    edges
        .range((node, "")..)
        .take_while(move |(from, _)| *from == node)
        .map(|(_, to)| *to)
}

/// A shortest cycle among these nodes. Its first node is also its last.
pub(crate) fn shortest_cycle<'a>(edges: &Edges<'a>, nodes: &BTreeSet<&'a str>) -> Vec<&'a str> {
    let cycles = nodes.iter().filter_map(|&start| {
        let mut before = BTreeMap::new();
        let mut waiting = VecDeque::from([start]);
        while let Some(node) = waiting.pop_front() {
            for next in after(edges, node).filter(|next| nodes.contains(next)) {
                before.entry(next).or_insert_with(|| {
                    waiting.push_back(next);
                    node
                });
            }
        }
        let mut cycle = vec![start];
        let mut node = *before.get(start)?;
        while node != start {
            cycle.push(node);
            node = before.get(node)?;
        }
        cycle.push(start);
        cycle.reverse();
        Some(cycle)
    });
    cycles.min_by_key(Vec::len).unwrap_or_default()
}
