//! Calls from an address of its own: by role, through a balancer, or by an address that it has from somewhere.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::error::Error as _;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use rolecall::{
    Address, BalanceConfig, BalanceLayer, Boundary, BoxError, Discovery, ErrorKind, Instance,
    connect,
};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpSocket;
use tokio::time::timeout;
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::news::News;

const PATIENCE: Duration = Duration::from_secs(5);

type Client = BoxCloneSyncService<(), String, rolecall::Error>;

pub(crate) async fn call(ip: IpAddr, boundary: Boundary) -> Result<(), BoxError> {
    let news = News::default();
    let mut clients = HashMap::new();
    let mut commands = news.commands();
    while let Some(command) = commands.recv().await {
        let answer = match command.split_once(' ') {
            Some(("call", target)) => {
                let client: &mut Client = match clients.entry(target.to_owned()) {
                    Entry::Occupied(client) => client.into_mut(),
                    Entry::Vacant(place) => {
                        place.insert(client(news.clone(), boundary.clone(), target, ip)?)
                    }
                };
                match client.ready().await?.call(()).await {
                    Ok(greeting) => format!("answered \"{greeting}\""),
                    Err(error) => match error.kind() {
                        ErrorKind::NotVisible => {
                            let why = error.source().map(ToString::to_string);
                            format!("not visible: {}", why.unwrap_or_default())
                        }
                        _ => format!("failed: {error}"),
                    },
                }
            }
            Some(("knock", addr)) => match greeting(ip, addr.parse()?).await {
                Ok(greeting) => format!("answered \"{greeting}\""),
                Err(error) => match error.kind() {
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                        "closed".to_owned()
                    }
                    _ => format!("failed: {error}"),
                },
            },
            _ => return Err(format!("unknown command: {command}").into()),
        };
        println!("{answer}");
    }
    Ok(())
}

fn client(
    discovery: impl Discovery,
    boundary: Boundary,
    target: &str,
    ip: IpAddr,
) -> Result<Client, BoxError> {
    let connector = connect::per_instance(move |instance: &Instance| {
        let address = instance.address().clone();
        service_fn(move |()| greeting(ip, address.clone()))
    });
    // Whoever may not call is to be told soon.
    let config = BalanceConfig::builder()
        .unavailable_after(Duration::from_millis(250))
        .build()?;
    let balance = BalanceLayer::new(discovery, target)?
        .boundary(boundary)
        .config(config)
        .layer(connector);
    Ok(BoxCloneSyncService::new(balance))
}

/// The line that a server says to whoever comes from `ip`; an error if it closes the connection before.
async fn greeting(ip: IpAddr, address: Address) -> io::Result<String> {
    let talking = async {
        let addr = address.tcp().ok_or(io::ErrorKind::Unsupported)?;
        let socket = TcpSocket::new_v4()?;
        socket.bind((ip, 0).into())?;
        let mut line = String::new();
        let mut stream = BufReader::new(socket.connect(addr).await?);
        match stream.read_line(&mut line).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    };
    timeout(PATIENCE, talking)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
