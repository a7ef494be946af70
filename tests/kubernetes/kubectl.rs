//! `kubectl` as an outside judge of the stand-in: it reads, describes and writes by it.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time;

use super::stand_in::{ApiServer, pod};
use super::{Answers, DEADLINE, cluster, ids, server, slice};
use rolecall::Discovery;
use serde_json::Value;
use std::collections::BTreeSet;

/// A folder with a kubeconfig file, and with whatever `kubectl` caches.
struct Kubectl {
    home: PathBuf,
}

impl Kubectl {
    fn of(server: &ApiServer) -> Self {
        let name = format!("rolecall-kubectl-{}", server.address().port());
        let home = std::env::temp_dir().join(name);
        fs::create_dir_all(&home).unwrap();
        fs::write(home.join("config"), server.kubeconfig()).unwrap();
        Self { home }
    }

    async fn run(&self, arguments: &str, input: &str) -> String {
        let mut command = Command::new("kubectl");
        command
            .arg("--kubeconfig")
            .arg(self.home.join("config"))
            .args(arguments.split_whitespace())
            .env("HOME", &self.home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .expect("kubectl runs: on Debian it is the package kubernetes-client");
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        let output = time::timeout(DEADLINE, child.wait_with_output()).await;
        let output = output.expect("kubectl ends").unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Kubectl {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.home);
    }
}

#[tokio::test]
async fn kubectl_reads_and_writes_what_discovery_watches() {
    let server = server().await;
    server.put(slice("worker-a", [1, 2]).into());
    server.put(pod("shop", "pod-1", "Running", &["10.1.0.2"]));
    let kubectl = Kubectl::of(&server);
    let mut answers = Answers::of(&cluster(&server), "shop/worker:http");
    answers.set_of(2).await;

    let got = kubectl.run("get endpointslices -n shop -o name", "").await;
    assert_eq!(got.trim(), "endpointslice.discovery.k8s.io/worker-a");
    let selected = "get endpointslices -n shop -l kubernetes.io/service-name=other -o name";
    assert_eq!(kubectl.run(selected, "").await.trim(), "");
    let yaml = kubectl
        .run("get endpointslices worker-a -n shop -o yaml", "")
        .await;
    assert!(
        yaml.contains("- 10.1.0.3") && yaml.contains("addressType: IPv4"),
        "{yaml}"
    );
    let described = kubectl
        .run("describe endpointslices worker-a -n shop", "")
        .await;
    for line in [
        "AddressType:",
        "http  8080  TCP",
        "- Addresses:  10.1.0.2",
        "Ready:    true",
        "TargetRef:  Pod/pod-1",
    ] {
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            squeezed(&described).contains(&squeezed(line)),
            "no {line:?} in {described}"
        );
    }
    let pods = "get pods -n shop --field-selector status.phase=Running -o name";
    assert_eq!(kubectl.run(pods, "").await.trim(), "pod/pod-1");

    let manifest = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: by-hand\n  namespace: shop\n  \
                    labels: { kubernetes.io/service-name: worker }\naddressType: IPv4\nports: [{ name: http, port: 80, protocol: TCP }]\n\
                    endpoints:\n- addresses: [\"192.168.7.7\"]\n";
    let apply = "apply --validate=false -f -";
    assert!(kubectl.run(apply, manifest).await.contains("created"));
    assert_eq!(
        ids(&answers.set_of(3).await),
        ["192.168.7.7", "pod-1", "pod-2"]
    );
    let moved = manifest.replace("192.168.7.7", "192.168.7.8");
    assert!(kubectl.run(apply, &moved).await.contains("configured"));
    answers
        .until("the new address", |set| set.get("192.168.7.8").is_some())
        .await;
    kubectl
        .run("delete endpointslice by-hand -n shop --wait=false", "")
        .await;
    assert_eq!(ids(&answers.set_of(2).await), ["pod-1", "pod-2"]);
}

#[tokio::test]
async fn the_manifest_of_the_guide_allows_what_discovery_asks_for_and_no_more() {
    let server = server().await;
    let kubectl = Kubectl::of(&server);
    let guide = include_str!("../../src/guide/kubernetes.md");
    let manifest = guide.split("```yaml\n").nth(1).unwrap();
    let manifest = manifest.split("```").next().unwrap();
    let applied = kubectl.run("apply --validate=false -f -", manifest).await;
    assert_eq!(applied.matches("created").count(), 5, "{applied}");
    let role = kubectl.run("get role discovery -n shop -o json", "").await;
    let role: Value = serde_json::from_str(&role).unwrap();
    let texts = |list: &Value| -> Vec<String> {
        let texts = list.as_array().unwrap().iter();
        texts
            .map(|text| text.as_str().unwrap().to_owned())
            .collect()
    };
    let mut allowed = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        for resource in texts(&rule["resources"]) {
            allowed.extend(
                texts(&rule["verbs"])
                    .into_iter()
                    .map(|verb| (verb, resource.clone())),
            );
        }
    }

    let asking = super::server().await;
    asking.put(slice("a", [1]).into());
    let cluster = cluster(&asking);
    let mut answers = Answers::of(&cluster, "shop/worker:http");
    let mut peers = Answers(cluster.peers(&"shop".parse().unwrap()));
    answers.set_of(1).await;
    peers.set_of(0).await;
    time::timeout(DEADLINE, async {
        while asking.counts().open_watches < 2 {
            time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    let asked = asking.counts().asked.into_iter();
    let asked: BTreeSet<_> = asked
        .map(|(verb, resource)| (verb.to_owned(), resource))
        .collect();
    assert_eq!(asked, allowed);
}
