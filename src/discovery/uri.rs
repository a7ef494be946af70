//! A backend from a line of configuration.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Backend, List, Registry, Schemes};
use crate::error::BoxError;
use crate::model::address::{Address, AddressError};
use crate::model::instance::{Instance, InstanceError, Weight, WeightError};
use crate::model::name::Role;
use crate::runtime::text::{excerpt, uri_excerpt};

/// The backend that a URI names, so that a program can be told at run time where its instances come from.
///
/// | URI | Backend |
/// |---|---|
/// | `list:127.0.0.1:8001,127.0.0.1:8002` | [`List`] of these addresses, each the id of its instance |
/// | `list:127.0.0.1:8001;weight=3,[::1]:8002;rank=1,unix:/run/w.sock` | the same with weights, ranks and Unix sockets |
/// | `file:/etc/roles.toml` | `RolesFile` of this path, with the feature `roles-file`; `file:///etc/roles.toml` is the same |
/// | `folder:/run/roles` | `Folder` of this path, with the feature `folder`; `folder:///run/roles` is the same |
/// | `dns:example.com` | `Dns` by the SRV records `_{endpoint}._tcp.{role}.{boundary}.example.com`, with the feature `dns` |
/// | `dns://10.0.0.2:53,10.0.0.3/example.com?port=8080` | the same by these servers, and the addresses of `{role}.{boundary}.example.com` at this port. Other parameters are `shortest-ttl`, `longest-ttl` and `timeout`, such as `500ms` or `10s` |
/// | `etcd://a:2379,b:2379/prefix?ttl=10s` | `Etcd` with these endpoints, with the feature `etcd`. Prefix and parameters may be left out; others are `user` with `password-file`, and for TLS `ca`, `cert` with `key`, and `server-name`; certificates, keys and the password are paths of files |
/// | `kubernetes:` | `Kubernetes`, with the feature `kubernetes`: the cluster of the kubeconfig file, else the one of this pod |
/// | `kubernetes:?namespace=shop` | the same, with the boundary `default` taken for this namespace |
/// | `registry:` | a new [`Registry`], shared only with those who get a clone of this `Arc` |
/// | `registry:jobs` | the [`Registry`] of this process that has this name |
///
/// # Errors
///
/// [`UriError`] naming the part that is wrong, with an example of what is right.
///
/// # Examples
///
/// ```
/// use rolecall::discovery::from_uri;
///
/// let discovery = from_uri("list:127.0.0.1:8001,127.0.0.1:8002")?;
/// # Ok::<(), rolecall::discovery::UriError>(())
/// ```
pub fn from_uri(uri: &str) -> Result<Arc<dyn Backend>, UriError> {
    from_uri_with(uri, &Schemes::default())
}

/// The same as [`from_uri`], with schemes of the program's own.
///
/// # Errors
///
/// As for [`from_uri`]. If a scheme of the program's own refuses the URI, its error is the source.
pub fn from_uri_with(uri: &str, schemes: &Schemes) -> Result<Arc<dyn Backend>, UriError> {
    parse(uri, schemes).map_err(|fault| UriError {
        uri: uri_excerpt(uri),
        fault,
    })
}

const LIST: &str = "list:127.0.0.1:8001,127.0.0.1:8002";
const REGISTRY: &str = "registry:";
const FILE: &str = "file:/etc/roles.toml";
const FOLDER: &str = "folder:/run/roles";
const DNS: &str = "dns:example.com";
const ETCD: &str = "etcd://127.0.0.1:2379/prefix";
const KUBERNETES: &str = "kubernetes:?namespace=shop";

fn parse(uri: &str, schemes: &Schemes) -> Result<Arc<dyn Backend>, Fault> {
    if let Some((scheme, _)) = uri.split_once(':')
        && let Some(made) = schemes.make(scheme, uri)
    {
        return made.map_err(|error| refused(scheme, error));
    }
    match uri.split_once(':') {
        Some(("list", addrs)) => Ok(Arc::new(list(addrs)?)),
        Some(("file", rest)) => roles_file(path(rest, FILE)?),
        Some(("folder", rest)) => folder(path(rest, FOLDER)?),
        Some(("dns", rest)) => dns(rest),
        Some(("etcd", rest)) => etcd(rest),
        Some(("kubernetes", rest)) => kubernetes(rest),
        Some(("registry", "")) => Ok(Arc::new(Registry::new())),
        Some(("registry", name)) => named_registry(name),
        Some((scheme, _)) => Err(Fault::UnknownScheme(excerpt(scheme), examples(schemes))),
        None => Err(Fault::NoScheme(examples(schemes))),
    }
}

fn refused(scheme: &str, error: impl Into<BoxError>) -> Fault {
    Fault::Refused(excerpt(scheme), error.into().into())
}

/// A URI of each scheme.
fn examples(schemes: &Schemes) -> Box<str> {
    let others = schemes.names().map(|name| format!("{}:..", excerpt(name)));
    let others = others.fold(String::new(), |all, one| format!("{all}, {one}"));
    format!("{LIST}, {FILE}, {FOLDER}, {DNS}, {ETCD}, {KUBERNETES}, {REGISTRY}{others}").into()
}

/// One for each name, for as long as the process lives.
fn named_registry(name: &str) -> Result<Arc<dyn Backend>, Fault> {
    static NAMED: Mutex<BTreeMap<Role, Registry>> = Mutex::new(BTreeMap::new());
    let name = Role::new(name).map_err(|_| Fault::AfterRegistry(uri_excerpt(name)))?;
    // No foreign code runs under the lock, so it is whole if it is poisoned.
    let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Arc::new(named.entry(name).or_default().clone()))
}

fn path<'a>(rest: &'a str, example: &'static str) -> Result<&'a str, Fault> {
    let path = match rest.strip_prefix("//") {
        Some(path) if path.starts_with('/') => path,
        Some(host) => return Err(Fault::Host(uri_excerpt(host), example)),
        None => rest,
    };
    if path.is_empty() {
        return Err(Fault::NoPath(example));
    }
    Ok(path)
}

#[cfg(feature = "roles-file")]
fn roles_file(path: &str) -> Result<Arc<dyn Backend>, Fault> {
    Ok(Arc::new(super::RolesFile::new(path)))
}

#[cfg(not(feature = "roles-file"))]
fn roles_file(_: &str) -> Result<Arc<dyn Backend>, Fault> {
    Err(refused(
        "roles-file",
        "this program was built without it; enable the feature \"roles-file\" of rolecall",
    ))
}

#[cfg(all(feature = "folder", unix))]
fn folder(path: &str) -> Result<Arc<dyn Backend>, Fault> {
    Ok(Arc::new(super::Folder::new(path)))
}

#[cfg(not(all(feature = "folder", unix)))]
fn folder(_: &str) -> Result<Arc<dyn Backend>, Fault> {
    Err(refused(
        "folder",
        "this program was built without it; enable the feature \"folder\" of rolecall",
    ))
}

#[cfg(feature = "dns")]
fn dns(rest: &str) -> Result<Arc<dyn Backend>, Fault> {
    let dns = super::dns::from_uri(rest);
    Ok(Arc::new(dns.map_err(|error| refused("dns", error))?))
}

#[cfg(not(feature = "dns"))]
fn dns(_: &str) -> Result<Arc<dyn Backend>, Fault> {
    Err(refused(
        "dns",
        "this program was built without it; enable the feature \"dns\" of rolecall",
    ))
}

#[cfg(feature = "etcd")]
fn etcd(rest: &str) -> Result<Arc<dyn Backend>, Fault> {
    let etcd = super::etcd::from_uri(rest);
    Ok(Arc::new(etcd.map_err(|error| refused("etcd", error))?))
}

#[cfg(not(feature = "etcd"))]
fn etcd(_: &str) -> Result<Arc<dyn Backend>, Fault> {
    Err(refused(
        "etcd",
        "this program was built without it; enable the feature \"etcd\" of rolecall",
    ))
}

#[cfg(feature = "kubernetes")]
fn kubernetes(rest: &str) -> Result<Arc<dyn Backend>, Fault> {
    let kubernetes = super::kubernetes::parse(rest);
    Ok(Arc::new(kubernetes.map_err(Fault::Kubernetes)?))
}

#[cfg(not(feature = "kubernetes"))]
fn kubernetes(_: &str) -> Result<Arc<dyn Backend>, Fault> {
    Err(refused(
        "kubernetes",
        "this program was built without it; enable the feature \"kubernetes\" of rolecall",
    ))
}

fn list(parts: &str) -> Result<List, Fault> {
    if parts.is_empty() {
        return Err(Fault::EmptyList);
    }
    let instances: Vec<Instance> = parts
        .split(',')
        .map(str::trim)
        .map(entry)
        .collect::<Result<_, _>>()?;
    let list = List::new(instances).map_err(|error| Fault::Instance(uri_excerpt(parts), error))?;
    match list.set.duplicates().first() {
        Some(id) => Err(Fault::Twice(uri_excerpt(id.as_str()))),
        None => Ok(list),
    }
}

fn entry(part: &str) -> Result<Instance, Fault> {
    let (address, parameters) = match part.split_once(';') {
        Some((address, parameters)) => (address, Some(parameters)),
        None => (part, None),
    };
    let address: Address = address.parse().map_err(|error| {
        let shown = uri_excerpt(part);
        // The cause quotes the text, so it has to be that of what is shown.
        let error = shown.parse::<Address>().err().unwrap_or(error);
        Fault::Address(shown, error)
    })?;
    let mut instance = Instance::new(address.to_string(), address);
    for parameter in parameters.into_iter().flat_map(|text| text.split(';')) {
        instance = match parameter.split_once('=') {
            Some(("weight", weight)) => {
                let weight = weight.parse::<Weight>();
                instance
                    .with_weight(weight.map_err(|error| Fault::Weight(uri_excerpt(part), error))?)
            }
            Some(("rank", rank)) => {
                let rank = rank.parse();
                instance.with_rank(rank.map_err(|_| Fault::Rank(uri_excerpt(part)))?)
            }
            _ => return Err(Fault::Parameter(uri_excerpt(part))),
        };
    }
    instance
        .validate()
        .map_err(|error| Fault::Instance(uri_excerpt(part), error))?;
    Ok(instance)
}

/// A text that names no backend; says which part is wrong and what would be right.
#[derive(Clone, Debug)]
pub struct UriError {
    uri: Box<str>,
    fault: Fault,
}

#[derive(Clone, Debug)]
enum Fault {
    NoScheme(Box<str>),
    UnknownScheme(Box<str>, Box<str>),
    Refused(Box<str>, Arc<dyn StdError + Send + Sync>),
    AfterRegistry(Box<str>),
    Host(Box<str>, &'static str),
    NoPath(&'static str),
    #[cfg(feature = "kubernetes")]
    Kubernetes(String),
    EmptyList,
    Twice(Box<str>),
    Parameter(Box<str>),
    Address(Box<str>, AddressError),
    Rank(Box<str>),
    Weight(Box<str>, WeightError),
    Instance(Box<str>, InstanceError),
}

impl UriError {
    /// The whole text that was refused, escaped and cut to 80 characters.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid discovery URI \"{}\": ", self.uri)?;
        match &self.fault {
            Fault::NoScheme(examples) => write!(f, "it has no scheme; write one of {examples}"),
            Fault::UnknownScheme(scheme, examples) => {
                write!(f, "unknown scheme \"{scheme}\"; write one of {examples}")
            }
            Fault::Refused(scheme, _) => write!(f, "the scheme \"{scheme}\" refuses it"),
            Fault::AfterRegistry(rest) => {
                write!(
                    f,
                    "\"{rest}\" is not a name; write {REGISTRY} or registry:jobs"
                )
            }
            Fault::Host(host, example) => write!(
                f,
                "\"{host}\" would be a host, and files are of this machine; write {example}"
            ),
            Fault::NoPath(example) => write!(f, "it names no path; write {example}"),
            #[cfg(feature = "kubernetes")]
            Fault::Kubernetes(problem) => write!(f, "{problem}; write {KUBERNETES}"),
            Fault::EmptyList => write!(f, "it lists no address; write {LIST}"),
            Fault::Twice(part) => write!(f, "\"{part}\" occurs twice"),
            Fault::Parameter(part) => {
                write!(
                    f,
                    "a parameter of \"{part}\" is unknown; write 127.0.0.1:8001;weight=3;rank=1"
                )
            }
            Fault::Address(part, _) => write!(f, "\"{part}\" is not an address; write {LIST}"),
            Fault::Rank(part) => {
                write!(f, "the rank of \"{part}\" is not an integer from 0 to 255")
            }
            Fault::Weight(part, _) => write!(f, "the weight of \"{part}\" is invalid"),
            Fault::Instance(part, _) => write!(f, "\"{part}\" cannot be called"),
        }
    }
}

impl StdError for UriError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.fault {
            Fault::Refused(_, error) => Some(&**error),
            Fault::Address(_, error) => Some(error),
            Fault::Weight(_, error) => Some(error),
            Fault::Instance(_, error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;
    use crate::discovery::{LeaseState, Registration};

    #[test]
    fn a_password_that_does_not_belong_there_is_not_told() {
        for uri in [
            "list:me:secret@10.0.0.7:80",
            "list:10.0.0.7:80;me:secret@b",
            "registry:me:secret@b",
            "file://me:secret@host/roles.toml",
            "me:secret@host",
        ] {
            let told = refusal(uri);
            assert!(!told.contains("secret"), "{told}");
        }
    }

    fn refusal(uri: &str) -> String {
        let error = from_uri(uri).map(|_| ()).unwrap_err();
        match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        }
    }

    #[tokio::test]
    async fn a_list_is_read_with_its_weights() {
        let backend =
            from_uri("list:127.0.0.1:8001;weight=3, [::1]:8002;rank=1;weight=2, unix:/run/w.sock")
                .unwrap();
        let set = backend
            .watch(&"worker:http".parse().unwrap())
            .next()
            .await
            .unwrap()
            .unwrap();
        assert_eq!(set.len(), 3);
        let unix = set.get("unix:/run/w.sock").unwrap().address().path();
        assert_eq!(unix, Some(std::path::Path::new("/run/w.sock")));
        assert_eq!(set.get("[::1]:8002").unwrap().rank(), 1);
        assert_eq!(set.get("127.0.0.1:8001").unwrap().weight().get(), 3);
        assert_eq!(set.get("[::1]:8002").unwrap().weight().get(), 2);
        let lease = backend.register(Registration::new("worker")).await.unwrap();
        assert!(matches!(lease.state(), LeaseState::ByPlatform));
    }

    #[tokio::test]
    async fn a_registry_takes_registrations() {
        let backend = from_uri("registry:").unwrap();
        assert!(backend.register(Registration::new("worker")).await.is_ok());
    }

    #[tokio::test]
    async fn a_named_registry_is_one_for_each_name() {
        let worker = Registration::new("worker").endpoint("http", ([10, 0, 0, 7], 80));
        let named = from_uri("registry:uri-test").unwrap();
        let _lease = named.register(worker).await.unwrap();
        let target = "worker:http".parse().unwrap();
        for (uri, is_same) in [("registry:uri-test", true), ("registry:uri-other", false)] {
            let answer = from_uri(uri).unwrap().watch(&target).next().await.unwrap();
            assert_eq!(answer.is_ok(), is_same, "{uri}");
        }
    }

    #[tokio::test]
    async fn a_program_may_have_schemes_of_its_own() {
        let schemes = Schemes::default()
            .with("mine", |uri| from_uri(&uri.replacen("mine", "list", 1)))
            .with("file", |_| Ok::<_, BoxError>(Registry::new()));
        let mine = from_uri_with("mine:127.0.0.1:8001", &schemes).unwrap();
        let target = "worker:http".parse().unwrap();
        assert_eq!(mine.watch(&target).next().await.unwrap().unwrap().len(), 1);
        let file = from_uri_with("file:/etc/roles.toml", &schemes).unwrap();
        assert!(file.register(Registration::new("worker")).await.is_ok());
        assert!(from_uri_with("list:127.0.0.1:8001", &schemes).is_ok());

        let refused = |uri| from_uri_with(uri, &schemes).map(|_| ()).unwrap_err();
        let error = refused("mine:x");
        assert_eq!(
            error.to_string(),
            "invalid discovery URI \"mine:x\": the scheme \"mine\" refuses it"
        );
        assert!(error.source().unwrap().to_string().contains("\"x\""));
        let unknown = refused("other:x").to_string();
        assert!(
            unknown.ends_with("registry:, file:.., mine:.."),
            "{unknown}"
        );
    }

    #[cfg(all(feature = "folder", feature = "roles-file", unix))]
    #[tokio::test]
    async fn a_file_is_a_role_environment_or_a_folder() {
        let root = std::env::temp_dir().join(format!("rolecall-uri-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        let roles = root.join("roles.toml");
        let text = "[[role]]\nname = \"worker\"\ninstance = [{ id = \"w\", endpoints = { http = \"10.0.0.7:80\" } }]";
        std::fs::write(&roles, text).unwrap();
        for uri in [
            format!("file:{}", roles.display()),
            format!("file://{}", roles.display()),
        ] {
            let backend = from_uri(&uri).unwrap();
            let set = backend.watch(&"worker:http".parse().unwrap()).next().await;
            assert_eq!(set.unwrap().unwrap().len(), 1);
            let lease = backend.register(Registration::new("worker")).await.unwrap();
            assert!(matches!(lease.state(), LeaseState::ByPlatform));
        }
        let folder = from_uri(&format!("folder:{}", root.join("folder").display())).unwrap();
        let lease = folder.register(Registration::new("worker")).await.unwrap();
        lease.deregister().await.unwrap();
        std::fs::remove_dir_all(root).unwrap();
    }

    #[cfg(feature = "kubernetes")]
    #[test]
    fn a_cluster_needs_no_more_than_its_scheme() {
        for uri in ["kubernetes:", "kubernetes://", "kubernetes:?namespace=shop"] {
            assert!(from_uri(uri).is_ok(), "{uri}");
        }
    }

    #[test]
    fn errors_name_the_part_and_show_what_is_right() {
        for (uri, says) in [
            ("", "it has no scheme; write one of list:127.0.0.1:8001"),
            ("127.0.0.1", "it has no scheme"),
            (
                "127.0.0.1:8001",
                "unknown scheme \"127.0.0.1\"; write one of list:",
            ),
            (
                "lost:127.0.0.1:8001",
                "unknown scheme \"lost\"; write one of list:",
            ),
            ("list:", "it lists no address"),
            ("list:127.0.0.1", "\"127.0.0.1\" is not an address"),
            ("list:localhost:80", "\"localhost:80\" is not an address"),
            ("list:127.0.0.1:1,,127.0.0.1:2", "\"\" is not an address"),
            (
                "list:127.0.0.1:1,127.0.0.1:1",
                "\"127.0.0.1:1\" occurs twice",
            ),
            (
                "list:127.0.0.1:99999",
                "\"127.0.0.1:99999\" is not an address",
            ),
            ("list:0.0.0.0:80", "where a server listens"),
            ("list:127.0.0.1:0", "port 0"),
            ("list:127.0.0.1:1;weight=65536", "0 to 65535"),
            #[cfg(feature = "kubernetes")]
            (
                "kubernetes:shop",
                "\"shop\" has no meaning there; write kubernetes:?namespace=shop",
            ),
            #[cfg(feature = "kubernetes")]
            ("kubernetes:?zone=a", "unknown parameter \"zone=a\""),
            #[cfg(feature = "kubernetes")]
            ("kubernetes:?namespace=Shop", "namespace: "),
            #[cfg(not(feature = "kubernetes"))]
            ("kubernetes:", "enable the feature \"kubernetes\""),
            (
                "list:127.0.0.1:1;wait=1",
                "write 127.0.0.1:8001;weight=3;rank=1",
            ),
            ("list:127.0.0.1:1;rank=256", "not an integer from 0 to 255"),
            ("list:unix:w.sock", "the path is not absolute"),
            ("registry:Here", "\"Here\" is not a name"),
            ("file:", "it names no path; write file:/etc/roles.toml"),
            ("folder:", "it names no path; write folder:/run/roles"),
            ("file://", "\"\" would be a host"),
            ("file://here/roles", "\"here/roles\" would be a host"),
            #[cfg(not(feature = "roles-file"))]
            ("file:/etc/roles.toml", "enable the feature \"roles-file\""),
        ] {
            let error = refusal(uri);
            assert!(
                error.starts_with(&format!("invalid discovery URI \"{uri}\": ")),
                "{error}"
            );
            assert!(error.contains(says), "{uri:?} gave {error}");
        }
    }
}
