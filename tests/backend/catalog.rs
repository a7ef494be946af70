//! `Catalog`: whole sets from single changes.

use rolecall::discovery::backend::{Catalog, CatalogUpdate, Scope};
use rolecall::discovery::{DiscoveryError, DiscoveryErrorKind, RegisterErrorKind};
use rolecall::{Boundary, Discovery, EndpointName, Role};

use super::{ids, now, of_role, text, watch, worker};

fn role(name: &str) -> Role {
    Role::new(name).unwrap()
}

#[test]
fn updates_that_are_applied_together_are_seen_together() {
    let catalog = Catalog::new();
    catalog.put(worker("a"));
    let mut answers = watch(&catalog, "worker:http");
    let before = now(&mut answers).unwrap().unwrap();
    assert!(before.is_confirmed());
    catalog.apply([
        CatalogUpdate::Remove(worker("a").key()),
        CatalogUpdate::Put(worker("b")),
        CatalogUpdate::Put(worker("c")),
    ]);
    assert_eq!(ids(&now(&mut answers).unwrap().unwrap()), ["b", "c"]);
    catalog.put(worker("b"));
    catalog.remove(&worker("x").key());
    assert!(now(&mut answers).is_none(), "the same again is no news");
}

#[test]
fn a_replacement_changes_what_is_in_its_scope_and_nothing_else() {
    let catalog = Catalog::new();
    for (of, id) in [("worker", "a"), ("worker", "b"), ("other", "x")] {
        catalog.put(of_role(of, id));
    }
    let mut workers = watch(&catalog, "worker:http");
    let mut others = watch(&catalog, "other:http");
    let before = now(&mut workers).unwrap().unwrap();
    now(&mut others).unwrap().unwrap();
    let scope = Scope::Role(Boundary::default(), role("worker"));
    catalog.replace(scope, [worker("b"), worker("c")]);
    let after = now(&mut workers).unwrap().unwrap();
    assert_eq!(ids(&after), ["b", "c"]);
    assert_eq!(before.get("b"), after.get("b"));
    assert!(now(&mut others).is_none());
    catalog.replace(Scope::Boundary(Boundary::new("media").unwrap()), []);
    assert!(now(&mut workers).is_none() && now(&mut others).is_none());
    catalog.replace(Scope::All, [worker("c")]);
    assert_eq!(ids(&now(&mut workers).unwrap().unwrap()), ["c"]);
    assert!(now(&mut others).unwrap().unwrap().is_empty());
}

#[test]
fn a_key_that_is_taken_is_refused() {
    let catalog = Catalog::new();
    catalog.put_new(worker("a")).unwrap();
    let refused = catalog.put_new(worker("a")).unwrap_err();
    assert_eq!(refused.kind(), RegisterErrorKind::IdTaken);
    catalog.put_new(of_role("other", "a")).unwrap();
}

#[test]
fn a_pending_catalog_says_nothing_until_it_was_listed_or_failed() {
    let catalog = Catalog::pending();
    catalog.put(worker("a"));
    let mut listed = watch(&catalog, "worker:http");
    let mut unknown = watch(&catalog, "other:http");
    let mut peers = catalog.peers(&Boundary::default());
    for answers in [&mut listed, &mut unknown, &mut peers] {
        assert!(now(answers).is_none());
    }
    catalog.fault(DiscoveryError::backend("listing", "no route"));
    for answers in [&mut listed, &mut unknown, &mut peers] {
        assert!(text(&now(answers).unwrap().unwrap_err()).ends_with("no route"));
        assert!(now(answers).is_none(), "told once");
    }
    catalog.replace(Scope::All, [worker("b")]);
    let set = now(&mut listed).unwrap().unwrap();
    assert_eq!(ids(&set), ["b"]);
    assert!(!set.is_confirmed());
    let error = now(&mut unknown).unwrap().unwrap_err();
    assert_eq!(error.kind(), DiscoveryErrorKind::UnknownRole);
    assert_eq!(now(&mut peers).unwrap().unwrap().len(), 1);
}

#[test]
fn a_fault_is_told_once_and_its_end_by_the_set() {
    let catalog = Catalog::new();
    catalog.put(worker("a"));
    let mut answers = watch(&catalog, "worker:http");
    now(&mut answers).unwrap().unwrap();
    for _ in 0..3 {
        catalog.fault(DiscoveryError::backend("reading", "torn"));
    }
    assert!(text(&now(&mut answers).unwrap().unwrap_err()).ends_with("torn"));
    assert!(now(&mut answers).is_none());
    let mut late = watch(&catalog, "worker:http");
    assert_eq!(now(&mut late).unwrap().unwrap().len(), 1, "what is known");
    assert!(now(&mut late).unwrap().is_err());
    let mut unknown = watch(&catalog, "other:http");
    let error = now(&mut unknown).unwrap().unwrap_err();
    assert_eq!(error.kind(), DiscoveryErrorKind::Backend, "nobody knows");
    catalog.apply([CatalogUpdate::Recovered]);
    assert_eq!(now(&mut answers).unwrap().unwrap().len(), 1);
    let error = now(&mut unknown).unwrap().unwrap_err();
    assert_eq!(error.kind(), DiscoveryErrorKind::UnknownRole);
}

#[test]
fn that_a_set_is_confirmed_is_news_and_the_contrary_is_none() {
    let catalog = Catalog::pending();
    catalog.replace(Scope::All, [worker("a")]);
    let mut answers = watch(&catalog, "worker:http");
    assert!(!now(&mut answers).unwrap().unwrap().is_confirmed());
    catalog.confirmed(true);
    assert!(now(&mut answers).unwrap().unwrap().is_confirmed());
    catalog.confirmed(false);
    assert!(now(&mut answers).is_none());
    catalog.put(worker("b"));
    assert!(!now(&mut answers).unwrap().unwrap().is_confirmed());
}

#[test]
fn the_names_of_those_who_left_are_remembered_within_a_bound() {
    let catalog = Catalog::new();
    catalog.put(of_role("watched", "a"));
    let mut watched = watch(&catalog, "watched:http");
    now(&mut watched).unwrap().unwrap();
    catalog.remove(&of_role("watched", "a").key());
    assert!(now(&mut watched).unwrap().unwrap().is_empty());
    for job in 0..10_000 {
        let job = of_role(&format!("job-{job}"), "a");
        catalog.put(job.clone());
        catalog.remove(&job.key());
    }
    let known = |job: u32| {
        let mut answers = watch(&catalog, &format!("job-{job}:http"));
        now(&mut answers).unwrap().is_ok()
    };
    assert!(known(9_999) && known(9_600), "the newest are remembered");
    assert!(!known(0) && !known(9_000), "the oldest are not");
    assert!(now(&mut watched).is_none());
    catalog.put(of_role("watched", "b"));
    assert_eq!(ids(&now(&mut watched).unwrap().unwrap()), ["b"]);
}

#[test]
fn of_one_instance_the_names_of_endpoints_are_bounded_too() {
    let catalog = Catalog::new();
    let mut announcement = worker("a");
    for n in 0..5_000 {
        let name = EndpointName::new(format!("e{n}")).unwrap();
        announcement
            .add_endpoint(name.clone(), ([10, 0, 0, 7], 80))
            .unwrap();
        catalog.put(announcement.clone());
        announcement.remove_endpoint(&name);
        catalog.put(announcement.clone());
    }
    let mut old = watch(&catalog, "worker:e0");
    let error = now(&mut old).unwrap().unwrap_err();
    assert_eq!(error.kind(), DiscoveryErrorKind::UnknownEndpoint);
    let mut young = watch(&catalog, "worker:e4999");
    assert!(now(&mut young).unwrap().unwrap().is_empty());
}

#[test]
fn a_name_is_known_before_anybody_has_it() {
    let catalog = Catalog::new();
    let name = EndpointName::new("admin").unwrap();
    let known = CatalogUpdate::Known(Boundary::default(), role("worker"), Some(name));
    catalog.apply([known.clone()]);
    let mut answers = watch(&catalog, "worker:admin");
    assert!(now(&mut answers).unwrap().unwrap().is_empty());
    catalog.apply([known]);
    assert!(now(&mut answers).is_none());
    let error = now(&mut watch(&catalog, "worker:http"))
        .unwrap()
        .unwrap_err();
    assert!(text(&error).ends_with("it has \"admin\""), "{error}");
}
