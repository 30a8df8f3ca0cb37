//! Classifies failed requests from the errors of the AWS library.
//!
//! Of a store's error response, only the error code is repeated: the rest could contain secrets from the request.

use std::error::Error;
use std::io;

use aws_config::imds::client::error::ImdsError;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::cap::TooLong;
use crate::format::layout::RepoPath;
use crate::store::{StoreError, StoreErrorKind};

/// Length limit of a repeated error code, in bytes.
const CODE_MAX_BYTES: usize = 64;
/// Length limit of a reason given by the AWS library, in characters.
const REASON_MAX_CHARS: usize = 200;

/// A request that failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: StoreErrorKind,
    pub(super) why: String,
    /// The HTTP status, 0 where there was none.
    pub(super) status: u16,
    /// Whether the store gave an error code. The AWS library reports `NotFound` for a response without one.
    pub(super) named: bool,
}

impl Failure {
    pub(super) fn new(kind: StoreErrorKind, why: impl Into<String>) -> Self {
        Self { kind, why: why.into(), status: 0, named: false }
    }

    /// Converts it to an error about one object.
    pub(super) fn at(self, location: &str, path: &RepoPath) -> StoreError {
        StoreError::at(location, path, self.kind, self.why)
    }

    /// Converts it to an error about the whole store.
    pub(super) fn whole(self, location: &str) -> StoreError {
        StoreError::whole(location, self.kind, self.why)
    }

    fn answered(status: u16, code: &str, region: Option<&str>) -> Self {
        let (kind, sentence) = match (status, code) {
            (200..=299, "") => (StoreErrorKind::Protocol, "an invalid response"),
            _ => meaning(status, code),
        };
        let said = if code.is_empty() { status.to_string() } else { format!("{status} {code}") };
        let mut why = match sentence {
            "" => format!("the store answered {said}"),
            sentence => format!("{sentence} (the store answered {said})"),
        };
        if let Some(region) = region.filter(|_| kind == StoreErrorKind::Other) {
            why = format!("{why}; it is in {region}");
        }
        Self { kind, why, status, named: !matches!(code, "" | "NotFound") }
    }
}

/// Meaning of an error response: the kind, and an explanation where the code is not clear enough.
fn meaning(status: u16, code: &str) -> (StoreErrorKind, &'static str) {
    use StoreErrorKind::{Denied, Full, NotFound, Other, Protocol, Unreachable};
    match (status, code) {
        (_, "NoSuchBucket") => (Other, "the bucket does not exist"),
        (_, "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") | (301, _) => {
            (Other, "the bucket is in another region: set `region`")
        }
        (_, "XMinioStorageFull" | "InsufficientStorage") | (507, _) => (Full, "no space left"),
        (_, code) if code.contains("QuotaExceeded") || code.contains("StorageCap") => (Full, "no space left"),
        (_, "BadDigest" | "InvalidDigest" | "XAmzContentSHA256Mismatch" | "IncompleteBody") => {
            (Unreachable, "the bytes were damaged on their way")
        }
        (_, "RequestTimeTooSkewed") => (Denied, "the clock of this machine is wrong"),
        (_, "ExpiredToken" | "TokenRefreshRequired" | "InvalidToken") => (Denied, "the session token is not valid"),
        (401 | 403, "") => {
            (Denied, "access denied; some stores report missing objects like this to keys that must not list")
        }
        (401 | 403, _) | (_, "AccessDenied") => (Denied, ""),
        (404 | 410, _) => (NotFound, ""),
        (409, "ConditionalRequestConflict" | "OperationAborted") => (Unreachable, "another writer was at work"),
        (408 | 425 | 429 | 500..=500 | 502..=599, _) | (_, "RequestTimeout" | "SlowDown") => (Unreachable, ""),
        _ => (Protocol, ""),
    }
}

impl<E: ProvideErrorMetadata + Error + 'static> From<SdkError<E>> for Failure {
    fn from(error: SdkError<E>) -> Self {
        match &error {
            SdkError::ServiceError(service) => {
                let answer = service.raw();
                let region = answer.headers().get("x-amz-bucket-region").map(word);
                let code = service.err().code().map(word).unwrap_or_default();
                Self::answered(answer.status().as_u16(), &code, region.as_deref())
            }
            SdkError::ResponseError(response) => {
                let status = response.raw().status().as_u16();
                match status {
                    200..=299 => Self { status, ..unread(&error) },
                    _ => Self::answered(status, "", None),
                }
            }
            SdkError::TimeoutError(_) => Self::new(StoreErrorKind::Unreachable, "timed out"),
            SdkError::DispatchFailure(_) => dispatch(&error),
            _ => Self::new(StoreErrorKind::Other, format!("no request can be made: {}", innermost(&error))),
        }
    }
}

/// Whether the response exceeded its limit.
pub(super) fn is_too_long(error: &(dyn Error + 'static)) -> bool {
    find::<TooLong>(error).is_some()
}

/// The failure for a response that was truncated or too long.
pub(super) fn unread(error: &(dyn Error + 'static)) -> Failure {
    if is_too_long(error) {
        return Failure::new(StoreErrorKind::Protocol, TooLong.to_string());
    }
    Failure::new(StoreErrorKind::Unreachable, innermost(error))
}

/// The failure for a request without a response.
fn dispatch(error: &(dyn Error + 'static)) -> Failure {
    match find::<CredentialsError>(error) {
        Some(credentials) => credentials_failure(credentials),
        None => Failure::new(StoreErrorKind::Unreachable, innermost(error)),
    }
}

fn credentials_failure(error: &CredentialsError) -> Failure {
    // The instance metadata service is last in the chain: if it fails, no source had credentials.
    let last = find::<ImdsError>(error).is_some();
    match error {
        _ if last || matches!(error, CredentialsError::CredentialsNotLoaded(_)) => Failure::new(
            StoreErrorKind::Denied,
            "no credentials found: neither by access-key-env and secret-key-env, nor in AWS_ACCESS_KEY_ID, a profile of ~/.aws, \
             AWS_WEB_IDENTITY_TOKEN_FILE, a container's or an instance's role",
        ),
        CredentialsError::ProviderTimedOut(_) => {
            Failure::new(StoreErrorKind::Unreachable, "the credentials could not be fetched in time")
        }
        // The output of a credential program may contain secrets.
        _ if chain(error).any(|e| e.to_string().contains("external process")) => {
            Failure::new(StoreErrorKind::Denied, "the credential_process of the profile failed")
        }
        _ => Failure::new(StoreErrorKind::Denied, format!("the credentials could not be loaded: {}", innermost(error))),
    }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => error.source(),
    })
}

fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    chain(error).find_map(|e| e.downcast_ref::<E>())
}

/// The root cause, in one short line.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let text = chain(error).last().map(ToString::to_string).unwrap_or_default();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut plain = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(REASON_MAX_CHARS);
    let first = plain.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(plain).collect()
}

/// A word from the store, sanitized for display.
fn word(text: &str) -> String {
    let harmless = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.chars().filter(harmless).take(CODE_MAX_BYTES).collect()
}
