//! What others do to records is put right.

use std::fs;

use crate::{Answers, Place, eventually, registered};

#[tokio::test]
async fn a_record_that_others_removed_or_overwrote_is_written_again() {
    let place = Place::new();
    let folder = place.folder();
    let lease = registered(&folder, "a").await;
    let mut answers = Answers::of(&place.folder());
    answers.ids(&["a"]).await;
    let record = place.at("default.worker.a.rolecall");
    let good = fs::read(&record).unwrap();
    for harm in 0..6 {
        match harm % 3 {
            0 => fs::remove_file(&record).unwrap(),
            1 => fs::write(&record, b"{\"rolecall\":1, torn").unwrap(),
            _ => fs::write(&record, b"something else").unwrap(),
        }
        eventually("it is written again", || {
            fs::read(&record).is_ok_and(|now| now == good)
        })
        .await;
    }
    lease
        .add_endpoint("http", ([10, 0, 0, 7], 81))
        .await
        .unwrap();
    loop {
        let set = answers.ids(&["a"]).await;
        if set.get("a").unwrap().address().port().unwrap() == 81 {
            break;
        }
    }
    lease.deregister().await.unwrap();
    assert!(place.records().is_empty());
}

#[tokio::test]
async fn all_that_was_removed_comes_back() {
    let parent = Place::new();
    let path = parent.at("folder");
    let folder = rolecall::discovery::Folder::new(&path);
    let _leases = (
        registered(&folder, "a").await,
        registered(&folder, "b").await,
    );
    fs::remove_dir_all(&path).unwrap();
    eventually("the folder is made again", || {
        fs::read_dir(&path).is_ok_and(|entries| entries.count() == 3)
    })
    .await;
    Answers::of(&rolecall::discovery::Folder::new(&path))
        .ids(&["a", "b"])
        .await;
}

#[tokio::test]
async fn another_folder_in_its_place_loses_nobody() {
    let parent = Place::new();
    let path = parent.at("folder");
    let writer = rolecall::discovery::Folder::new(&path);
    let _leases = (
        registered(&writer, "a").await,
        registered(&writer, "b").await,
    );
    let mut answers = Answers::of(&rolecall::discovery::Folder::new(&path));
    answers.ids(&["a", "b"]).await;
    fs::rename(&path, parent.at("gone")).unwrap();
    let fault = answers.fault().await;
    assert!(
        fault.contains("folder: the folder cannot be read: No such file"),
        "{fault}"
    );
    fs::create_dir(&path).unwrap();
    let third = registered(&rolecall::discovery::Folder::new(&path), "c").await;
    let set = loop {
        match answers.next().await {
            Ok(set) if set.len() == 3 => break set,
            Ok(set) => assert_eq!(set.len(), 2, "an empty folder took somebody away"),
            Err(_) => {}
        }
    };
    assert!(
        !set.is_confirmed(),
        "they may have been lost with the folder"
    );
    eventually("all register again", || {
        fs::read_dir(&path).unwrap().count() == 4
    })
    .await;
    third.deregister().await.unwrap();
    answers.ids(&["a", "b"]).await;
    let left = fs::read_dir(parent.at("gone")).unwrap().count();
    assert_eq!(left, 3, "what was moved away is left alone");
}
