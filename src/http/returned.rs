//! A request that goes back to the balancer, for another instance.

use http::header::{HOST, HeaderValue};
use http::{Request, Uri, Version};

use super::rewound::Rewound;

/// How the caller wrote what was written anew for an instance.
pub(super) struct Original {
    uri: Uri,
    host: Option<HeaderValue>,
    version: Version,
}

/// How often it came back: an extension of the request.
#[derive(Debug, Clone, Copy, Default)]
struct Returns(u32);

/// An instance may go away before each request, and then so may all of them.
const MOST_RETURNS: u32 = 2;

impl Original {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        Self {
            uri: request.uri().clone(),
            host: request.headers().get(HOST).cloned(),
            version: request.version(),
        }
    }

    /// The request as the caller made it, unless it came back too often.
    pub(super) fn restored<B>(
        self,
        mut request: Request<Rewound<B>>,
    ) -> Option<Request<Rewound<B>>> {
        let returns = request.extensions_mut().get_or_insert_default::<Returns>();
        returns.0 += 1;
        if returns.0 > MOST_RETURNS {
            return None;
        }
        *request.uri_mut() = self.uri;
        *request.version_mut() = self.version;
        match self.host {
            Some(host) => drop(request.headers_mut().insert(HOST, host)),
            None => drop(request.headers_mut().remove(HOST)),
        }
        Some(request)
    }
}

/// Of what the caller's own type of body can say: all of a body that was not read.
pub(crate) fn unread<B>(request: Request<Rewound<B>>) -> Option<Request<B>> {
    let (head, body) = request.into_parts();
    let is_unread = body.data.is_empty() && body.trailers.is_none();
    let body = body.rest.filter(|_| is_unread)?;
    Some(Request::from_parts(head, body))
}
