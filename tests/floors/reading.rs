//! Tests of the reader itself, on crates of a few lines.

use std::collections::BTreeMap;

use crate::modules::{Arrows, Modules};
use crate::rules::{cycle_faults, through_root, upward_faults};
use crate::source;

fn modules(files: &[(&str, &str)]) -> Modules {
    let files = files
        .iter()
        .map(|(file, text)| ((*file).to_owned(), (*text).to_owned()))
        .collect::<BTreeMap<_, _>>();
    Modules::read(&files).unwrap()
}

fn arrows(files: &[(&str, &str)]) -> Arrows {
    modules(files).arrows()
}

/// Each arrow as `from:line to`.
fn lines(files: &[(&str, &str)]) -> Vec<String> {
    let arrows = arrows(files);
    assert_eq!(arrows.unknown, [], "all paths lead somewhere");
    let arrows = arrows.arrows.iter();
    arrows
        .map(|arrow| format!("{}:{} {}", arrow.from, arrow.line, arrow.to))
        .collect()
}

/// The paths and names that a file imports, `*` for all.
fn imported(text: &str) -> Vec<String> {
    let imports = source::read(text).unwrap().imports;
    imports
        .iter()
        .map(|import| {
            let name = import.name.as_deref().unwrap_or("*");
            format!("{}: {} {name}", import.line, import.path.join("::"))
        })
        .collect()
}

#[test]
fn a_use_tree_is_read_with_groups_aliases_and_globs() {
    let text = "
use crate::a::{
    self, B, c::{D as E, F},
    g::*,
};
use super::super::h::I as _;
pub(in crate::x) use r#type::J;
";
    assert_eq!(
        imported(text),
        [
            "3: crate::a a",
            "3: crate::a::B B",
            "3: crate::a::c::D E",
            "3: crate::a::c::F F",
            "4: crate::a::g *",
            "6: super::super::h::I _",
            "7: type::J J",
        ]
    );
}

#[test]
fn tests_comments_strings_and_docs_import_nothing() {
    let text = r##"
//! use crate::docs::A;
/* use crate::block::B; /* nested */ */
const TEXT: &str = "use crate::string::C;"; // use crate::line::D;
const RAW: &str = r#"crate::raw::"E""#;
#[cfg(test)]
use crate::one::{F, G};
#[cfg(all(test, feature = "x"))]
pub(crate) const fn of<A, B>(_: [u8; 2]) -> crate::two::H { use crate::three::I; }
#[cfg(any(test, doctest))]
impl crate::four::J { fn x() {} }
#[cfg(test)]
#[derive(Debug)]
struct K(crate::five::L);
#[cfg(test)]
mod tests { use super::*; use crate::six::M; }
struct N {
    #[cfg(test)]
    field: crate::seven::O,
    kept: crate::kept::P,
}
fn f<'a>() -> impl Iterator + use<'a> {
    #[cfg(test)]
    let seen = { crate::eight::Q };
    'a'
}
#[cfg(not(test))]
use crate::shipped::R;
#[cfg(any(test, feature = "x"))]
use crate::shipped::S;
#[cfg(feature = "test")]
use crate::shipped::T;
"##;
    let module = source::read(text).unwrap();
    let paths: Vec<_> = module
        .paths
        .iter()
        .map(|(_, path)| path.join("::"))
        .collect();
    assert_eq!(paths, ["crate::kept::P"]);
    assert_eq!(
        imported(text),
        [
            "28: crate::shipped::R R",
            "30: crate::shipped::S S",
            "32: crate::shipped::T T",
        ]
    );
}

#[test]
fn what_a_macro_defines_or_names_is_seen() {
    let files = [
        (
            "lib.rs",
            "mod low; mod high; mod lent; mod wide;",
        ),
        (
            "low.rs",
            "macro_rules! made { ($name:ident) => { struct Made; impl $name::X { fn x() { $crate::lent::f() } } } }
             pub(crate) use made;",
        ),
        ("lent.rs", "fn f() {} pin_project! { pub struct Pinned { x: crate::low::Made } }"),
        ("wide.rs", "const END: u8 = 1;"),
        (
            "high.rs",
            "use crate::lent::Pinned;
             fn f() { debug_assert!(crate::low::Made == 1); }
             fn g() { 0..crate::wide::END }",
        ),
    ];
    assert_eq!(
        lines(&files),
        [
            "high.rs:1 lent.rs",
            "high.rs:2 low.rs",
            "high.rs:3 wide.rs",
            "lent.rs:1 low.rs",
            "low.rs:1 lent.rs",
        ]
    );
}

#[test]
fn a_name_is_followed_to_the_file_that_defines_it() {
    let files = [
        ("lib.rs", "mod a; mod b;"),
        (
            "a/mod.rs",
            "mod x; mod y; pub use x::X as Shown; pub(crate) use y::*;",
        ),
        ("a/x.rs", "use super::Y; pub struct X;"),
        ("a/y.rs", "pub enum Y { One }"),
        (
            "b.rs",
            "use crate::{a, a::Shown};
             use tokio::time::{self, sleep};
             fn f() { a::Y::One; time::sleep(self::c::g()); Shown::new(); }
             mod c { use super::super::a::Y as Z; fn g() {} }",
        ),
    ];
    assert_eq!(
        lines(&files),
        [
            "a/x.rs:1 a/y.rs",
            "b.rs:1 a/mod.rs",
            "b.rs:1 a/x.rs",
            // The inline module comes after the file's own.
            "b.rs:3 a/y.rs",
        ],
        "the facade `a` knows neither `x` nor `y`"
    );
}

#[test]
fn a_module_that_uses_what_it_re_exports_knows_the_file() {
    let files = [
        ("lib.rs", "mod a;"),
        ("a/mod.rs", "mod x;\npub use x::X;\nfn f(_: X) {}"),
        ("a/x.rs", "pub struct X;"),
    ];
    assert_eq!(lines(&files), ["a/mod.rs:2 a/x.rs"]);
}

#[test]
fn a_function_may_have_the_name_of_its_module() {
    let files = [
        ("lib.rs", "mod a; mod b;"),
        (
            "a/mod.rs",
            "mod channel; pub use channel::{Channel, channel};",
        ),
        ("a/channel.rs", "pub struct Channel; pub fn channel() {}"),
        ("b.rs", "use crate::a::channel;"),
    ];
    assert_eq!(lines(&files), ["b.rs:1 a/channel.rs"]);
}

#[test]
fn a_path_that_leads_nowhere_is_reported() {
    let files = [("lib.rs", "mod a;"), ("a.rs", "use crate::a::Missing;")];
    let unknown = arrows(&files).unknown;
    assert_eq!(
        unknown,
        [("a.rs".to_owned(), 1, "crate::a::Missing".to_owned())]
    );
}

#[test]
fn a_name_taken_from_the_crate_root_is_a_fault() {
    let files = [
        ("lib.rs", "mod model; mod fleet; pub use model::Name;"),
        ("model.rs", "pub struct Name;"),
        (
            "fleet.rs",
            "use crate::model;
             use super::{model::Name, Name as Same};
             fn f() { crate::Name::new() }
             use crate::*;",
        ),
    ];
    let faults = through_root(&arrows(&files));
    let lines: Vec<_> = faults
        .iter()
        .map(|fault| fault.split_once(" goes through").unwrap().0)
        .collect();
    assert_eq!(
        lines,
        [
            "src/fleet.rs:2: `super::Name`",
            "src/fleet.rs:4: `crate::*`",
            "src/fleet.rs:3: `crate::Name::new`",
        ]
    );
}

#[test]
fn an_arrow_upwards_or_to_a_neighbour_is_a_fault() {
    let files = [
        (
            "lib.rs",
            "mod model; mod fleet; mod discovery; mod event; mod error; pub mod guide; pub mod attic;",
        ),
        ("model.rs", "fn f() { crate::fleet::Fleet }"),
        (
            "fleet.rs",
            "use crate::model::f; use crate::discovery::Set; pub struct Fleet;",
        ),
        ("discovery.rs", "pub struct Set;"),
        ("event.rs", "use crate::error::Error;"),
        ("error.rs", "pub struct Error;"),
        ("guide.rs", "use crate::fleet::Fleet;"),
        ("attic.rs", ""),
    ];
    let modules = modules(&files);
    assert_eq!(
        upward_faults(modules.files().into_keys(), &modules.arrows()),
        [
            "the module `attic` has no floor in tests/floors/rules.rs",
            "src/fleet.rs:1: `crate::discovery::Set` of src/discovery.rs: \
             `fleet` and `discovery` are neighbours on floor 3 and must not know each other",
            "src/model.rs:1: `crate::fleet::Fleet` of src/fleet.rs: \
             `model` on floor 1 must not know `fleet` on floor 3",
        ]
    );
}

const RING: &[(&str, &str)] = &[
    ("lib.rs", "mod error; mod event;"),
    ("error/mod.rs", "mod a; mod b; mod c;"),
    ("error/a.rs", "use super::b::B; pub struct A;"),
    ("error/b.rs", "use super::c::C; pub struct B;"),
    (
        "error/c.rs",
        "\nuse super::a::A; use crate::event::E; pub struct C;",
    ),
    ("event.rs", "use crate::error::b::B; pub struct E;"),
];

#[test]
fn a_new_cycle_is_reported_with_its_shortest_part() {
    let faults = cycle_faults(&arrows(RING), &[]);
    assert_eq!(
        faults,
        [
            "a cycle of 4: error/a.rs, error/b.rs, error/c.rs, event.rs; the shortest way round:\
             \n    src/error/a.rs:1: `super::b::B` of src/error/b.rs\
             \n    src/error/b.rs:1: `super::c::C` of src/error/c.rs\
             \n    src/error/c.rs:2: `super::a::A` of src/error/a.rs",
            "a cycle of 2: error, event; the shortest way round:\
             \n    src/error/c.rs:2: `crate::event::E` of src/event.rs\
             \n    src/event.rs:1: `crate::error::b::B` of src/error/b.rs",
        ]
    );
}

#[test]
fn a_known_cycle_may_shrink_only_together_with_its_list() {
    let files = ["error/a.rs", "error/b.rs", "error/c.rs", "event.rs"];
    let known: [(u32, &[&str]); 2] = [(14, &files), (14, &["error", "event"])];
    assert_eq!(cycle_faults(&arrows(RING), &known), Vec::<String>::new());

    let mut smaller = RING.to_vec();
    smaller[2].1 = "pub struct A;";
    assert_eq!(
        cycle_faults(&arrows(&smaller), &known),
        ["error/a.rs is in no cycle any more: remove it from KNOWN_CYCLES (issue 14)"]
    );
}
