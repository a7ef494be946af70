//! The whole page.

use std::fmt::Write as _;

use http::{HeaderValue, Response, StatusCode, header};

use super::body::ConsoleBody;
use super::recorder::Recorder;
use super::response::{HTML, response, text};
use super::timeline::Clocks;
use super::view::{self, View};
use crate::runtime::{clock, random};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The form that all buttons submit: one token for all of them.
const CONTROLS: &str = "<form id=hand method=post><label>token <input name=token type=password autocomplete=off required></label>\
<label>eject for <input name=seconds type=number value=60 min=1 max=86400 required> s</label><output></output></form>";

/// Writes the page of a view. The recorder has a fresh sample.
pub(super) fn page(recorder: &Recorder, view: &View) -> Response<ConsoleBody> {
    let Some(nonce) = random::unguessable().zip(random::unguessable()) else {
        return text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the system has no random numbers",
        );
    };
    let nonce = format!("{:016x}{:016x}", nonce.0, nonce.1);
    let clocks = Clocks {
        now: clock::now(),
        wall: clock::wall(),
    };
    let mut page = String::with_capacity(48 << 10);
    let _ = write!(
        page,
        "<!DOCTYPE html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <meta name=color-scheme content=\"light dark\"><title>rolecall</title><link rel=icon href=\"data:,\">\
         <style nonce={nonce}>{STYLE}</style><header><a href=\"?\">rolecall</a><span id=live>as of this moment; reload for news</span>"
    );
    if view.has_controls {
        page.push_str(CONTROLS);
    }
    page.push_str("</header><main id=view>");
    recorder.read(|records| view::write(&mut page, records, view, clocks));
    let _ = write!(
        page,
        "</main><script nonce={nonce}>{SCRIPT}</script></html>"
    );
    let mut response = response(StatusCode::OK, HTML, ConsoleBody::whole(page));
    let form = if view.has_controls {
        "'self'"
    } else {
        "'none'"
    };
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; connect-src 'self'; \
         form-action {form}; base-uri 'none'; frame-ancestors 'none'"
    );
    // Hexadecimal digits and the text above: always valid.
    if let Ok(policy) = HeaderValue::try_from(policy) {
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}
