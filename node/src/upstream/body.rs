use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use super::client::Lease;

/// A provider's reply as it arrives. Dropping it before its end cancels the call at once: an HTTP/1.1 connection is
/// closed, an h2 stream is reset.
pub struct UpstreamBody {
    incoming: Incoming,
    lease: Option<Lease>,
}

impl UpstreamBody {
    pub(super) fn new(incoming: Incoming, lease: Lease) -> Self {
        let lease = if incoming.is_end_stream() {
            lease.give_back();
            None
        } else {
            Some(lease)
        };
        Self { incoming, lease }
    }

    /// The next piece, `None` at the end. After the end the connection serves other calls.
    ///
    /// # Errors
    /// What broke the connection, its source kept.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, Arc<hyper::Error>>> {
        loop {
            match self.incoming.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Some(Ok(data)),
                    // Trailers say nothing that any dialect reads.
                    Err(_trailers) => {}
                },
                Some(Err(error)) => return Some(Err(Arc::new(error))),
                None => {
                    if let Some(lease) = self.lease.take() {
                        lease.give_back();
                    }
                    return None;
                }
            }
        }
    }

    /// The length the reply announced, if it did.
    pub fn announced_bytes(&self) -> Option<u64> {
        self.incoming.size_hint().exact()
    }
}
