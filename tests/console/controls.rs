use std::time::Duration;

use reqwest::{Client, RequestBuilder, redirect};
use rolecall::console::Console;
use rolecall::{BalanceConfig, EjectionMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Fleet, get, serve};

const FORM: &str = "application/x-www-form-urlencoded";

async fn served() -> (Fleet, String, Client) {
    let fleet = Fleet::of(["pay-1", "pay-2", "pay-3"]);
    fleet
        .control
        .wait_usable(Duration::from_secs(5))
        .await
        .unwrap();
    let console = Console::new().add("payments", &fleet.control);
    let url = serve(console.with_controls("secret")).await;
    let client = Client::builder()
        .redirect(redirect::Policy::none())
        .build()
        .unwrap();
    (fleet, url, client)
}

fn form(request: RequestBuilder, body: &str) -> RequestBuilder {
    request.header("content-type", FORM).body(body.to_owned())
}

async fn sent(request: RequestBuilder) -> (u16, String) {
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test]
async fn the_token_ejects_and_restores_and_switches_to_shadow() {
    let (fleet, url, client) = served().await;
    let post = |path: &str, body: &str| {
        form(client.post(format!("{url}/{path}")), body).header("authorization", "Bearer secret")
    };
    let (status, said) = sent(post("eject", "target=payments&id=pay-2&seconds=60")).await;
    assert_eq!(
        (status, said.as_str()),
        (200, "pay-2 is ejected for 60 s\n")
    );
    assert!(fleet.is_out("pay-2"));
    let page = get(&url).await.text().await.unwrap();
    assert!(
        page.contains("<b>ejected</b>") && page.contains(">restore</button>"),
        "{page}"
    );
    let (status, said) = sent(post("restore", "target=payments&id=pay-2")).await;
    assert_eq!((status, said.as_str()), (200, "pay-2 is restored\n"));
    assert!(!fleet.is_out("pay-2"));
    assert_eq!(
        sent(post("shadow", "target=payments&shadow=on")).await.0,
        200
    );
    assert_eq!(fleet.control.status().ejection_mode, EjectionMode::Shadow);
    assert_eq!(
        sent(post("shadow", "target=payments&shadow=off")).await.0,
        200
    );
    assert_eq!(fleet.control.status().ejection_mode, EjectionMode::On);
    let off = BalanceConfig::builder().outlier(None).build().unwrap();
    fleet.control.reconfigure(off);
    assert_eq!(
        sent(post("shadow", "target=payments&shadow=on")).await.0,
        409
    );
    for (path, body, status) in [
        ("restore", "target=payments&id=pay-2", 404),
        ("eject", "target=payments&id=nobody&seconds=1", 404),
        ("eject", "target=nobody&id=pay-2&seconds=1", 404),
        ("eject", "target=payments&id=pay-2", 400),
        ("eject", "target=payments&seconds=5", 400),
        ("eject", "target=payments&id=pay-2&seconds=0", 400),
        ("eject", "target=payments&id=pay-2&seconds=-1", 400),
        ("eject", "target=payments&id=pay-2&seconds=86401", 400),
        (
            "eject",
            "target=payments&id=pay-2&seconds=99999999999999999999",
            400,
        ),
        ("shadow", "target=payments&shadow=maybe", 400),
    ] {
        assert_eq!(sent(post(path, body)).await.0, status, "{path} {body}");
    }
    assert!(!fleet.is_out("pay-2"));
}

#[tokio::test]
async fn a_form_of_a_browser_is_sent_back_to_the_page() {
    let (fleet, url, client) = served().await;
    let posted = form(
        client.post(format!("{url}/?at=eject&target=payments")),
        "token=secret&seconds=60&id=pay-1",
    );
    let host = url.strip_prefix("http://").unwrap();
    let posted = posted
        .header("accept", "text/html,application/xhtml+xml")
        .header("origin", &url)
        .header("sec-fetch-site", "same-origin");
    let response = posted.send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["location"]),
        (303, &"?".parse().unwrap()),
        "{host}"
    );
    assert!(fleet.is_out("pay-1"));
}

#[tokio::test]
async fn without_the_token_or_from_another_site_nothing_happens() {
    let (fleet, url, client) = served().await;
    let eject = "target=payments&id=pay-2&seconds=60";
    let post = |body: &str| form(client.post(format!("{url}/eject")), body);
    let token = |request: RequestBuilder| request.header("authorization", "Bearer secret");
    let with_token = format!("{eject}&token=secret");
    for (what, request, status) in [
        ("no token", post(eject), 403),
        (
            "a wrong one in the form",
            post(&format!("{eject}&token=secre")),
            403,
        ),
        (
            "a wrong one in the header, a right one in the form",
            post(&with_token).header("authorization", "Bearer x"),
            403,
        ),
        ("an empty one", post(&format!("{eject}&token=")), 403),
        (
            "another origin",
            token(post(eject)).header("origin", "http://evil.example"),
            403,
        ),
        (
            "no origin that has a name",
            token(post(eject)).header("origin", "null"),
            403,
        ),
        (
            "a browser says so",
            token(post(eject)).header("sec-fetch-site", "cross-site"),
            403,
        ),
        (
            "a form that is text",
            token(
                client
                    .post(format!("{url}/eject"))
                    .header("content-type", "text/plain")
                    .body(eject),
            ),
            415,
        ),
        (
            "no content type",
            token(client.post(format!("{url}/eject")).body(eject)),
            415,
        ),
        (
            "a large form",
            token(post(&format!("{eject}&x={}", "x".repeat(5000)))),
            413,
        ),
        (
            "no UTF-8",
            token(
                client
                    .post(format!("{url}/eject"))
                    .header("content-type", FORM)
                    .body(vec![255]),
            ),
            400,
        ),
    ] {
        assert_eq!(sent(request).await.0, status, "{what}");
        assert!(!fleet.is_out("pay-2"), "{what}");
    }
    let read = client
        .get(format!("{url}/eject?{eject}&token=secret"))
        .send()
        .await
        .unwrap();
    assert_eq!(
        (read.status().as_u16(), &read.headers()["allow"]),
        (405, &"POST".parse().unwrap())
    );
    assert!(!fleet.is_out("pay-2"));
}

#[tokio::test]
async fn an_empty_token_admits_nobody() {
    let fleet = Fleet::of(["pay-1", "pay-2"]);
    let url = serve(
        Console::new()
            .add("payments", &fleet.control)
            .with_controls(""),
    )
    .await;
    let client = Client::new();
    for body in [
        "target=payments&id=pay-1&seconds=9&token=",
        "target=payments&id=pay-1&seconds=9",
    ] {
        assert_eq!(
            sent(form(client.post(format!("{url}/eject")), body))
                .await
                .0,
            403
        );
    }
    let empty = form(client.post(format!("{url}/eject")), "").header("authorization", "Bearer ");
    assert_eq!(sent(empty).await.0, 403);
}

#[tokio::test]
async fn a_large_form_of_unknown_length_is_not_read_to_its_end() {
    let (fleet, url, _) = served().await;
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap())
        .await
        .unwrap();
    let head = format!(
        "POST /eject HTTP/1.1\r\nhost: x\r\nauthorization: Bearer secret\r\ncontent-type: {FORM}\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("800\r\n{}\r\n", "x".repeat(0x800));
    for _ in 0..3 {
        stream.write_all(chunk.as_bytes()).await.unwrap();
    }
    // The form has no end, and the answer comes.
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    assert!(!fleet.is_out("pay-1"));
}
