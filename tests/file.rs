//! What is particular to discovery by file: how files are replaced, what can be in them, and what they may not exhaust.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test")]

use std::env;
use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::StreamExt;
use rolecall::discovery::{BoxStream, DiscoveryError, DiscoveryErrorKind, File};
use rolecall::{Discovery, InstanceSet, Lease, Registrar, Registration};
use tokio::time;

const PATIENCE: Duration = Duration::from_secs(60);

struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("rolecall-file-{}-{number}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Answers(BoxStream<'static, Result<InstanceSet, DiscoveryError>>);

impl Answers {
    fn of(file: &File, target: &str) -> Self {
        Self(Discovery::watch(file, &target.parse().unwrap()))
    }

    async fn next(&mut self) -> Result<InstanceSet, DiscoveryError> {
        let answer = time::timeout(PATIENCE, self.0.next()).await;
        answer.expect("an answer").expect("a watch does not end")
    }

    /// The next set of these ports, past other sets and errors.
    async fn ports(&mut self, wanted: &[u16]) -> InstanceSet {
        loop {
            if let Ok(set) = self.next().await
                && ports(&set) == wanted
            {
                return set;
            }
        }
    }

    /// The next error's cause; no set may come before it.
    async fn fault(&mut self) -> String {
        let error = self.next().await.expect_err("the last good answer stays");
        assert_eq!(error.kind(), DiscoveryErrorKind::Backend);
        error.source().unwrap().to_string()
    }
}

fn ports(set: &InstanceSet) -> Vec<u16> {
    set.iter().map(|instance| instance.addr().port()).collect()
}

fn roles(ports: &[u16]) -> String {
    let mut text = "[[role]]\nname = \"worker\"\n".to_owned();
    for port in ports {
        text += &format!(
            "\n[[role.instance]]\nid = \"w-{port}\"\nendpoints = {{ http = \"10.0.0.7:{port}\" }}\n"
        );
    }
    text
}

fn replace(path: &Path, text: impl AsRef<[u8]>) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, path).unwrap();
}

#[tokio::test]
async fn every_replacement_of_a_role_environment_is_followed() {
    let place = Place::new();
    let path = place.at("roles.toml");
    replace(&path, roles(&[1]));
    let mut answers = Answers::of(&File::new(&path), "worker:http");
    let set = answers.next().await.unwrap();
    assert_eq!(ports(&set), [1]);
    assert!(
        !set.is_confirmed(),
        "who writes it in place may be half way"
    );
    for port in 2..20 {
        replace(&path, roles(&[port]));
        answers.ports(&[port]).await;
    }
    fs::write(&path, roles(&[20])).unwrap();
    answers.ports(&[20]).await;
    fs::write(&path, roles(&[])).unwrap();
    let nobody = answers.ports(&[]).await;
    assert!(!nobody.is_confirmed());
}

#[tokio::test]
async fn quick_rewrites_of_equal_length_are_seen() {
    let place = Place::new();
    let path = place.at("roles.toml");
    let mut answers = Answers::of(&File::new(&path), "worker:http");
    for port in 100..300 {
        fs::write(&path, roles(&[port])).unwrap();
        answers.ports(&[port]).await;
    }
}

#[tokio::test]
async fn swapped_symbolic_links_are_followed() {
    let place = Place::new();
    let version = |number: u16| {
        let folder = place.at(&format!("..{number}"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("roles.toml"), roles(&[number])).unwrap();
        symlink(folder, place.at("..data_tmp")).unwrap();
        fs::rename(place.at("..data_tmp"), place.at("..data")).unwrap();
    };
    version(1);
    let path = place.at("roles.toml");
    symlink("..data/roles.toml", &path).unwrap();
    let mut answers = Answers::of(&File::new(&path), "worker:http");
    answers.ports(&[1]).await;
    for number in 2..10 {
        version(number);
        fs::remove_dir_all(place.at(&format!("..{}", number - 1))).unwrap();
        answers.ports(&[number]).await;
    }
}

#[tokio::test]
async fn a_replaced_folder_does_not_make_it_deaf() {
    let place = Place::new();
    let path = place.at("folder/roles.toml");
    let mut answers = Answers::of(&File::new(&path), "worker:http");
    let fault = answers.fault().await;
    assert!(
        fault.contains("roles.toml: it cannot be read: No such file"),
        "{fault}"
    );
    for port in 1..4 {
        fs::create_dir(place.at("folder.new")).unwrap();
        fs::write(place.at("folder.new/roles.toml"), roles(&[port])).unwrap();
        let _ = fs::rename(place.at("folder"), place.at(&format!("old.{port}")));
        fs::rename(place.at("folder.new"), place.at("folder")).unwrap();
        answers.ports(&[port]).await;
    }
    replace(&path, roles(&[9]));
    answers.ports(&[9]).await;
}

#[tokio::test]
async fn of_a_bad_role_environment_the_last_good_one_stays() {
    let place = Place::new();
    let path = place.at("roles.toml");
    let good = roles(&[1, 2]);
    replace(&path, &good);
    let file = File::new(&path);
    let mut answers = Answers::of(&file, "worker:http");
    answers.ports(&[1, 2]).await;
    let huge_id = good.replace("w-2", &"x".repeat(1 << 20));
    let million: String = (0..1_000_000)
        .map(|id| format!("[[role.instance]]\nid=\"{id}\"\n"))
        .collect();
    let mut not_text = good.clone().into_bytes();
    not_text[40] = 0xff;
    for (bad, says) in [
        (&good.as_bytes()[..good.len() - 20], ":10: "),
        (
            good.replace("10.0.0.7:2", "0.0.0.0:2").as_bytes(),
            ":10: role[0].instance[1].endpoints.http: invalid instance address",
        ),
        (
            good.replace("w-2", "w\\n\\u001b2").as_bytes(),
            ":9: role[0].instance[1].id: invalid instance id \"w\\n\\u{1b}2\"",
        ),
        (
            huge_id.as_bytes(),
            ":9: role[0].instance[1].id: invalid instance id \"xxx",
        ),
        (&not_text, ":4: it is no UTF-8 text"),
        (million.as_bytes(), "it is larger than 8388608 bytes"),
    ] {
        replace(&path, bad);
        let fault = answers.fault().await;
        assert!(fault.contains(says), "{fault}");
        assert!(
            fault.contains("roles.toml") && fault.len() < 1024,
            "{fault}"
        );
        assert!(!fault.contains(char::is_control), "{fault:?}");
        let mut late = Answers::of(&file, "worker:http");
        let mut both = [late.next().await.is_err(), late.next().await.is_err()];
        both.sort_unstable();
        assert_eq!(
            both,
            [false, true],
            "what was good, and the error, in any order"
        );
    }
    for (make, port) in [("mkdir", 3), ("mkfifo", 4)] {
        fs::remove_file(&path).unwrap();
        let made = Command::new(make).arg(&path).status().unwrap();
        assert!(made.success());
        while !answers.fault().await.contains("not a regular file") {}
        fs::remove_dir(&path)
            .or_else(|_| fs::remove_file(&path))
            .unwrap();
        replace(&path, roles(&[port]));
        answers.ports(&[port]).await;
    }
}

#[tokio::test]
async fn an_id_that_is_there_twice_is_reported_and_the_last_stays() {
    let place = Place::new();
    let path = place.at("roles.json");
    let instance =
        |port: u16| format!("{{\"id\": \"w\", \"endpoints\": {{\"http\": \"10.0.0.7:{port}\"}}}}");
    let both = format!("{}, {}", instance(1), instance(2));
    let text = format!("{{\"role\": [{{\"name\": \"worker\", \"instance\": [{both}]}}]}}");
    replace(&path, text);
    let mut answers = Answers::of(&File::new(&path), "worker:http");
    let (mut set, mut told) = (None, None);
    while set.is_none() || told.is_none() {
        match answers.next().await {
            Ok(news) => set = Some(ports(&news)),
            Err(error) => told = Some(error.source().unwrap().to_string()),
        }
    }
    assert_eq!(set, Some(vec![2]));
    let told = told.unwrap();
    assert!(
        told.ends_with("role[0].instance[1].id: id \"w\" is there twice; the last stays"),
        "{told}"
    );
}

#[tokio::test]
async fn an_announced_endpoint_that_nobody_has_is_an_empty_set() {
    let place = Place::new();
    let path = place.at("roles.toml");
    replace(
        &path,
        "[[role]]\nname = \"worker\"\nboundary = \"media\"\nendpoints = [\"http\"]\n",
    );
    let file = File::new(&path);
    let set = Answers::of(&file, "media/worker:http").next().await;
    assert!(set.unwrap().is_empty());
    let error = Answers::of(&file, "media/worker:grpc").next().await;
    let text = error.unwrap_err().to_string();
    assert!(text.ends_with("it has \"http\""), "{text}");
}

const LEASE: Duration = Duration::from_secs(2);

async fn registered(file: &File, id: &str) -> Lease {
    let registration = Registration::new("worker").id(id);
    let registration = registration.endpoint("http", ([10, 0, 0, 7], 80).into());
    file.register(registration).await.unwrap()
}

/// The registrations that stand in a folder.
fn records(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".json")).collect();
    names.sort_unstable();
    names
}

async fn until_there_are(count: usize, folder: &Path) {
    let registering = time::timeout(PATIENCE, async {
        while records(folder).len() < count {
            time::sleep(Duration::from_millis(10)).await;
        }
    });
    registering.await.expect("they register again");
}

#[tokio::test]
async fn a_registration_that_others_removed_comes_back() {
    let place = Place::new();
    let file = File::new(&place.0).lease(LEASE);
    let _leases = (registered(&file, "a").await, registered(&file, "b").await);
    let mut answers = Answers::of(&file, "worker:http");
    answers.ports(&[80, 80]).await;
    assert_eq!(
        records(&place.0),
        ["default.worker.a.json", "default.worker.b.json"]
    );
    fs::remove_file(place.at("default.worker.a.json")).unwrap();
    until_there_are(2, &place.0).await;
    let _third = registered(&file, "c").await;
    answers.ports(&[80, 80, 80]).await;
}

#[tokio::test]
async fn another_folder_in_its_place_loses_nobody() {
    let place = Place::new();
    let folder = place.at("folder");
    let writer = File::new(&folder).lease(LEASE);
    let _leases = (
        registered(&writer, "a").await,
        registered(&writer, "b").await,
    );
    let reader = File::new(&folder).lease(LEASE);
    let mut answers = Answers::of(&reader, "worker:http");
    answers.ports(&[80, 80]).await;
    fs::rename(&folder, place.at("gone")).unwrap();
    let fault = answers.fault().await;
    assert!(
        fault.contains("folder: the folder cannot be read: No such file"),
        "{fault}"
    );
    fs::create_dir(&folder).unwrap();
    let third = registered(&writer, "c").await;
    let set = answers.next().await.unwrap();
    assert_eq!(set.len(), 3, "an empty folder took nobody away");
    until_there_are(3, &folder).await;
    // Only what the present folder has decides from now on.
    third.deregister().await.unwrap();
    answers.ports(&[80, 80]).await;
    assert!(
        records(&place.at("gone")).len() >= 2,
        "what was moved away is left alone"
    );
}

#[tokio::test]
#[ignore = "makes a hundred thousand files"]
async fn a_flooded_folder_exhausts_nothing_and_takes_nobody_away() {
    let place = Place::new();
    let file = File::new(&place.0).lease(LEASE);
    let _lease = registered(&file, "a").await;
    let mut answers = Answers::of(&file, "worker:http");
    answers.ports(&[80]).await;
    let flood = place.at("flood");
    fs::create_dir(&flood).unwrap();
    // Elsewhere first, so that one rename makes the flood.
    for number in 0..100_001 {
        fs::File::create(flood.join(format!("{number}"))).unwrap();
    }
    let (normal, swapped) = (place.0.clone(), place.0.with_extension("normal"));
    let record = "default.worker.a.json";
    fs::hard_link(normal.join(record), flood.join(record)).unwrap();
    fs::rename(&flood, normal.with_extension("flood")).unwrap();
    fs::rename(&normal, &swapped).unwrap();
    fs::rename(normal.with_extension("flood"), &normal).unwrap();
    while !answers
        .fault()
        .await
        .contains("it has more than 100000 entries")
    {}
    fs::rename(&normal, swapped.join("flood")).unwrap();
    fs::rename(&swapped, &normal).unwrap();
    let _second = registered(&file, "b").await;
    let set = answers.ports(&[80, 80]).await;
    assert_eq!(set.len(), 2);
}

#[tokio::test]
async fn a_foreign_name_or_lease_is_refused() {
    let place = Place::new();
    let file = File::new(&place.0).lease(LEASE);
    let _lease = registered(&file, "a").await;
    let mut answers = Answers::of(&file, "worker:http");
    answers.ports(&[80]).await;
    let text = fs::read_to_string(place.at("default.worker.a.json")).unwrap();
    // As its writer would, so that nobody takes it for the file of a dead one.
    let held = |name: &str, text: &str| {
        let beside = place.at(".foreign");
        fs::write(&beside, text).unwrap();
        let file = fs::File::open(&beside).unwrap();
        file.lock().unwrap();
        fs::rename(&beside, place.at(name)).unwrap();
        file
    };
    let _impostor = held("default.worker.b.json", &text);
    let fault = answers.fault().await;
    assert!(
        fault.contains("b.json: it holds the registration that belongs into default.worker.a.json"),
        "{fault}"
    );
    let forever = text
        .replace("\"id\": \"a\"", "\"id\": \"b\"")
        .replace("\"2s\"", "\"1000years\"");
    let _forever = held("default.worker.b.json", &forever);
    let fault = answers.fault().await;
    assert!(
        fault.contains("b.json: lease: ") && fault.contains("is no lease from 1s to 3600s"),
        "{fault}"
    );
}

#[tokio::test]
async fn a_fault_that_is_mended_is_told_of_by_what_was_good_all_the_time() {
    let place = Place::new();
    let path = place.at("roles.toml");
    let good = roles(&[1, 2]);
    replace(&path, &good);
    let mut answers = Answers::of(&File::new(&path), "worker:http");
    answers.ports(&[1, 2]).await;
    for _ in 0..2 {
        replace(&path, "[[");
        answers.fault().await;
        replace(&path, &good);
        let set = answers.next().await.expect("well again");
        assert_eq!(set.len(), 2);
    }
}
