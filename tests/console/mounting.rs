//! Under a prefix, and in other servers.

use axum::Router;
use rolecall::console::Console;
use tokio::net::TcpListener;

use crate::support::{Fleet, get, text, url_of};

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = url_of(listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

#[tokio::test]
async fn all_links_work_under_any_prefix_with_and_without_a_slash() {
    let (fleet, other) = (Fleet::of(["pay-1"]), Fleet::of(["mail-1"]));
    let console = || {
        let console = Console::new().add("payments", &fleet.control);
        console
            .add("mail & more", &other.control)
            .with_controls("x")
    };
    let router = Router::new()
        .nest_service("/console", console())
        .nest_service("/deep/er/console", console())
        .fallback_service(console());
    // What a server of tonic is built from.
    let tonic = tonic::service::Routes::default().into_axum_router();
    let url = serve(router).await;
    let tonic = serve(tonic.nest_service("/console", console())).await;
    for page in [
        url.clone(),
        format!("{url}/console"),
        format!("{url}/console/"),
        format!("{url}/deep/er/console"),
        format!("{tonic}/console"),
    ] {
        let html = text(&page).await;
        let mut links = 0;
        for name in ["href=\"", "formaction=\""] {
            for link in html.split(name).skip(1) {
                let link = link.split('"').next().unwrap();
                assert!(
                    link.starts_with('?') || link == "data:,",
                    "{link} depends on the prefix"
                );
                links += 1;
            }
        }
        assert!(links > 5, "{html}");
        assert!(!html.contains("src="), "it loads nothing: {html}");
        let one = text(&format!("{page}?target=mail%20%26%20more")).await;
        assert!(one.contains("mail-1") && !one.contains("pay-1"), "{one}");
        let events = get(&format!("{page}?at=events&view")).await;
        assert_eq!(events.headers()["content-type"], "text/event-stream");
        assert!(
            text(&format!("{page}?at=status.json"))
                .await
                .starts_with('{')
        );
    }
    assert!(
        text(&format!("{url}/console/status.json"))
            .await
            .starts_with('{')
    );
    assert_eq!(get(&format!("{url}/console/other")).await.status(), 404);
}
