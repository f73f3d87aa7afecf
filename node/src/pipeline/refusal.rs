//! The one place where a failure becomes a status and a body in the caller's dialect.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use troupe_dialect::error::{self, ErrorView};
use troupe_dialect::{Dialect, Operation};
use troupe_proto::failure::{ErrorCode, Fault, Retry};

use crate::ingress::ReplyBody;

/// Why a request is not served.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    /// The status, where it is not the code's own.
    pub(crate) status: Option<u16>,
    /// What the client may read.
    pub(crate) message: Box<str>,
    pub(crate) param: Option<Box<str>>,
    pub(crate) fault: Option<Fault>,
    /// Whether the target is not to blame: the client had no more time, or two legs of a stream do not join.
    pub(crate) is_innocent: bool,
    /// Whether the provider does not have the model: another may.
    pub(crate) is_unknown_model: bool,
    /// Whether the provider said that the same call is of no use a second time.
    pub(crate) forbids_retry: bool,
    /// What the operator may read and the client may not.
    pub(crate) detail: Option<Box<str>>,
    pub(crate) retry_after: Option<Duration>,
    /// Whether the gateway has tried again for as long as it may: a client that does so too multiplies the calls.
    pub(crate) is_spent: bool,
    /// The provider's own words, where they may be relayed.
    pub(crate) verbatim: Option<Bytes>,
    /// Headers that go with it: the provider's with its words, `allow` with a wrong method.
    pub(crate) headers: Option<Box<HeaderMap>>,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            status: None,
            message: message.into().into_boxed_str(),
            param: None,
            fault: None,
            is_innocent: false,
            is_unknown_model: false,
            forbids_retry: false,
            detail: None,
            retry_after: None,
            is_spent: false,
            verbatim: None,
            headers: None,
        }
    }

    pub(crate) fn with_param(mut self, param: Option<String>) -> Self {
        self.param = param.map(String::into_boxed_str);
        self
    }

    pub(crate) const fn with_fault(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    pub(crate) fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into().into_boxed_str());
        self
    }

    pub(crate) const fn after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// The status that goes out.
    pub(crate) fn status(&self) -> StatusCode {
        let status = self.status.unwrap_or(self.code.status());
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The answer to a caller of this dialect.
    pub(crate) fn answer(self, dialect: Dialect, request_id: &str) -> Response<ReplyBody> {
        let status = self.status();
        let body = match &self.verbatim {
            Some(words) => words.clone(),
            None => error::body(dialect, &self.view(status.as_u16(), request_id)).into(),
        };
        let mut response = Response::new(ReplyBody::whole(body));
        *response.status_mut() = status;
        if let Some(theirs) = self.headers {
            *response.headers_mut() = *theirs;
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CODE, HeaderValue::from_static(self.code.as_str()));
        if let Some(delay) = self.retry_after {
            let seconds = delay.as_secs().saturating_add(u64::from(delay.subsec_nanos() > 0));
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        // A provider's own 408 and 409 are what SDKs repeat, with reason.
        let is_for_good = self.code.retry() == Retry::Never && !matches!(self.status, Some(408 | 409));
        if self.is_spent || is_for_good {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        response
    }

    /// The event that breaks off a stream of `operation`.
    pub(crate) fn event(&self, operation: Operation, request_id: &str, sequence: u64) -> Bytes {
        error::event(operation, &self.view(self.status().as_u16(), request_id), sequence).into()
    }

    fn view<'a>(&'a self, status: u16, request_id: &'a str) -> ErrorView<'a> {
        ErrorView {
            code: self.code,
            status,
            message: &self.message,
            param: self.param.as_deref(),
            request_id,
            fault: self.fault,
        }
    }
}

/// Our own code, the same in every dialect.
const CODE: HeaderName = HeaderName::from_static("x-troupe-error");
/// What the SDKs of both vendors obey.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
