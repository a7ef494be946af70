//! What is particular to a roles file: how it is replaced, and what can be in it.

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
use rolecall::discovery::{BoxStream, DiscoveryError, DiscoveryErrorKind, LeaseState, RolesFile};
use rolecall::{Discovery, InstanceSet, Registrar, Registration};
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
    fn of(file: &RolesFile, target: &str) -> Self {
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
    set.iter()
        .map(|instance| instance.address().port().unwrap())
        .collect()
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
    let mut answers = Answers::of(&RolesFile::new(&path), "worker:http");
    let set = answers.next().await.unwrap();
    assert_eq!(ports(&set), [1]);
    assert!(
        !set.is_confirmed(),
        "who writes it in place may be half way"
    );
    for port in 2..9 {
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
    let mut answers = Answers::of(&RolesFile::new(&path), "worker:http");
    // Two hundred, ten at a time: faster than the times of files tell and than the file is looked at. The last one of ten
    // must be seen, wherever a look fell between the others.
    for burst in 10..30 {
        for port in burst * 10..burst * 10 + 10 {
            fs::write(&path, roles(&[port])).unwrap();
            time::sleep(Duration::from_micros(u64::from(port) % 7 * 300)).await;
        }
        answers.ports(&[burst * 10 + 9]).await;
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
    let mut answers = Answers::of(&RolesFile::new(&path), "worker:http");
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
    let mut answers = Answers::of(&RolesFile::new(&path), "worker:http");
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
    let file = RolesFile::new(&path);
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
        (&not_text, ":4: not UTF-8 text"),
        (million.as_bytes(), "larger than 8388608 bytes"),
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
    let mut answers = Answers::of(&RolesFile::new(&path), "worker:http");
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
        told.ends_with("role[0].instance[1].id: id \"w\" occurs twice; the last entry wins"),
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
    let file = RolesFile::new(&path);
    let set = Answers::of(&file, "media/worker:http").next().await;
    assert!(set.unwrap().is_empty());
    let error = Answers::of(&file, "media/worker:grpc").next().await;
    let text = error.unwrap_err().to_string();
    assert!(text.ends_with("it has \"http\""), "{text}");
}

#[tokio::test]
async fn a_fault_that_is_mended_is_told_of_by_what_was_good_all_the_time() {
    let place = Place::new();
    let path = place.at("roles.toml");
    let good = roles(&[1, 2]);
    replace(&path, &good);
    let mut answers = Answers::of(&RolesFile::new(&path), "worker:http");
    answers.ports(&[1, 2]).await;
    for _ in 0..2 {
        replace(&path, "[[");
        answers.fault().await;
        replace(&path, &good);
        let set = answers.next().await.expect("well again");
        assert_eq!(set.len(), 2);
    }
}

#[tokio::test]
async fn a_file_that_stands_still_is_believed_and_one_that_is_written_is_not() {
    let place = Place::new();
    let path = place.at("roles.toml");
    replace(&path, roles(&[1, 2, 3, 4]));
    let mut answers = Answers::of(&RolesFile::new(&path), "worker:http");
    assert!(!answers.ports(&[1, 2, 3, 4]).await.is_confirmed());
    let set = answers.next().await.unwrap();
    assert!(set.is_confirmed() && set.len() == 4, "it stood still");
    fs::write(&path, roles(&[1])).unwrap();
    assert!(
        !answers.ports(&[1]).await.is_confirmed(),
        "it may be half of one"
    );
    fs::write(&path, roles(&[1, 2])).unwrap();
    assert!(!answers.ports(&[1, 2]).await.is_confirmed());
    assert!(answers.ports(&[1, 2]).await.is_confirmed());
}

#[tokio::test]
async fn whoever_writes_the_file_registers() {
    let place = Place::new();
    let file = RolesFile::new(place.at("roles.toml"));
    let lease = file.register(Registration::new("worker")).await.unwrap();
    assert!(matches!(lease.state(), LeaseState::ByPlatform));
}
