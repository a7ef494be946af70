//! Watches that end, break, grow old, are refused, and are shared.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use rolecall::discovery::{DiscoveryErrorKind, Kubernetes};
use rolecall::{BalanceLayer, Discovery, Instance};
use tower::{Layer, service_fn};

use super::stand_in::{Cut, Mode, Slice, endpoint};
use super::{Answers, DEADLINE, client, cluster, ids, server, slice, text};

#[tokio::test]
async fn a_thousand_balancers_of_ten_services_take_ten_watches() {
    let server = server().await;
    for role in 0..10 {
        let role = format!("role-{role}");
        let slice = Slice::new("shop", &role, &role).port("http", 80);
        server.put(slice.endpoints([endpoint(&role, "10.1.0.1")]).into());
    }
    let cluster = cluster(&server);
    let connector = service_fn(|_: Instance| async {
        Ok::<_, Infallible>(service_fn(|(): ()| async { Ok::<_, Infallible>(()) }))
    });
    let balancers: Vec<_> = (0..1000)
        .map(|n| {
            let target = format!("shop/role-{}:http", n % 10);
            BalanceLayer::new(cluster.clone(), &*target)
                .unwrap()
                .layer(connector)
        })
        .collect();
    for balancer in &balancers {
        let usable = balancer.control().wait_usable(DEADLINE).await;
        usable.unwrap();
    }
    let deadline = Instant::now() + DEADLINE;
    while server.counts().open_watches < 10 {
        assert!(Instant::now() < deadline, "{:?}", server.counts());
        tokio::task::yield_now().await;
    }
    let counts = server.counts();
    assert_eq!(
        (counts.open_watches, counts.watches, counts.lists),
        (10, 10, 10)
    );

    drop(balancers);
    while server.counts().open_watches > 0 {
        assert!(Instant::now() < deadline, "{:?}", server.counts());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_watch_whose_time_is_over_goes_on_from_where_it_was() {
    let server = server().await;
    server.put(slice("a", [1]).into());
    let cluster = cluster(&server).watch_timeout(Duration::from_secs(5));
    let mut answers = Answers::of(&cluster, "shop/worker:http");
    answers.set_of(1).await;
    let deadline = Instant::now() + DEADLINE;
    while server.counts().watches < 2 {
        assert!(Instant::now() < deadline, "{:?}", server.counts());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.put(slice("a", [1, 2]).into());
    assert_eq!(answers.next().await.unwrap().len(), 2);
    assert_eq!(server.counts().lists, 1, "it need not list again");

    // It was away for longer than the server remembers: that is no error, and it lists again.
    server.set_mode(Mode::Stopped);
    server.put(slice("a", 1..=3).into());
    server.compact();
    server.set_mode(Mode::Serving);
    assert_eq!(answers.next().await.unwrap().len(), 3);
    assert_eq!(server.counts().lists, 2);
}

#[tokio::test]
async fn a_watch_that_ends_before_its_time_lists_again_in_silence() {
    let server = server().await;
    server.put(slice("a", [1]).into());
    let mut answers = Answers::of(&cluster(&server), "shop/worker:http");
    answers.set_of(1).await;
    // One that ends within a second is a failure, so that it is not opened again without a pause.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    server.lose_data();
    server.cut_watches(Cut::Properly);
    server.put(slice("a", [1, 2]).into());
    assert_eq!(answers.next().await.unwrap().len(), 2);
    assert_eq!(server.counts().lists, 2);
}

#[tokio::test]
async fn the_lists_after_a_graceful_end_of_all_watches_are_spread() {
    const SERVICES: usize = 20;
    let server = server().await;
    let mut all = Vec::new();
    for number in 0..SERVICES {
        let name = format!("worker-{number}");
        let slice = Slice::new("shop", &name, &name).port("http", 80);
        server.put(slice.endpoints([endpoint("pod-1", "10.0.0.1")]).into());
        // One handle for each, as so many programs have.
        let mut answers = Answers::of(&cluster(&server), &format!("shop/{name}:http"));
        answers.set_of(1).await;
        all.push(answers);
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    server.cut_watches(Cut::Properly);
    let began = Instant::now();
    let mut lists = Vec::new();
    while lists.len() < SERVICES {
        assert!(began.elapsed() < DEADLINE, "only {lists:?}");
        lists.resize(server.counts().lists - SERVICES, began.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let spread = lists[SERVICES - 1] - lists[0];
    assert!(spread > Duration::from_millis(300), "{lists:?}");
}

#[tokio::test]
async fn a_watch_that_breaks_is_told_and_lists_again() {
    let mut server = server().await;
    server.put(slice("a", [1]).into());
    let mut answers = Answers::of(&cluster(&server), "shop/worker:http");
    answers.set_of(1).await;
    server.kill().await;
    server.put(slice("a", [1, 2]).into());
    let error = answers.error().await;
    assert_eq!(error.kind(), DiscoveryErrorKind::Backend);
    let error = text(&error);
    assert!(
        error.contains("cannot ") && error.contains("endpointslices.discovery.k8s.io"),
        "{error}"
    );
    server.come_back().await.unwrap();
    answers.set_of(2).await;

    for mode in [Mode::Garbage, Mode::Forbidden] {
        server.set_mode(mode);
        server.cut_watches(Cut::Broken);
        let error = text(&answers.error().await);
        assert!(error.contains("in namespace \"shop\""), "{mode:?}: {error}");
        server.set_mode(Mode::Serving);
        let (set, _) = answers.until("both", |_| true).await;
        assert_eq!(set.len(), 2, "{mode:?} took somebody out");
    }
}

#[tokio::test]
async fn a_server_that_lost_its_data_empties_the_set_after_the_hold_and_unconfirmed() {
    let mut server = server().await;
    for version in 0..10 {
        server.put(slice("a", 1..4 + version % 2).into());
    }
    let mut answers = Answers::of(&cluster(&server), "shop/worker:http");
    answers.set_of(4).await;
    server.kill().await;
    server.lose_data();
    server.come_back().await.unwrap();
    assert!(!answers.set_of(0).await.is_confirmed());
    // It is heard although its versions are lower than before.
    server.put(slice("a", [7]).into());
    assert_eq!(ids(&answers.set_of(1).await), ["pod-7"]);
}

#[tokio::test]
async fn a_watch_whose_connection_died_unnoticed_is_replaced() {
    let server = server().await;
    server.put(slice("a", [1]).into());
    let cluster = cluster(&server).watch_timeout(Duration::from_secs(5));
    let mut answers = Answers::of(&cluster, "shop/worker:http");
    answers.set_of(1).await;
    while server.counts().open_watches == 0 {
        tokio::task::yield_now().await;
    }
    server.silence_watches();
    server.put(slice("a", [1, 2]).into());
    let began = Instant::now();
    answers.set_of(2).await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(16), "it took {took:?}");
}

#[tokio::test]
async fn a_refusal_names_verb_resource_and_namespace() {
    let server = server().await;
    server.set_mode(Mode::Forbidden);
    let cluster = cluster(&server);
    let error = Answers::of(&cluster, "shop/worker:http").error().await;
    assert_eq!(error.kind(), DiscoveryErrorKind::Backend);
    let error = text(&error);
    let said = "cannot list endpointslices.discovery.k8s.io in namespace \"shop\"; it takes a Role with the verbs list and watch";
    assert!(error.contains(said), "{error}");
    assert!(
        error.contains("User \"system:serviceaccount:shop:worker\""),
        "the server's own words: {error}"
    );
    let mut peers = Answers(cluster.peers(&"shop".parse().unwrap()));
    let error = text(&peers.error().await);
    assert!(
        error.contains("cannot list pods in namespace \"shop\""),
        "{error}"
    );
}

#[tokio::test]
async fn a_cluster_that_is_nowhere_is_an_error_of_the_watch() {
    // No kubeconfig and no service account are here; where there are, this test says nothing.
    if std::env::var_os("KUBECONFIG").is_some()
        || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
    {
        return;
    }
    let error = Answers::of(&Kubernetes::new(), "shop/worker:http")
        .error()
        .await;
    let error = text(&error);
    assert!(error.contains("cannot list endpointslices"), "{error}");
}

#[tokio::test]
async fn a_client_can_be_used_by_the_program_too() {
    let server = server().await;
    server.put(slice("a", [1]).into());
    let client = client(&server);
    let discovery = Kubernetes::with_client(client.clone());
    Answers::of(&discovery, "shop/worker:http").set_of(1).await;
    let version = client.apiserver_version().await.unwrap();
    assert_eq!(version.major, "1");
}
