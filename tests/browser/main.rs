//! The console in a real browser: Chromium, driven by chromedriver.
//!
//! ```sh
//! apt-get install chromium chromium-driver
//! cargo test --test browser -- --include-ignored
//! ```

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests on sockets, which have real time"
)]

mod driver;
#[path = "../console/support.rs"]
#[expect(
    dead_code,
    reason = "the tests of the console without a browser use more of it"
)]
mod support;

use rolecall::console::Console;
use serde_json::json;

use crate::driver::Browser;
use crate::support::{Fleet, serve, until};

#[tokio::test]
#[ignore = "needs chromium and chromedriver"]
async fn an_ejection_is_seen_live_and_ended_and_begun_by_hand() {
    let fleet = Fleet::of(["pay-1", "pay-2", "pay-3"]);
    let console = Console::new().add("payments", &fleet.control);
    let url = serve(console.with_controls("secret")).await;
    let browser = Browser::start(json!({})).await;
    browser.open(&url).await;
    until("the page is live", async || {
        browser.text("#live").await == "live"
    })
    .await;
    assert!(
        browser
            .text("h1")
            .await
            .starts_with("no instance is out, 3 known")
    );
    // A page that is loaded again would lose this.
    browser
        .run("window.mark = 'kept'; document.querySelector('[name=seconds]').value = '45'")
        .await;

    fleet.fail_until_ejected("pay-2").await;
    until("the ejection is seen", async || {
        browser.text("h1").await.starts_with("1 of 3 instances out")
    })
    .await;
    let row = browser.text("tbody.out").await;
    for part in [
        "pay-2",
        "ejected",
        "until ",
        "failures in a row, the last: connection reset",
    ] {
        assert!(row.contains(part), "{part} is not in {row}");
    }
    until("the ejection is among the events", async || {
        browser
            .text("ol")
            .await
            .contains("pay-2 (10.0.0.2:80) ejected for")
    })
    .await;
    until("requests are drawn", async || {
        fleet.call(20).await;
        browser
            .run("return document.querySelectorAll('tbody.fine svg.g path').length")
            .await
            != 0
    })
    .await;
    let log = browser.log().await;
    assert_eq!(
        log,
        json!([]),
        "the policy refuses a part of the page, or a script failed"
    );

    fleet.heal("pay-2");
    browser.click("tbody.out button").await;
    // Without a token the browser asks for one, and the form is not sent.
    assert!(fleet.is_out("pay-2"));
    browser.write("[name=token]", "wrong").await;
    browser.click("tbody.out button").await;
    assert_eq!(browser.accept().await, "restore pay-2?");
    until("it is refused", async || {
        browser.text("output").await.contains("wrong token")
    })
    .await;
    assert!(fleet.is_out("pay-2"));
    browser
        .run("document.querySelector('[name=token]').value = ''")
        .await;
    browser.write("[name=token]", "secret").await;
    browser.click("tbody.out button").await;
    browser.accept().await;
    until("it is restored", async || {
        browser.text("output").await == "pay-2 is restored"
    })
    .await;
    assert!(!fleet.is_out("pay-2"));
    until("nobody is out", async || {
        browser.text("h1").await.starts_with("no instance is out")
    })
    .await;

    browser.click("button[value=pay-1]").await;
    assert_eq!(browser.accept().await, "eject pay-1?");
    until("it is ejected", async || {
        browser.text("output").await == "pay-1 is ejected for 45 s"
    })
    .await;
    assert!(fleet.is_out("pay-1"));
    until("it is seen", async || {
        browser.text("tbody.out").await.contains("pay-1")
    })
    .await;
    assert_eq!(browser.run("return window.mark").await, "kept");
    browser.end().await;
}

#[tokio::test]
#[ignore = "needs chromium and chromedriver"]
async fn without_javascript_it_is_a_plain_table_with_forms() {
    let fleet = Fleet::of(["pay-1", "pay-2", "pay-3"]);
    let console = Console::new().add("payments", &fleet.control);
    let url = serve(console.with_controls("secret")).await;
    fleet.fail_until_ejected("pay-2").await;
    let browser = Browser::start(json!({
        "prefs": { "profile.managed_default_content_settings.javascript": 2 },
    }))
    .await;
    browser.open(&url).await;
    assert_eq!(
        browser.text("#live").await,
        "as of this moment; reload for news"
    );
    let table = browser.text("table").await;
    for part in [
        "pay-1",
        "pay-2",
        "pay-3",
        "ejected",
        "until ",
        "failures in a row",
    ] {
        assert!(table.contains(part), "{part} is not in {table}");
    }
    fleet.heal("pay-2");
    browser.write("[name=token]", "secret").await;
    browser.click("tbody.out button").await;
    until("the page is back", async || {
        browser.text("h1").await.starts_with("no instance is out")
    })
    .await;
    assert!(!fleet.is_out("pay-2"));
    browser.end().await;
}

#[tokio::test]
#[ignore = "needs chromium and chromedriver"]
async fn it_is_no_wider_than_a_telephone() {
    let long = "deployment-with-a-long-name-7d9f8b6c5d-x2x4z";
    let fleet = Fleet::of(["pay-1", long, "pay-3"]);
    let console = Console::new().add("payments", &fleet.control);
    let url = serve(console.with_controls("secret")).await;
    fleet.fail_until_ejected(long).await;
    let metrics = json!({ "width": 390, "height": 844, "pixelRatio": 1 });
    let browser = Browser::start(json!({ "mobileEmulation": { "deviceMetrics": metrics } })).await;
    browser.open(&url).await;
    until("the page is live", async || {
        browser.text("#live").await == "live"
    })
    .await;
    assert!(browser.text("tbody.out").await.contains(long));
    let widths = browser
        .run("return [document.documentElement.scrollWidth, innerWidth]")
        .await;
    assert_eq!(widths, json!([390, 390]), "it is wider than a telephone");
    browser.end().await;
}
