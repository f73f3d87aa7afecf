//! Puts a call into the words of one target: its body, its path, its headers.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use http_body_util::Full;
use troupe_dialect::peek::Edits;
use troupe_dialect::translate::{self, Context, Loss, RequestOptions, TokenLimitName};
use troupe_dialect::{Dialect, Operation, headers};
use troupe_proto::failure::ErrorCode;

use super::decode::Call;
use super::offload;
use super::refusal::Refusal;
use crate::catalogue;
use crate::clock;
use crate::telemetry::trace::TraceParent;
use crate::view::Member;

/// Translating larger bodies takes longer than a data thread may be held up.
pub(super) const TRANSLATE_INLINE_BYTES: usize = 64 << 10;
/// What an Anthropic model of which nothing is known is asked for at most: every current one can do it.
const OUTPUT_TOKENS_UNKNOWN: u64 = 8192;

/// A call as one target wants it.
pub(super) struct Prepared {
    /// Boxed: it goes down through several futures, each of which would have room for it.
    pub(super) request: Box<Request<Full<Bytes>>>,
    pub(super) way: Way,
}

/// How the reply gets back into the caller's dialect.
pub(super) enum Way {
    /// It is in that dialect already.
    Same {
        /// Whether the gateway asked for usage that the client did not.
        hide_usage: bool,
    },
    /// It is translated.
    Other(Box<Context>),
}

/// What the client sent that goes on in some form.
pub(super) struct Envelope<'a> {
    pub(super) headers: &'a HeaderMap,
    pub(super) query: Option<&'a str>,
    pub(super) trace: TraceParent,
}

/// Prepares `call` for `member`; also what the request lost on the way.
///
/// # Errors
/// `unsupported_parameter`, `unsupported_operation` or `invalid_field` where the target's wire cannot carry the call.
pub(super) async fn prepare(
    call: &Call,
    member: &Member,
    model: &str,
    envelope: &Envelope<'_>,
) -> Result<(Prepared, Vec<Loss>), Refusal> {
    let provider = &member.provider;
    let is_same = provider.dialect == call.operation.dialect();
    let (operation, body, way, extra, lost) = if is_same {
        let edits = Edits { model: Some(model), include_usage: true };
        let hide_usage = call.peeked.usage_can_be_added();
        (call.operation, call.peeked.edit(&call.body, &edits), Way::Same { hide_usage }, &[][..], Vec::new())
    } else {
        let translated = translated(call, provider.dialect, model).await?;
        let way = Way::Other(Box::new(translated.context));
        (translated.operation, translated.body.into(), way, translated.headers, translated.lost)
    };
    let query = envelope.query.filter(|query| is_same && *query == "beta=true");
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = provider.path(operation, model, query).parse().map_err(|_| {
        Refusal::new(ErrorCode::NoTarget, format!("the model {model:?} makes no URL of provider {}", provider.id))
    })?;
    write_headers(request.headers_mut(), member, envelope, is_same, extra);
    Ok((Prepared { request: Box::new(request), way }, lost))
}

async fn translated(call: &Call, to: Dialect, model: &str) -> Result<translate::Request, Refusal> {
    let from = call.operation;
    let created = u64::try_from(clock::unix_seconds()).unwrap_or(0);
    let body = call.body.clone();
    let (model, stream) = (model.to_owned(), call.peeked.stream);
    let work = move || {
        let options = RequestOptions {
            model: &model,
            max_tokens_default: catalogue::max_output_tokens(&model).unwrap_or(OUTPUT_TOKENS_UNKNOWN),
            sampling_allowed: catalogue::takes_sampling(&model),
            drop_params: false,
            stream,
            token_limit: TokenLimitName::default(),
            created,
        };
        translate::request(from, to, &body, &options)
    };
    let result = if call.body.len() <= TRANSLATE_INLINE_BYTES { work() } else { offload(work).await? };
    result.map_err(|error| {
        let param = error.param().map(str::to_owned);
        Refusal::new(error.code(), error.to_string()).with_param(param)
    })
}

/// Only what is listed goes on: client credentials and cookies never pass.
fn write_headers(
    out: &mut HeaderMap,
    member: &Member,
    envelope: &Envelope<'_>,
    is_same: bool,
    extra: &[(&'static str, &'static str)],
) {
    let provider = &member.provider;
    out.reserve(12);
    // One pass over what came: looking each listed name up costs more than the few that are there.
    for (name, value) in envelope.headers {
        let text = name.as_str();
        // What belongs to a dialect means nothing to a provider that is spoken to in another.
        let passes = is_same || matches!(text, "user-agent" | "baggage" | "tracestate");
        // Set below, whatever the client says.
        let is_ours = matches!(text, "content-type" | "traceparent");
        if passes && !is_ours && headers::forwards_request(provider.dialect, text) && !out.contains_key(name) {
            out.insert(name.clone(), value.clone());
        }
    }
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    out.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Ok(value) = HeaderValue::from_bytes(&envelope.trace.child(clock::dice()).value()) {
        out.insert(TRACEPARENT, value);
    }
    for (name, value) in extra {
        out.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    // Anthropic refuses calls without a version; its own SDKs always send one, curl users may not.
    if provider.dialect == Dialect::Anthropic && !out.contains_key(ANTHROPIC_VERSION) {
        out.insert(ANTHROPIC_VERSION, HeaderValue::from_static("2023-06-01"));
    }
    for (name, value) in &provider.headers {
        out.insert(name.clone(), value.clone());
    }
    if let Some(credential) = &member.credential {
        out.insert(credential.header.clone(), credential.value.clone());
    }
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");

/// Whether an operation can be asked to stream.
pub(super) const fn streams(operation: Operation) -> bool {
    match operation {
        Operation::Chat | Operation::Completions | Operation::Responses | Operation::Messages => true,
        Operation::Embeddings | Operation::CountTokens => false,
    }
}
