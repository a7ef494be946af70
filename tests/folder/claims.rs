//! Who may have an id, and who may be in a folder at all.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Barrier};

use rolecall::discovery::{Folder, RegisterErrorKind};
use rolecall::{EndpointName, Registrar};

use crate::child::Child;
use crate::{Answers, Place, registered, worker};

#[test]
fn of_eight_that_claim_one_id_exactly_one_gets_it() {
    const CLAIMANTS: usize = 8;
    let place = Place::new();
    for round in 0..100 {
        let start = Arc::new(Barrier::new(CLAIMANTS));
        let end = Arc::new(Barrier::new(CLAIMANTS));
        let claimants: Vec<_> = (0..CLAIMANTS)
            .map(|_| {
                // Locks count for each open file, so a handle is as good as a process.
                let (folder, start, end) = (place.folder(), start.clone(), end.clone());
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread();
                    let runtime = { runtime }.enable_all().build().unwrap();
                    runtime.block_on(async {
                        start.wait();
                        let claimed = folder.register(worker("w")).await;
                        end.wait();
                        match claimed {
                            // As one that is killed leaves it, half of the times.
                            Ok(lease) if round % 2 == 0 => lease.deregister().await.is_ok(),
                            Ok(_) => true,
                            Err(error) => {
                                assert_eq!(error.kind(), RegisterErrorKind::IdTaken, "{error:?}");
                                false
                            }
                        }
                    })
                })
            })
            .collect();
        let winners = claimants.into_iter().map(|c| c.join().unwrap());
        assert_eq!(winners.filter(|won| *won).count(), 1, "round {round}");
    }
}

#[test]
fn of_eight_processes_that_claim_one_id_exactly_one_gets_it() {
    let place = Place::new();
    let mut claimants = [(); 8].map(|()| Child::claim(&place.0, "w"));
    for round in 0..100 {
        claimants
            .iter_mut()
            .for_each(|claimant| claimant.ask("claim"));
        let won = claimants
            .iter_mut()
            .map(|claimant| claimant.line() == "won");
        let winners: Vec<_> = won.collect();
        assert_eq!(
            winners.iter().filter(|won| **won).count(),
            1,
            "round {round}"
        );
        let winner = winners.iter().position(|won| *won).unwrap();
        if round % 10 == 9 {
            // Its id is free at once, too.
            claimants[winner].kill();
            claimants[winner] = Child::claim(&place.0, "w");
        } else {
            claimants[winner].ask("leave");
            assert_eq!(claimants[winner].line(), "left");
        }
    }
}

#[tokio::test]
async fn whoever_may_only_read_can_deny_no_id() {
    let place = Place::new();
    let mut child = Child::start(&place.0, "w");
    let record = place.at("default.worker.w.rolecall");
    // Both kinds of lock that a descriptor for reading can have.
    let reader = fs::File::open(&record).unwrap();
    child.kill();
    reader.lock().unwrap();
    let _lease = registered(&place.folder(), "w").await;
    let mut answers = Answers::of(&place.folder());
    answers.ids(&["w"]).await;

    let mut child = Child::start(&place.0, "x");
    let reader = fs::File::open(place.at("default.worker.x.rolecall")).unwrap();
    child.kill();
    reader.lock_shared().unwrap();
    let _lease = registered(&place.folder(), "x").await;
    answers.ids(&["w", "x"]).await;
}

#[tokio::test]
async fn modes_do_not_depend_on_the_umask() {
    let parent = Place::new();
    let folder = parent.at("made");
    let _child = Child::start(&folder, "w");
    for (name, mode) in [
        ("made", 0o700),
        ("made/.rolecall", 0o700),
        ("made/.rolecall/tmp", 0o700),
        ("made/.rolecall/claims", 0o700),
        ("made/default.worker.w.rolecall", 0o600),
    ] {
        assert_eq!(parent.mode(name), mode, "{name}");
    }
}

#[tokio::test]
async fn a_folder_that_others_may_write_to_is_refused_unless_the_program_says_otherwise() {
    let place = Place::new();
    for mode in [0o777, 0o720, 0o702, 0o1777] {
        fs::set_permissions(&place.0, Permissions::from_mode(mode)).unwrap();
        let refused = place.folder().register(worker("w")).await.unwrap_err();
        let source = std::error::Error::source(&refused).unwrap().to_string();
        assert!(source.contains("other users may write to it"), "{source}");
        let fault = Answers::of(&place.folder()).fault().await;
        assert!(fault.contains("other users may write to it"), "{fault}");
        let shared = Folder::new(&place.0).allow_other_writers();
        let lease = registered(&shared, "w").await;
        Answers::of(&shared).ids(&["w"]).await;
        assert_eq!(place.mode("default.worker.w.rolecall"), 0o644);
        assert_eq!(place.mode(".rolecall/tmp"), mode & 0o1777);
        for claim in fs::read_dir(place.at(".rolecall/claims")).unwrap() {
            let claim = claim.unwrap().metadata().unwrap().permissions().mode();
            let writers = mode & 0o222;
            assert_eq!(
                claim & 0o777,
                writers | writers << 1,
                "a reader can lock no claim"
            );
        }
        lease.deregister().await.unwrap();
        fs::remove_dir_all(place.at(".rolecall")).unwrap();
    }
}

#[tokio::test]
async fn users_of_one_folder_register_beside_each_other() {
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        println!("not tested: it takes root to be another user");
        return;
    }
    let (place, other) = (Place::new(), Place::new());
    fs::set_permissions(&place.0, Permissions::from_mode(0o1777)).unwrap();
    fs::set_permissions(&other.0, Permissions::from_mode(0o755)).unwrap();
    let program = other.at("registrant");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let shared = Folder::new(&place.0).allow_other_writers();
    // Ids share their claims; these take all of them.
    for n in 0..300 {
        let lease = registered(&shared, &format!("w{n}")).await;
        lease.deregister().await.unwrap();
    }
    let mut child = Child::of_user(NOBODY, &program, "registrant", &place.0, "other");
    assert_eq!(child.line(), "registered");
    let _lease = registered(&shared, "own").await;
    Answers::of(&shared).ids(&["other", "own"]).await;
}

#[tokio::test]
async fn thousands_of_endpoints_leave_one_file() {
    let place = Place::new();
    let lease = registered(&place.folder(), "w").await;
    for n in 0..2000_u16 {
        let name = EndpointName::new(format!("e{n}")).unwrap();
        lease
            .add_endpoint(&name, ([10, 0, 0, 7], 1 + n))
            .await
            .unwrap();
        lease.remove_endpoint(&name).await.unwrap();
    }
    assert_eq!(place.records(), ["default.worker.w.rolecall"]);
    assert_eq!(fs::read_dir(place.at(".rolecall/tmp")).unwrap().count(), 0);
    lease.deregister().await.unwrap();
    assert!(place.records().is_empty());
}
