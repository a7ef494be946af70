//! The catalog: greets every friend that its guard lets in, on as many ports as it is told to open.

use std::net::IpAddr;

use rolecall::guard::{Guard, Listener};
use rolecall::{Boundary, BoxError};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::news::News;

pub(crate) async fn serve(ip: IpAddr) -> Result<(), BoxError> {
    let news = News::default();
    let guard = Guard::builder(news.clone(), Boundary::new("shop")?).build()?;
    let mut commands = news.commands();
    while let Some(command) = commands.recv().await {
        let answer = match command.split_once(' ').unwrap_or((&command, "")) {
            ("listen", _) => {
                let listener = guard.wrap(TcpListener::bind((ip, 0)).await?);
                let addr = listener.local_addr()?;
                tokio::spawn(greet(listener));
                addr.to_string()
            }
            ("allow", boundary) => {
                guard.allow(Boundary::new(boundary)?);
                "allowed".to_owned()
            }
            ("revoke", boundary) => {
                guard.revoke(&Boundary::new(boundary)?);
                "revoked".to_owned()
            }
            ("explain", ip) => guard.explain(ip.parse()?).to_string(),
            ("status", _) => guard.status().to_string().trim().replace('\n', "; "),
            _ => return Err(format!("unknown command: {command}").into()),
        };
        println!("{answer}");
    }
    Ok(())
}

async fn greet(mut listener: Listener) {
    loop {
        let (mut friend, from) = listener.accept().await;
        tokio::spawn(async move {
            let from = from.ip().map_or_else(String::new, |ip| ip.to_string());
            let greeting = format!("hello {from}\n");
            // Whoever does not wait for the greeting goes without it.
            let _ = friend.write_all(greeting.as_bytes()).await;
        });
    }
}
