//! Ejection by hand, over HTTP.

use std::future::poll_fn;
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Buf;
use futures_util::future::{Either, select};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, LOCATION, ORIGIN};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use http_body::Body;

use super::body::ConsoleBody;
use super::parameters::parameter;
use super::recorder::Recorder;
use super::response::{header, text};
use crate::balance::control::Control;
use crate::fleet::OutlierConfig;
use crate::model::instance::InstanceId;
use crate::runtime::duration::Rounded;
use crate::runtime::text::excerpt;
use crate::runtime::{clock, timer};

/// The largest form, and how long it may take to come.
const LARGEST_FORM: usize = 4096;
const FORM_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest ejection by hand.
const LONGEST_EJECTION: u64 = 24 * 3600;

const FORM: &str = "application/x-www-form-urlencoded";

/// What a control does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Eject,
    Restore,
    Shadow,
}

/// Answers with a sentence; a form of a browser is sent back to the page.
pub(super) async fn act<B: Body>(
    recorder: &Recorder,
    token: &str,
    action: Action,
    (head, body): (Parts, B),
) -> Response<ConsoleBody> {
    let done = match admitted_form(token, &head, body).await {
        Ok(form) => perform(
            recorder,
            action,
            head.uri.query().unwrap_or_default(),
            &form,
        ),
        Err(refusal) => Err(refusal),
    };
    let done = match done {
        Ok(done) => done,
        Err((status, why)) => return text(status, why),
    };
    recorder.expire();
    let accepted = header(&head.headers, &ACCEPT).unwrap_or_default();
    if accepted.contains("text/html") {
        let mut back = text(StatusCode::SEE_OTHER, done);
        // The page itself, whatever its prefix.
        let location = HeaderValue::from_static("?");
        back.headers_mut().insert(LOCATION, location);
        return back;
    }
    text(StatusCode::OK, done)
}

type Refusal = (StatusCode, String);

fn refusal(status: StatusCode, why: impl Into<String>) -> Refusal {
    (status, why.into())
}

/// Reads the form of a request that has the token and is not another site's.
async fn admitted_form<B: Body>(token: &str, head: &Parts, body: B) -> Result<String, Refusal> {
    if is_cross_origin(head) {
        return Err(refusal(
            StatusCode::FORBIDDEN,
            "refused: the request comes from another site",
        ));
    }
    let content_type = header(&head.headers, &CONTENT_TYPE).unwrap_or_default();
    let content_type = content_type.split(';').next().unwrap_or_default().trim();
    if !content_type.eq_ignore_ascii_case(FORM) {
        return Err(refusal(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("content-type: expected {FORM}"),
        ));
    }
    // A wrong token in the header is refused before anything is read.
    let bearer = header(&head.headers, &AUTHORIZATION);
    let bearer = bearer.and_then(|value| value.strip_prefix("Bearer "));
    let wrong = || refusal(StatusCode::FORBIDDEN, "refused: wrong token");
    if bearer.is_some_and(|given| !is_same(given, token)) {
        return Err(wrong());
    }
    let form = read_form(body).await?;
    let given = parameter(&form, "token").unwrap_or_default();
    if bearer.is_none() && !is_same(&given, token) {
        return Err(wrong());
    }
    Ok(form)
}

/// Whether a browser says that another site made the request. Other clients say nothing, and have the token.
fn is_cross_origin(head: &Parts) -> bool {
    const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    let headers = &head.headers;
    if headers.contains_key(FETCH_SITE) && header(headers, &FETCH_SITE) != Some("same-origin") {
        return true;
    }
    if !headers.contains_key(ORIGIN) {
        return false;
    }
    let origin = header(headers, &ORIGIN).and_then(|origin| origin.split_once("://"));
    let host = head.uri.authority().map(|authority| authority.as_str());
    let host = host.or_else(|| header(headers, &HOST));
    match (origin, host) {
        (Some((_, origin)), Some(host)) => !origin.eq_ignore_ascii_case(host),
        _ => true,
    }
}

/// Compares in a time that depends on the length of what was given alone. Nothing is the same as an empty token.
fn is_same(given: &str, token: &str) -> bool {
    let token = token.as_bytes();
    if token.is_empty() {
        return false;
    }
    let mut difference = given.len() ^ token.len();
    for (byte, expected) in given.bytes().zip(token.iter().cycle()) {
        difference |= usize::from(black_box(byte ^ expected));
    }
    black_box(difference) == 0
}

async fn read_form<B: Body>(body: B) -> Result<String, Refusal> {
    let too_large = || {
        refusal(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the form is larger than {LARGEST_FORM} bytes"),
        )
    };
    if body.size_hint().lower() > LARGEST_FORM as u64 {
        return Err(too_large());
    }
    let read = pin!(async {
        let mut body = pin!(body);
        let mut form = Vec::new();
        while let Some(chunk) = next_chunk(body.as_mut(), LARGEST_FORM - form.len()).await {
            match chunk {
                Ok(chunk) => form.extend_from_slice(&chunk),
                Err(status) if status == StatusCode::PAYLOAD_TOO_LARGE => return Err(too_large()),
                Err(status) => return Err(refusal(status, "the form broke off")),
            }
        }
        let text = String::from_utf8(form);
        text.map_err(|_| refusal(StatusCode::BAD_REQUEST, "the form is no UTF-8"))
    });
    match timer::sleep_until(clock::now() + FORM_TIMEOUT) {
        Some(timeout) => match select(read, timeout).await {
            Either::Left((form, _)) => form,
            Either::Right(_) => Err(refusal(
                StatusCode::REQUEST_TIMEOUT,
                "the form did not come in time",
            )),
        },
        None => read.await,
    }
}

/// The next bytes of a body, of which there is room for so many.
async fn next_chunk<B: Body>(
    mut body: Pin<&mut B>,
    room: usize,
) -> Option<Result<Vec<u8>, StatusCode>> {
    poll_fn(move |cx| {
        body.as_mut().poll_frame(cx).map(|frame| {
            Some(match frame? {
                Err(_) => Err(StatusCode::BAD_REQUEST),
                Ok(frame) => match frame.into_data() {
                    Ok(data) if data.remaining() > room => Err(StatusCode::PAYLOAD_TOO_LARGE),
                    Ok(mut data) => {
                        let mut chunk = vec![0; data.remaining()];
                        data.copy_to_slice(&mut chunk);
                        Ok(chunk)
                    }
                    // Trailers.
                    Err(_) => Ok(Vec::new()),
                },
            })
        })
    })
    .await
}

fn perform(
    recorder: &Recorder,
    action: Action,
    query: &str,
    form: &str,
) -> Result<String, Refusal> {
    let field = |name: &'static str| {
        let value = parameter(query, name).or_else(|| parameter(form, name));
        value.ok_or_else(|| refusal(StatusCode::BAD_REQUEST, format!("{name} is missing")))
    };
    let target = field("target")?;
    let watched = recorder
        .targets()
        .iter()
        .find(|watched| *watched.name == *target);
    let Some(watched) = watched else {
        let target = excerpt(&target);
        return Err(refusal(
            StatusCode::NOT_FOUND,
            format!("no balancer is called \"{target}\""),
        ));
    };
    let control = &watched.control;
    match action {
        Action::Eject => {
            let id = field("id")?;
            let time = seconds(&field("seconds")?)?;
            if !control.eject(&InstanceId::from(id.as_str()), time) {
                return Err(unknown(&id, &target, "known"));
            }
            let (id, time) = (excerpt(&id), Rounded(time));
            Ok(format!("{id} is ejected for {time}"))
        }
        Action::Restore => {
            let id = field("id")?;
            if !control.restore(&InstanceId::from(id.as_str())) {
                return Err(unknown(&id, &target, "ejected"));
            }
            Ok(format!("{} is restored", excerpt(&id)))
        }
        Action::Shadow => match field("shadow")?.as_str() {
            "on" => set_shadow(control, true),
            "off" => set_shadow(control, false),
            other => Err(refusal(
                StatusCode::BAD_REQUEST,
                format!("shadow: expected on or off, found \"{}\"", excerpt(other)),
            )),
        },
    }
}

fn unknown(id: &str, target: &str, what: &str) -> Refusal {
    let (id, target) = (excerpt(id), excerpt(target));
    refusal(
        StatusCode::NOT_FOUND,
        format!("no instance \"{id}\" of \"{target}\" is {what}"),
    )
}

fn seconds(text: &str) -> Result<Duration, Refusal> {
    let seconds = text.parse().ok();
    let seconds = seconds.filter(|seconds| (1..=LONGEST_EJECTION).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| {
        let text = excerpt(text);
        refusal(
            StatusCode::BAD_REQUEST,
            format!("seconds: expected an integer from 1 to {LONGEST_EJECTION}, found \"{text}\""),
        )
    })
}

fn set_shadow(control: &Control, shadow: bool) -> Result<String, Refusal> {
    let conflict = |why: &str| refusal(StatusCode::CONFLICT, why);
    let config = control.config();
    let config = config.ok_or_else(|| conflict("the balancer has ended"))?;
    let outlier = config.outlier().map(OutlierConfig::to_builder);
    let outlier = outlier.ok_or_else(|| conflict("ejection is off"))?;
    // One flag of a valid configuration changes, so it stays valid.
    let outlier = outlier.shadow(shadow).build();
    let outlier = outlier.map_err(|error| conflict(&error.to_string()))?;
    let config = config.to_builder().outlier(outlier).build();
    control.reconfigure(config.map_err(|error| conflict(&error.to_string()))?);
    Ok(if shadow {
        "the rules only report".into()
    } else {
        "the rules eject again".into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_token_is_the_same() {
        assert!(is_same("secret", "secret"));
        for (given, token) in [
            ("", "secret"),
            ("secre", "secret"),
            ("secrets", "secret"),
            ("secretsecret", "secret"),
            ("Secret", "secret"),
            ("", ""),
            ("x", ""),
        ] {
            assert!(!is_same(given, token), "{given} {token}");
        }
    }

    #[test]
    fn requests_of_other_sites_are_told_by_their_headers() {
        let parts = |headers: &[(&str, &str)]| {
            let mut request = http::Request::post("/eject");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            request.body(()).unwrap().into_parts().0
        };
        let host = ("host", "admin:9000");
        for headers in [
            &[host][..],
            &[host, ("origin", "http://admin:9000")],
            &[
                host,
                ("origin", "https://ADMIN:9000"),
                ("sec-fetch-site", "same-origin"),
            ],
        ] {
            assert!(!is_cross_origin(&parts(headers)), "{headers:?}");
        }
        for headers in [
            &[host, ("origin", "http://evil")][..],
            &[host, ("origin", "null")],
            &[host, ("origin", "http://admin:9001")],
            &[
                host,
                ("origin", "http://admin:9000"),
                ("origin", "http://evil"),
            ],
            &[host, ("sec-fetch-site", "cross-site")],
            &[
                host,
                ("sec-fetch-site", "same-site"),
                ("origin", "http://admin:9000"),
            ],
            &[host, ("sec-fetch-site", "none")],
            &[("origin", "http://admin:9000")],
        ] {
            assert!(is_cross_origin(&parts(headers)), "{headers:?}");
        }
    }
}
