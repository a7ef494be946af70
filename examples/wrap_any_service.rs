//! The same layer round three different services: a plain function, a shared pooled HTTP client, and raw TCP behind a
//! service that is not `Clone`.
//!
//! Each part starts three instances, sends requests through one balancer, and prints who answered how many. The exit
//! code is 0 only if every request was answered and every instance took part.
//!
//! ```sh
//! cargo run --example wrap_any_service
//! ```

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::process::ExitCode;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn as hyper_service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rolecall::{BalanceLayer, BoxError, Instance, List, Outcome, connect};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tower::buffer::{Buffer, error::ServiceError};
use tower::{Layer, Service, ServiceExt, service_fn};

const REQUESTS: usize = 300;

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    let counts = [
        ("a plain function", plain_function().await?),
        ("a shared HTTP client, retargeted", shared_client().await?),
        ("raw TCP behind Buffer", raw_tcp().await?),
    ];
    let mut came_true = true;
    for (name, count) in counts {
        let answered: usize = count.values().sum();
        println!("{name}: {answered} of {REQUESTS} answered");
        for (instance, answers) in &count {
            println!("  {instance} {answers}");
        }
        came_true &= answered == REQUESTS && count.len() == 3;
    }
    Ok(ExitCode::from(u8::from(!came_true)))
}

type Count = BTreeMap<String, usize>;

/// Nothing is dialled: the service of an instance is made by a function.
async fn plain_function() -> Result<Count, BoxError> {
    let addrs = (1..=3).map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let list = List::from_addrs(addrs)?;
    let mut balance = BalanceLayer::new(list, "greeter:call")?.layer(connect::per_instance(
        |instance: &Instance| {
            let id = instance.id().to_string();
            service_fn(move |_: &'static str| {
                let id = id.clone();
                async move { Ok::<_, Infallible>(id) }
            })
        },
    ));
    // These requests take no time: all would be answered before the second instance is there.
    let all_usable = async {
        while balance.control().status().usable < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), all_usable).await?;
    let mut count = Count::new();
    for _ in 0..REQUESTS {
        *count.entry(balance.call("hello").await?).or_default() += 1;
    }
    Ok(count)
}

/// One pooled client for all instances: each request is pointed at the picked one. It dials by itself, so the
/// classifier tells the balancer when a connection could not be made.
async fn shared_client() -> Result<Count, BoxError> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .build(connector);
    let retarget = connect::retarget(client, |instance: &Instance, path: &'static str| {
        let uri = Uri::builder()
            .scheme("http")
            .authority(instance.address().to_string())
            .path_and_query(path)
            .build()
            .unwrap_or_default();
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = uri;
        request
    });
    let mut balance = BalanceLayer::new(List::from_addrs(http_servers().await?)?, "worker:http")?
        .classify_fn(
            |result: &Result<Response<_>, hyper_util::client::legacy::Error>| match result {
                Ok(response) if response.status().is_server_error() => Outcome::Failure,
                Ok(_) => Outcome::Success,
                Err(error) if error.is_connect() => Outcome::Unsent,
                Err(_) => Outcome::Failure,
            },
        )
        .layer(retarget);
    let mut count = Count::new();
    for _ in 0..REQUESTS {
        let answer = balance.call("/who").await?.into_body().collect().await?;
        let who = String::from_utf8_lossy(&answer.to_bytes()).into_owned();
        *count.entry(who).or_default() += 1;
    }
    Ok(count)
}

async fn http_servers() -> Result<Vec<SocketAddr>, BoxError> {
    let mut addrs = Vec::new();
    for _ in 0..3 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        addrs.push(addr);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let who = hyper_service_fn(move |_| async move {
                    Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(addr.to_string())))
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), who));
            }
        });
    }
    Ok(addrs)
}

/// A line out, a line back, on one TCP connection for each instance. Such a service is not `Clone`; behind a `Buffer`
/// it is.
async fn raw_tcp() -> Result<Count, BoxError> {
    let list = List::from_addrs(line_servers().await?)?;
    let connector = service_fn(|instance: Instance| async move {
        let addr = instance.address().tcp();
        let addr = addr.ok_or(std::io::ErrorKind::Unsupported)?;
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok::<_, std::io::Error>(Buffer::new(Lines::new(stream), 64))
    });
    let balance = BalanceLayer::new(list, "echo:lines")?
        .classify_fn(|result: &Result<String, BoxError>| match result {
            Ok(_) => Outcome::Success,
            // The service behind the buffer was lost before it was given the request.
            Err(error) if error.is::<ServiceError>() => Outcome::Unsent,
            Err(_) => Outcome::Failure,
        })
        .layer(connector);
    let mut count = Count::new();
    for number in 0..REQUESTS {
        let answer = balance
            .clone()
            .oneshot(format!("request {number}\n"))
            .await?;
        let who = answer.trim_end().to_owned();
        *count.entry(who).or_default() += 1;
    }
    Ok(count)
}

/// One request at a time: ready again once the stream came back with the answer. A call that fails, or is given up,
/// keeps the stream, and the service is lost.
struct Lines {
    stream: Option<BufReader<TcpStream>>,
    returned: oneshot::Receiver<BufReader<TcpStream>>,
}

impl Lines {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream: Some(BufReader::new(stream)),
            returned: oneshot::channel().1,
        }
    }
}

impl Service<String> for Lines {
    type Response = String;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<String, std::io::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if self.stream.is_none() {
            let returned = ready!(Pin::new(&mut self.returned).poll(cx));
            self.stream = Some(returned.map_err(|_| ErrorKind::NotConnected)?);
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, line: String) -> Self::Future {
        let stream = self.stream.take();
        let (give_back, returned) = oneshot::channel();
        self.returned = returned;
        Box::pin(async move {
            let mut stream = stream.ok_or(ErrorKind::NotConnected)?;
            stream.write_all(line.as_bytes()).await?;
            let mut answer = String::new();
            if stream.read_line(&mut answer).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            // Nobody to give it back to is nobody to use it.
            let _ = give_back.send(stream);
            Ok(answer)
        })
    }
}

/// Servers that answer every line with their own address.
async fn line_servers() -> Result<Vec<SocketAddr>, BoxError> {
    let mut addrs = Vec::new();
    for _ in 0..3 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        addrs.push(addr);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (read, mut write) = stream.into_split();
                    let mut lines = BufReader::new(read).lines();
                    while let Ok(Some(_)) = lines.next_line().await {
                        let answer = format!("{addr}\n");
                        if write.write_all(answer.as_bytes()).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
    }
    Ok(addrs)
}
