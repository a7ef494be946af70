//! Instances that do what the test says to one attempt after the other, whichever instance that goes to.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::HeaderMap;
use hyper::{Method, Request, Response};
use rolecall::http::{HttpClassifier, TrackedBody, Tried};
use rolecall::retry::{Idempotent, Retry};
use rolecall::{
    Attempt, Balance, BalanceConfig, BalanceLayer, BoxError, Classify, Failed, Hints, Instance,
    InstanceId, List, connect,
};
use tokio::time::Instant;
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};

pub(crate) type Ask = Request<Full<Bytes>>;
pub(crate) type Answer = Response<TrackedBody<Full<Bytes>>>;
type Node = BoxCloneSyncService<Ask, Response<Full<Bytes>>, Lost>;

/// What the next attempt comes to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Does {
    Answer(u16),
    /// A gRPC answer without messages, and what else its head says.
    Grpc(&'static [(&'static str, &'static str)]),
    Break,
    /// Found lost before anything was sent.
    Unsent,
    Hang,
}

/// Another layer's error, of ours.
#[derive(Debug)]
struct Wrapped(rolecall::Error);

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("wrapped")
    }
}

impl std::error::Error for Wrapped {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// An instance's error.
#[derive(Debug)]
pub(crate) struct Lost {
    was_sent: bool,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lost")
    }
}

impl std::error::Error for Lost {}

/// [`HttpClassifier`] for connections that hide their loss.
pub(crate) struct ClassifyScript;

impl<R: 'static> Classify<Request<R>, Response<Full<Bytes>>, Lost> for ClassifyScript {
    type Response = Answer;
    type Context = (Tried, Option<InstanceId>);

    fn begin(&self, request: &Request<R>) -> Self::Context {
        let tried = request.extensions().get().cloned().unwrap_or_default();
        (tried, None)
    }

    fn hints<'c>(&self, wishes: &'c Self::Context) -> Hints<'c> {
        Classify::<Request<R>, Response<Full<Bytes>>, Lost>::hints(&HttpClassifier::new(), wishes)
    }

    fn classify(
        &self,
        wishes: Self::Context,
        result: Result<Response<Full<Bytes>>, Lost>,
        attempt: Attempt,
    ) -> Result<Answer, Failed<Lost>> {
        match result {
            Err(lost) if !lost.was_sent => {
                attempt.unsent();
                Err(Failed::unsent(lost))
            }
            result => Classify::<Request<R>, _, _>::classify(
                &HttpClassifier::new(),
                wishes,
                result,
                attempt,
            ),
        }
    }
}

/// An attempt that was made.
pub(crate) struct Made {
    pub(crate) instance: String,
    pub(crate) after: Duration,
    pub(crate) headers: HeaderMap,
}

pub(crate) struct Stage {
    script: Arc<Mutex<VecDeque<Does>>>,
    made: Arc<Mutex<Vec<Made>>>,
    pub(crate) balance: Balance<Node, ClassifyScript>,
    began: Instant,
}

impl Stage {
    /// With so many instances that all work, but for what the script says.
    pub(crate) async fn new(instances: usize, script: impl IntoIterator<Item = Does>) -> Self {
        // Nobody is ejected: that is not what these tests are about.
        let config = BalanceConfig::builder().outlier(None).build().unwrap();
        Self::with(config, instances, script).await
    }

    pub(crate) async fn with(
        config: BalanceConfig,
        instances: usize,
        script: impl IntoIterator<Item = Does>,
    ) -> Self {
        // Longer than any test.
        let limit = Duration::from_secs(3600);
        Self::limited(config, limit, instances, script).await
    }

    /// With a time limit for each attempt that the balancer keeps.
    pub(crate) async fn limited(
        config: BalanceConfig,
        limit: Duration,
        instances: usize,
        script: impl IntoIterator<Item = Does>,
    ) -> Self {
        let began = Instant::now();
        let script = Arc::new(Mutex::new(VecDeque::from_iter(script)));
        let made = Arc::new(Mutex::new(Vec::new()));
        let (does, log) = (Arc::clone(&script), Arc::clone(&made));
        let connector = connect::per_instance(move |instance: &Instance| {
            let (does, log) = (Arc::clone(&does), Arc::clone(&log));
            let instance = instance.id().to_string();
            let node = service_fn(move |ask: Ask| {
                log.lock().unwrap().push(Made {
                    instance: instance.clone(),
                    after: began.elapsed(),
                    headers: ask.headers().clone(),
                });
                let does = does.lock().unwrap().pop_front();
                answer(does.unwrap_or(Does::Answer(200)))
            });
            Node::new(node)
        });
        let instances = (0..instances).map(|number| {
            let port = 1000 + u16::try_from(number).unwrap();
            Instance::new(number.to_string(), ([127, 0, 0, 1], port))
        });
        let balance = BalanceLayer::new(List::new(instances).unwrap(), "worker:http")
            .unwrap()
            .config(config)
            .attempt_timeout(limit)
            .classify(ClassifyScript)
            .layer(connector);
        let stage = Self {
            script,
            made,
            balance,
            began,
        };
        stage.settle().await;
        stage
    }

    /// Waits until every instance that is not ejected is connected.
    pub(crate) async fn settle(&self) {
        loop {
            let status = self.balance.control().status();
            if status.members.len() == status.usable && status.set_age.is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) fn then(&self, does: impl IntoIterator<Item = Does>) {
        self.script.lock().unwrap().extend(does);
    }

    pub(crate) async fn send(&self, retry: &Retry, ask: Ask) -> Result<Answer, rolecall::Error> {
        let service = tower::retry::Retry::new(retry.clone(), self.balance.clone());
        service.oneshot(ask).await
    }

    /// The same with a time limit for each attempt, of which the balancer knows nothing.
    pub(crate) async fn send_limited(
        &self,
        retry: &Retry,
        limit: Duration,
        ask: Ask,
    ) -> Result<Answer, BoxError> {
        let limited = tower::timeout::Timeout::new(self.balance.clone(), limit);
        let service = tower::retry::Retry::new(retry.clone(), limited);
        service.oneshot(ask).await
    }

    /// Below a layer with an error of its own.
    pub(crate) async fn send_wrapped(&self, retry: &Retry, ask: Ask) -> Result<Answer, BoxError> {
        let wrapped = self
            .balance
            .clone()
            .map_err(|error| BoxError::from(Wrapped(error)));
        let service = tower::retry::Retry::new(retry.clone(), wrapped);
        service.oneshot(ask).await
    }

    pub(crate) fn made(&self) -> Vec<Made> {
        std::mem::take(&mut self.made.lock().unwrap())
    }

    /// The instances of the attempts so far.
    pub(crate) fn instances(&self) -> Vec<String> {
        self.made().into_iter().map(|made| made.instance).collect()
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

async fn answer(does: Does) -> Result<Response<Full<Bytes>>, Lost> {
    match does {
        Does::Answer(status) => {
            let response = Response::builder().status(status);
            Ok(response.body(Full::from("answer")).unwrap())
        }
        Does::Grpc(headers) => {
            let mut response = Response::builder();
            for &(name, value) in headers {
                response = response.header(name, value);
            }
            Ok(response.body(Full::default()).unwrap())
        }
        Does::Break => Err(Lost { was_sent: true }),
        Does::Unsent => Err(Lost { was_sent: false }),
        Does::Hang => {
            let never: Infallible = std::future::pending().await;
            match never {}
        }
    }
}

pub(crate) fn ask(method: Method) -> Ask {
    let request = Request::builder().method(method).uri("/");
    request.body(Full::from("question")).unwrap()
}

/// A request that may be sent twice.
pub(crate) fn idempotent() -> Ask {
    let mut ask = ask(Method::POST);
    ask.extensions_mut().insert(Idempotent(true));
    ask
}
