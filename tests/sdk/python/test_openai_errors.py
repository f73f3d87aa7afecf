"""The official Python `openai` SDK: every fault arrives once, in the right class, and never as a silent end."""

import time

import openai
from checks import BASE, DIRECT, KEY, NARROW_KEY, arrivals, check, check_each, main, model, raises, same, words

ROUTES = {"o": "openai upstream"} if DIRECT else {"o": "openai upstream", "a": "anthropic upstream"}
OTHER = {"a": "anthropic upstream"}
HELLO = [{"role": "user", "content": "hello there"}]

client = openai.OpenAI(base_url=f"{BASE}/v1", api_key=KEY, max_retries=0, timeout=15)


def chat(name, **more):
    return client.chat.completions.create(**{"model": name, "messages": HELLO, **more})


def refused(kind, name, wanted_arrivals=1, **more):
    """Expects a refusal of this class, and that the provider was asked so many times; gives the error."""
    error = raises(kind, chat, name, **more)
    same(arrivals(name), wanted_arrivals, "requests that reached the provider")
    assert error.message and error.body, "the error has no body the SDK can read"
    if not DIRECT:
        assert error.request_id and error.request_id == error.response.headers["request-id"], error.response.headers
    return error


@check_each("upstream 500, whole and asked to stream", ROUTES)
def upstream_500(route):
    for stream in (False, True):
        error = refused(openai.InternalServerError, model(route, "+status=500"), stream=stream)
        assert error.status_code in (500, 502), error.status_code


@check_each("upstream 503", ROUTES)
def upstream_503(route):
    assert refused(openai.InternalServerError, model(route, "+status=503")).status_code in (502, 503)


@check_each("upstream 429 with retry-after", ROUTES)
def upstream_429(route):
    error = refused(openai.RateLimitError, model(route, "+status=429+retry-after=7"))
    same((error.status_code, error.response.headers["retry-after"]), (429, "7"))


@check_each("upstream 401 is not the client's", ROUTES, needs_gateway=True)
def upstream_401(route):
    for status in (401, 403):
        error = refused(openai.InternalServerError, model(f"{route}{status}", f"+status={status}"))
        same((error.status_code, error.code), (502, "provider_credential"))
        assert "sk-mock" not in str(error.body), "the provider's key is in the error"


@check_each("upstream 400 reads as the provider wrote it", ROUTES)
def upstream_400(route):
    error = refused(openai.BadRequestError, model(route, "+status=400"))
    assert "as it was told to" in error.message, error.message


@check_each("prompt too long", ROUTES)
def context_length(route):
    same(refused(openai.BadRequestError, model(route, "+context-length")).code, "context_length_exceeded")


@check_each("hang", ROUTES, needs_gateway=True)
def hang(route):
    for stream in (False, True):
        error = refused(openai.InternalServerError, model(route, "+hang"), stream=stream)
        same((error.status_code, error.code), (504, "provider_timeout"))


@check_each("the client's own patience is a deadline", ROUTES, needs_gateway=True)
def patience(route):
    # 1.5 s is what the provider's own rule allows; the header says that nobody waits that long.
    impatient = {"x-stainless-read-timeout": "0.4"}
    begun = time.monotonic()
    same(refused(openai.InternalServerError, model(route, "+hang"), extra_headers=impatient).status_code, 504)
    assert time.monotonic() - begun < 1.2, f"answered after {time.monotonic() - begun:.1f} s"


@check_each("reset", ROUTES, needs_gateway=True)
def reset(route):
    for stream in (False, True):
        error = refused(openai.InternalServerError, model(route, "+reset"), stream=stream)
        same((error.status_code, error.code), (502, "provider_unreachable"))


@check_each("garbage", ROUTES, needs_gateway=True)
def garbage(route):
    for stream in (False, True):
        error = refused(openai.InternalServerError, model(route, "+garbage"), stream=stream)
        same((error.status_code, error.code), (502, "provider_invalid_reply"))


@check_each("truncated", ROUTES, needs_gateway=True)
def truncated(route):
    same(refused(openai.InternalServerError, model(route, "+truncated")).status_code, 502)


def broken_stream(name, pieces):
    """Reads a stream that must bring these pieces and then raise; gives the error."""
    seen, stream = [], chat(name, stream=True)

    def read():
        for chunk in stream:
            seen.extend(choice.delta.content for choice in chunk.choices if choice.delta.content)
            assert not any(choice.finish_reason for choice in chunk.choices), "a broken stream claims to be finished"

    error = raises(openai.APIError, read)
    same((seen, arrivals(name)), (words(pieces), 1), "pieces before the break, and arrivals")
    assert not isinstance(error, openai.APIConnectionError), f"the stream just broke off: {error!r}"
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
    error = broken_stream(model(route, "+error-at=3"), 3)
    assert "told to" in error.message, error.message


@check_each("cut before the first content is a plain error", ROUTES, needs_gateway=True)
def cut_at_once(route):
    same(refused(openai.InternalServerError, model(route, "+cut=0"), stream=True).status_code, 502)


@check("unknown model names its neighbours", needs_gateway=True)
def unknown_model():
    error = raises(openai.NotFoundError, chat, "gpt-4o-mimi")
    same((error.status_code, error.code), (404, "model_not_found"))
    assert "gpt-4o-mini" in error.message, error.message


@check("wrong key", needs_gateway=True)
def wrong_key():
    name = model("o")
    stranger = client.with_options(api_key="sk-wrong")
    error = raises(openai.AuthenticationError, stranger.chat.completions.create, model=name, messages=HELLO)
    same((error.status_code, arrivals(name)), (401, 0))
    assert "sk-wrong" not in str(error.body), "the error repeats the key"


@check("key without this model", needs_gateway=True)
def forbidden():
    name = model("o")
    narrow = client.with_options(api_key=NARROW_KEY)
    error = raises(openai.PermissionDeniedError, narrow.chat.completions.create, model=name, messages=HELLO)
    same((error.status_code, error.code, arrivals(name)), (403, "model_forbidden", 0))
    assert narrow.chat.completions.create(model="gpt-4o-mini", messages=HELLO).choices


@check("wrong types", needs_gateway=True)
def wrong_types():
    for wrong in ({"model": 7}, {"stream": "yes"}):
        error = raises(openai.BadRequestError, chat, "o-x", extra_body=wrong)
        same(error.status_code, 400)
    same(arrivals("o-x"), 0)


@check_each("a tool that is none", OTHER, needs_gateway=True)
def bad_tool(route):
    for tool in ({"type": "function"}, {"type": "function", "function": {"name": 7}}):
        refused(openai.BadRequestError, model(route), 0, tools=[tool])


@check_each("what would change the meaning is refused by name", OTHER, needs_gateway=True)
def untranslatable(route):
    for name, value in (("n", 2), ("logprobs", True), ("response_format", {"type": "json_object"})):
        error = refused(openai.BadRequestError, model(route), 0, **{name: value})
        same((error.code, error.param.split(".")[0]), ("unsupported_parameter", name))


@check_each("what is left out is named in a header", OTHER, needs_gateway=True)
def lost(route):
    raw = client.chat.completions.with_raw_response.create(model=model(route), messages=HELLO, seed=7)
    named = [value for name, value in raw.headers.items() if name.startswith("x-troupe-") and "seed" in value]
    assert named, f"no x-troupe header names seed: {dict(raw.headers)}"


@check_each("endpoints the other wire lacks", OTHER, needs_gateway=True)
def no_such_endpoint(route):
    calls = [(client.responses.create, {"input": "hello"}), (client.embeddings.create, {"input": "hello"}),
             (client.completions.create, {"prompt": "hello"})]
    for call, more in calls:
        name = model(route)
        error = raises(openai.BadRequestError, call, model=name, **more)
        same((error.code, arrivals(name)), ("unsupported_operation", 0))


@check("Responses: a cut raises, a 500 is a 500", needs_gateway=True)
def responses_faults():
    raises(openai.InternalServerError, client.responses.create, model=model("o", "+status=500"), input="hello")
    stream = client.responses.create(model=model("o", "+cut=3"), input="hello", stream=True)
    seen = []

    def read():
        for event in stream:
            seen.append(event.type)
            # Either way is loud: an error event, which the SDK raises, or a response that says it failed.
            if event.type == "response.failed":
                raise openai.APIError("response.failed", None, body=None)

    raises(openai.APIError, read)
    same((seen.count("response.output_text.delta"), "response.completed" in seen), (3, False))


main("python openai errors")
