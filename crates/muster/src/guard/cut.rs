//! An answer that ends when its caller loses the right to it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;

use super::Known;

pub(super) struct Cut {
    /// `None` once it was cut; what makes the answer notices that nobody wants it.
    body: Option<Body>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Looked after as long as this lives.
    _known: Arc<Known>,
}

impl Cut {
    pub(super) fn new(body: Body, known: Arc<Known>) -> Self {
        let cut = Box::pin(known.cut.clone().cancelled_owned());
        Self { body: Some(body), cut, _known: known }
    }
}

impl HttpBody for Cut {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.body.is_none() {
            return Poll::Ready(None);
        }
        if self.cut.as_mut().poll(context).is_ready() {
            self.body = None;
            let lost = Status::unauthenticated("the token was revoked or has expired");
            let trailers = lost.into_http::<Body>().into_parts().0.headers;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}
