//! One request being answered: what its knobs and the strikes in force make of it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, Version, header};
use serde_json::{Value, json};

use super::answer::{Answer, Ask, Choice, Format, answer, prompt_tokens};
use super::body::Scripted;
use super::counts::{Counts, Watch};
use super::faults::{self, Step};
use super::quota::Reading;
use super::routes::Route;
use super::script::{Fault, KnobError, Knobs};
use super::server::Reset;
use super::{anthropic, openai, responses};

/// Whose shapes a reply has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    OpenAi,
    Anthropic,
}

/// One request being answered.
pub(super) struct Turn {
    counts: Arc<Counts>,
    watch: Watch,
    wire: Wire,
    /// Which one of its model's calls it is, from 1.
    call: u64,
    knobs: Knobs,
    /// What its credential has left, where the knobs give it a quota.
    left: Option<Reading>,
}

impl Turn {
    pub(super) fn new(counts: &Arc<Counts>, wire: Wire, call: u64, path: &str, model: &str, shown: &str) -> Self {
        let watch = counts.watch(path, model, shown);
        Self { counts: Arc::clone(counts), watch, wire, call, knobs: Knobs::default(), left: None }
    }

    /// Does what the knobs of `model` and the strikes in force say; without a model, gives the list of models.
    ///
    /// # Errors
    /// The reset that was asked for: the connection ends without a reply.
    pub(super) async fn obey(
        mut self,
        route: &Route,
        model: Option<&str>,
        body: &Value,
        (reset, version): (Reset, Version),
    ) -> io::Result<Response<Scripted>> {
        if let Err(error) = self.read_knobs(model) {
            return Ok(self.refuse(StatusCode::BAD_REQUEST, &error.to_string(), None));
        }
        if let Some(delay) = self.knobs.delay {
            tokio::time::sleep(delay).await;
        }
        let is_stream = body.get("stream") == Some(&Value::Bool(true));
        match self.knobs.fault {
            Fault::None | Fault::Truncated => {}
            Fault::Hang => std::future::pending::<()>().await,
            Fault::Reset => {
                self.watch.over();
                // Over HTTP/2 the error resets this stream alone, which is the same event for its client.
                if version != Version::HTTP_2 {
                    reset.arm();
                }
                return Err(io::Error::new(io::ErrorKind::ConnectionReset, "the script resets the connection here"));
            }
            Fault::Status(status) => {
                let code = self.knobs.code.clone();
                let message = match status {
                    // As vendors word it: a gateway must not pass this on.
                    StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                        format!("Incorrect API key provided: {}", self.watch.credential())
                    }
                    _ => "the mock refuses as it was told to".to_owned(),
                };
                let mut response = self.refuse(status, &message, code.as_deref());
                if status.is_redirection() {
                    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/v1/chat/completions"));
                }
                return Ok(response);
            }
            Fault::ContextLength => return Ok(self.refuse_length()),
            Fault::Garbage => return Ok(self.garbage(is_stream)),
        }
        self.left = self.knobs.quota.map(|quota| self.counts.take(self.watch.credential(), quota));
        if let Some(left) = self.left.filter(|left| left.is_spent) {
            self.knobs.retry_after = Some(left.retry_after());
            return Ok(self.refuse(StatusCode::TOO_MANY_REQUESTS, "the quota of this credential is spent", None));
        }
        let Some(model) = model else {
            return Ok(match self.wire {
                Wire::OpenAi => self.whole(&openai::models()),
                Wire::Anthropic => self.whole(&anthropic::models()),
            });
        };
        Ok(self.serve(route, model, body, is_stream))
    }

    fn read_knobs(&mut self, model: Option<&str>) -> Result<(), KnobError> {
        if let Some(model) = model {
            self.knobs = Knobs::parse(model)?;
            self.knobs.recover(self.call);
        }
        self.counts.switch.strike(model, self.watch.credential(), &mut self.knobs)
    }

    fn request_id(&self) -> String {
        format!("req_mock_{}", self.watch.serial())
    }

    fn serve(mut self, route: &Route, model: &str, body: &Value, stream: bool) -> Response<Scripted> {
        let mut ask = Ask {
            model: model.to_owned(),
            knobs: self.knobs.clone(),
            serial: self.watch.serial(),
            stream,
            include_usage: false,
            tools: Vec::new(),
            choice: Choice::Auto,
            parallel: true,
            after_tool_result: false,
            format: Format::Text,
            max_tokens: None,
            prompt_tokens: prompt_tokens(body),
            said: None,
        };
        let read = match route {
            Route::Chat => openai::read_chat(body, &mut ask),
            Route::Completion => openai::read_completion(body, &mut ask),
            Route::Responses => responses::read(body, &mut ask),
            Route::Messages => anthropic::read(body, &mut ask),
            Route::Embeddings => {
                return match openai::embeddings(body, model) {
                    Ok(reply) => self.whole(&reply),
                    Err(message) => self.refuse(StatusCode::BAD_REQUEST, &message, None),
                };
            }
            Route::CountTokens => return self.whole(&json!({"input_tokens": ask.prompt_tokens})),
            Route::Model(id) => {
                return match self.wire {
                    Wire::OpenAi => self.whole(&openai::model(id)),
                    Wire::Anthropic => self.whole(&anthropic::model(id)),
                };
            }
            Route::Models
            | Route::Counts
            | Route::Reset
            | Route::Requests
            | Route::Departures
            | Route::Bills
            | Route::Fail
            | Route::Heal
            | Route::Health
            | Route::Unknown => Ok(()),
        };
        if let Err(message) = read {
            return self.refuse(StatusCode::BAD_REQUEST, &message, None);
        }
        let answer = answer(&ask);
        self.watch.resumed(answer.resumed);
        if ask.stream && !self.knobs.unstreamed {
            self.stream(route, body, &ask, &answer)
        } else {
            self.whole(&made(route, body, &ask, &answer))
        }
    }

    fn stream(mut self, route: &Route, body: &Value, ask: &Ask, answer: &Answer) -> Response<Scripted> {
        let (events, error): (_, fn() -> String) = match route {
            Route::Responses => (responses::events(body, ask, answer), responses::in_band_error),
            Route::Messages => (anthropic::events(ask, answer), anthropic::in_band_error),
            Route::Completion => (openai::completion_events(ask, answer), openai::in_band_error),
            _ => (openai::chat_events(body, ask, answer), openai::in_band_error),
        };
        let steps = faults::stream(&self.knobs, events, self.call, error);
        self.watch.begun(StatusCode::OK, true);
        let mut response = self.head(StatusCode::OK, "text/event-stream; charset=utf-8");
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response.map(|()| Scripted::new(steps, Some(self.watch)))
    }

    fn whole(mut self, reply: &Value) -> Response<Scripted> {
        let bytes = Bytes::from(reply.to_string());
        self.watch.begun(StatusCode::OK, false);
        let mut response = self.head(StatusCode::OK, "application/json");
        let length = bytes.len();
        let (steps, promised) = if self.knobs.fault == Fault::Truncated {
            // Half of it, and then the connection goes.
            (vec![Step::Send(bytes.slice(..length / 2), 0), Step::Flush, Step::Break], length)
        } else if self.knobs.slow_bytes {
            (faults::dribble_whole(&self.knobs, bytes), length)
        } else {
            (vec![Step::Send(bytes, 0)], length)
        };
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(promised));
        response.map(|()| Scripted::new(steps, Some(self.watch)))
    }

    pub(super) fn refuse(self, status: StatusCode, message: &str, code: Option<&str>) -> Response<Scripted> {
        let error = match self.wire {
            Wire::OpenAi => openai::error(status, message, code),
            Wire::Anthropic => anthropic::error(status, message, &self.request_id()),
        };
        self.plain(status, "application/json", Bytes::from(error.to_string()))
    }

    fn refuse_length(self) -> Response<Scripted> {
        let (message, code) = match self.wire {
            Wire::OpenAi => (
                "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens. \
                 Please reduce the length of the messages.",
                Some("context_length_exceeded"),
            ),
            Wire::Anthropic => ("prompt is too long: 209000 tokens > 200000 maximum", None),
        };
        self.refuse(StatusCode::BAD_REQUEST, message, code)
    }

    fn garbage(self, is_stream: bool) -> Response<Scripted> {
        if is_stream {
            let bytes = Bytes::from_static(b"data: {\"choices\": [<html>\n\nevent: message_start\ndata: }{\n\n");
            return self.plain(StatusCode::OK, "text/event-stream; charset=utf-8", bytes);
        }
        self.plain(StatusCode::OK, "application/json", Bytes::from_static(b"<html>\xff this is no JSON {"))
    }

    fn plain(mut self, status: StatusCode, kind: &'static str, bytes: Bytes) -> Response<Scripted> {
        self.watch.begun(status, false);
        let mut response = self.head(status, kind);
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        response.map(|()| Scripted::new(vec![Step::Send(bytes, 0)], Some(self.watch)))
    }

    fn head(&self, status: StatusCode, kind: &'static str) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::SET_COOKIE, HeaderValue::from_static("__mock=1; path=/"));
        let id = HeaderValue::from_str(&self.request_id()).ok();
        let named = match self.wire {
            Wire::OpenAi => {
                // What a gateway must keep to itself: its provider's organisation, quota and cookies.
                headers.insert("openai-organization", HeaderValue::from_static("mock-org"));
                headers.insert("openai-processing-ms", HeaderValue::from_static("1"));
                headers.insert("x-ratelimit-remaining-requests", HeaderValue::from_static("99"));
                "x-request-id"
            }
            Wire::Anthropic => {
                headers.insert("anthropic-organization-id", HeaderValue::from_static("mock-org"));
                headers.insert("anthropic-ratelimit-requests-remaining", HeaderValue::from_static("99"));
                "request-id"
            }
        };
        if let Some(left) = self.left {
            match self.wire {
                Wire::OpenAi => left.show_openai(headers),
                Wire::Anthropic => left.show_anthropic(headers),
            }
        }
        let held = [("retry-after", &self.knobs.retry_after), ("retry-after-ms", &self.knobs.retry_after_ms)];
        for (name, value) in held {
            if let Some(value) = value.as_deref().and_then(|value| HeaderValue::from_str(value).ok()) {
                headers.insert(name, value);
            }
        }
        if self.knobs.no_retry {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        if let Some(id) = id {
            headers.insert(named, id);
        }
        response
    }
}

fn made(route: &Route, body: &Value, ask: &Ask, answer: &Answer) -> Value {
    match route {
        Route::Responses => responses::whole(body, ask, answer),
        Route::Messages => anthropic::whole(ask, answer),
        Route::Completion => openai::completion_whole(ask, answer),
        _ => openai::chat_whole(body, ask, answer),
    }
}
