//! A catalog server that speaks HTTP: one record a line behind `GET /records`, written by `PUT` and `DELETE`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use reqwest::{Client, Method, StatusCode};
use rolecall::discovery::backend::{self, Backoff, CatalogUpdate, Mirror, Publish, Record, Scope};
use rolecall::discovery::{Announcement, BoxFuture, BoxStream, DiscoveryError, RegisterError};
use rolecall::{
    Boundary, BoxError, Discovery, InstanceSet, Lease, Registrar, Registration, Target,
};

type Answers = BoxStream<'static, Result<InstanceSet, DiscoveryError>>;
type Update = Result<CatalogUpdate, BoxError>;

pub(crate) struct HttpCatalog {
    records: Records,
    mirror: Mirror,
}

#[derive(Clone)]
struct Records(Client, String);

impl HttpCatalog {
    pub(crate) fn new(server: &str) -> Self {
        let records = Records(Client::new(), format!("{server}/records"));
        let followed = records.clone();
        let mirror = backend::mirror(move || followed.clone().updates(), Backoff::default());
        Self { records, mirror }
    }
}

impl Records {
    /// Everything, and again whenever the server has another version of it.
    fn updates(self) -> impl Stream<Item = Update> + Send {
        let lists = stream::unfold((self, 0), |(records, known)| async move {
            let list = records.newer_than(known).await;
            let (updates, version) = list.unwrap_or_else(|error| (vec![Err(error)], 0));
            Some((stream::iter(updates), (records, version)))
        });
        lists.flatten()
    }

    async fn newer_than(&self, known: u64) -> Result<(Vec<Update>, u64), BoxError> {
        let asked = self.0.get(format!("{}?newer_than={known}", self.1));
        let text = asked.send().await?.error_for_status()?.text().await?;
        let (version, lines) = text.split_once('\n').ok_or("no version")?;
        let (mut all, mut faults) = (Vec::new(), Vec::new());
        for line in lines.lines() {
            match serde_json::from_str::<Record>(line) {
                Ok(record) => all.push(record.into()),
                Err(error) => faults.push(Err(error.into())),
            }
        }
        let all = Ok(CatalogUpdate::Replace(Scope::All, all));
        Ok(([all].into_iter().chain(faults).collect(), version.parse()?))
    }
}

impl Discovery for HttpCatalog {
    fn watch(&self, target: &Target) -> Answers {
        self.mirror.watch(target)
    }
    fn peers(&self, boundary: &Boundary) -> Answers {
        self.mirror.peers(boundary)
    }
    fn refresh(&self, _: &Target) {}
}

impl Registrar for HttpCatalog {
    fn register(&self, new: Registration) -> BoxFuture<'static, Result<Lease, RegisterError>> {
        static WRITERS: AtomicU64 = AtomicU64::new(0);
        let writer = Writer {
            records: self.records.clone(),
            session: format!("{}-{}", std::process::id(), WRITERS.fetch_add(1, Relaxed)),
            record: String::new(),
        };
        Box::pin(async move { backend::keep(writer, new.validate()?).await })
    }
}

/// Owns one record by the name of its session.
struct Writer {
    records: Records,
    session: String,
    record: String,
}

impl Writer {
    async fn send(&self, method: Method) -> Result<StatusCode, RegisterError> {
        let request = self.records.0.request(method, &self.records.1);
        let request = request
            .header("session", &self.session)
            .body(self.record.clone());
        let failed = |error| RegisterError::backend("writing a record", error);
        match request.send().await.map_err(failed)? {
            response if response.status() == StatusCode::CONFLICT => Ok(StatusCode::CONFLICT),
            response => response
                .error_for_status()
                .map_err(failed)
                .map(|r| r.status()),
        }
    }
}

impl Publish for Writer {
    async fn put(&mut self, new: &Announcement) -> Result<(), RegisterError> {
        let record = serde_json::to_string(&Record::from(new));
        self.record = record.map_err(|e| RegisterError::backend("writing a record", e))?;
        match self.send(Method::PUT).await? {
            StatusCode::CONFLICT => Err(RegisterError::id_taken(
                new.boundary(),
                new.role(),
                new.id(),
            )),
            _ => Ok(()),
        }
    }
    async fn renew(&mut self) -> Result<(), RegisterError> {
        self.send(Method::PUT).await.map(drop)
    }
    fn every(&self) -> Duration {
        Duration::from_secs(1)
    }
    async fn withdraw(&mut self) -> Result<(), RegisterError> {
        self.send(Method::DELETE).await.map(drop)
    }
}
