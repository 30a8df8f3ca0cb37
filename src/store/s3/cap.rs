//! Response size limit: the AWS library reads whatever a server sends.

use std::pin::Pin;
use std::task::{Context, Poll};

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Size limit of error responses, and of responses without a body of interest, in bytes.
pub(super) const SMALL: u64 = 64 << 10;

/// Limits the response to one request to this many bytes.
#[derive(Debug)]
pub(super) struct Cap(pub(super) u64);

impl Intercept for Cap {
    fn name(&self) -> &'static str {
        "cap"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let answer = context.response_mut();
        let left = if answer.status().is_success() { self.0 } else { SMALL };
        let inner = std::mem::replace(answer.body_mut(), SdkBody::taken());
        *answer.body_mut() = SdkBody::from_body_1_x(Capped { inner, left });
        Ok(())
    }
}

/// The response exceeds its limit.
#[derive(Debug, thiserror::Error)]
#[error("the answer is too long")]
pub(super) struct TooLong;

struct Capped {
    inner: SdkBody,
    left: u64,
}

impl Body for Capped {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
            let Some(left) = self.left.checked_sub(bytes) else {
                return Poll::Ready(Some(Err(TooLong.into())));
            };
            self.left = left;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        Body::size_hint(&self.inner)
    }
}
