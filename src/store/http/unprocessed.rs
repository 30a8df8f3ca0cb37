//! Recognizes requests that a server turned away before it looked at them: it ends a connection after some number of
//! requests, and those already on their way may go over another one (HTTP/2 GOAWAY and REFUSED_STREAM).

use std::error::Error;

use h2::Reason;

/// Whether the request may be sent again at once: nothing is wrong with it or with the server.
pub(super) fn is_unprocessed(error: &reqwest::Error) -> bool {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    let is_so = |error: &h2::Error| match error.reason() {
        Some(Reason::NO_ERROR) => error.is_go_away(),
        Some(Reason::REFUSED_STREAM) => error.is_reset(),
        _ => false,
    };
    causes.filter_map(|cause| cause.downcast_ref::<h2::Error>()).any(|error| error.is_remote() && is_so(error))
}
