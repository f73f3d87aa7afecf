"""The official Python `anthropic` SDK: every fault arrives once, in the right class, and never as a silent end."""

import time

import anthropic
from checks import BASE, DIRECT, KEY, NARROW_KEY, arrivals, check, check_each, main, model, raises, same, words

ROUTES = {"a": "anthropic upstream"} if DIRECT else {"a": "anthropic upstream", "o": "openai upstream"}
OTHER = {"o": "openai upstream"}
HELLO = {"max_tokens": 1024, "messages": [{"role": "user", "content": "hello there"}]}

client = anthropic.Anthropic(base_url=BASE, api_key=KEY, max_retries=0, timeout=15)


def ask(name, **more):
    return client.messages.create(**{"model": name, **HELLO, **more})


def refused(kind, name, wanted_arrivals=1, **more):
    """Expects a refusal of this class, and that the provider was asked so many times; gives the error."""
    error = raises(kind, ask, name, **more)
    same(arrivals(name), wanted_arrivals, "requests that reached the provider")
    assert error.api_message and error.type, f"the SDK cannot read the error's body: {error.body}"
    if not DIRECT:
        assert error.request_id and error.request_id == error.response.headers["x-request-id"], error.response.headers
    return error


@check_each("upstream 500, whole and asked to stream", ROUTES)
def upstream_500(route):
    for stream in (False, True):
        error = refused(anthropic.InternalServerError, model(route, "+status=500"), stream=stream)
        assert error.status_code in (500, 502), error.status_code
        same(error.type, "api_error")


@check_each("upstream 503 and 529", ROUTES)
def upstream_503(route):
    for status in (503, 529):
        error = refused(anthropic.InternalServerError, model(route, f"+status={status}"))
        assert error.status_code in (502, 503, 529), error.status_code


@check_each("upstream 429 with retry-after", ROUTES)
def upstream_429(route):
    error = refused(anthropic.RateLimitError, model(route, "+status=429+retry-after=7"))
    same((error.type, error.response.headers["retry-after"]), ("rate_limit_error", "7"))


@check_each("upstream 401 is not the client's", ROUTES, needs_gateway=True)
def upstream_401(route):
    for status in (401, 403):
        error = refused(anthropic.InternalServerError, model(f"{route}{status}", f"+status={status}"))
        same((error.status_code, error.type), (502, "api_error"))
        assert "sk-mock" not in str(error.body), "the provider's key is in the error"


@check_each("upstream 400 reads as the provider wrote it", ROUTES)
def upstream_400(route):
    error = refused(anthropic.BadRequestError, model(route, "+status=400"))
    same(error.type, "invalid_request_error")
    assert "as it was told to" in error.api_message, error.api_message


@check_each("prompt too long", ROUTES)
def context_length(route):
    same(refused(anthropic.BadRequestError, model(route, "+context-length")).type, "invalid_request_error")


@check_each("hang", ROUTES, needs_gateway=True)
def hang(route):
    for stream in (False, True):
        same(refused(anthropic.GatewayTimeoutError, model(route, "+hang"), stream=stream).status_code, 504)


@check_each("the client's own patience is a deadline", ROUTES, needs_gateway=True)
def patience(route):
    # 1.5 s is what the provider's own rule allows; the header says that nobody waits that long.
    impatient = {"x-stainless-read-timeout": "0.4"}
    begun = time.monotonic()
    same(refused(anthropic.GatewayTimeoutError, model(route, "+hang"), extra_headers=impatient).status_code, 504)
    assert time.monotonic() - begun < 1.2, f"answered after {time.monotonic() - begun:.1f} s"


@check_each("reset, garbage, truncated", ROUTES, needs_gateway=True)
def broken_reply(route):
    cases = [("+reset", False), ("+reset", True), ("+garbage", False), ("+garbage", True), ("+truncated", False)]
    for knobs, stream in cases:
        error = refused(anthropic.InternalServerError, model(route, knobs), stream=stream)
        same((error.status_code, error.type), (502, "api_error"), f"{knobs} stream={stream}")


def broken_stream(name, pieces):
    """Reads a stream that must bring these pieces and then raise; gives the error."""
    seen, stream = [], ask(name, stream=True)

    def read():
        for event in stream:
            if event.type == "content_block_delta":
                seen.append(event.delta.text)
            assert event.type not in ("message_delta", "message_stop"), "a broken stream claims to be finished"

    error = raises(anthropic.APIError, read)
    same((seen, arrivals(name)), (words(pieces), 1), "pieces before the break, and arrivals")
    assert not isinstance(error, anthropic.APIConnectionError), f"the stream just broke off: {error!r}"
    return error


@check_each("stream cut in the middle raises", ROUTES, needs_gateway=True)
def cut(route):
    assert broken_stream(model(route, "+cut=3"), 3).message


@check_each("stream that ends too early, but cleanly, raises", ROUTES, needs_gateway=True)
def clean_cut(route):
    assert broken_stream(model(route, "+clean-cut=3"), 3).message


@check_each("stream that falls silent raises", ROUTES, needs_gateway=True)
def silent(route):
    assert broken_stream(model(route, "+hang-at=2"), 2).message


@check_each("in-band error raises", ROUTES)
def in_band(route):
    assert "told to" in str(broken_stream(model(route, "+error-at=3"), 3))


@check_each("cut before the first content is a plain error", ROUTES, needs_gateway=True)
def cut_at_once(route):
    same(refused(anthropic.InternalServerError, model(route, "+cut=0"), stream=True).status_code, 502)


@check("unknown model names its neighbours", needs_gateway=True)
def unknown_model():
    error = raises(anthropic.NotFoundError, ask, "claude-heiku")
    same((error.status_code, error.type), (404, "not_found_error"))
    assert "claude-haiku" in error.api_message, error.api_message


@check("wrong key", needs_gateway=True)
def wrong_key():
    name = model("a")
    stranger = anthropic.Anthropic(base_url=BASE, api_key="sk-wrong", max_retries=0, timeout=15)
    error = raises(anthropic.AuthenticationError, stranger.messages.create, model=name, **HELLO)
    same((error.status_code, error.type, arrivals(name)), (401, "authentication_error", 0))
    assert "sk-wrong" not in str(error.body), "the error repeats the key"


@check("key without this model", needs_gateway=True)
def forbidden():
    name = model("a")
    narrow = anthropic.Anthropic(base_url=BASE, api_key=NARROW_KEY, max_retries=0, timeout=15)
    error = raises(anthropic.PermissionDeniedError, narrow.messages.create, model=name, **HELLO)
    same((error.status_code, error.type, arrivals(name)), (403, "permission_error", 0))
    assert narrow.messages.create(model="claude-haiku", **HELLO).content


@check("wrong types", needs_gateway=True)
def wrong_types():
    for wrong in ({"model": 7}, {"stream": "yes"}):
        same(raises(anthropic.BadRequestError, ask, "a-x", extra_body=wrong).type, "invalid_request_error")
    same(arrivals("a-x"), 0)


@check_each("a tool that is none", OTHER, needs_gateway=True)
def bad_tool(route):
    refused(anthropic.BadRequestError, model(route), 0, tools=[{"name": 7, "input_schema": {"type": "object"}}])


@check_each("what would change the meaning is refused by name", OTHER, needs_gateway=True)
def untranslatable(route):
    search = {"type": "web_search_20250305", "name": "web_search"}
    servers = [{"type": "url", "url": "https://example.com/mcp", "name": "example"}]
    for name, more in (("tools", {"tools": [search]}), ("mcp_servers", {"extra_body": {"mcp_servers": servers}})):
        error = refused(anthropic.BadRequestError, model(route), 0, **more)
        assert name in error.api_message, error.api_message


@check_each("what is left out is named in a header", OTHER, needs_gateway=True)
def lost(route):
    raw = client.messages.with_raw_response.create(model=model(route), extra_body={"top_k": 5}, **HELLO)
    named = [value for name, value in raw.headers.items() if name.startswith("x-troupe-") and "top_k" in value]
    assert named, f"no x-troupe header names top_k: {dict(raw.headers)}"


@check_each("count_tokens where the provider has none", OTHER, needs_gateway=True)
def no_count(route):
    name = model(route)
    raises(anthropic.BadRequestError, client.messages.count_tokens, model=name, messages=HELLO["messages"])
    same(arrivals(name), 0)


main("python anthropic errors")
