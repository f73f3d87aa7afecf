"""The official Python `anthropic` SDK: what works. Messages also with a provider of OpenAI's wire behind it."""

import asyncio
import time

import anthropic
from checks import (
    BASE, DIRECT, KEY, check, check_each, counts, main, model, raises, requests_for, same, upstream_gone_within, words,
)
from pydantic import BaseModel

ROUTES = {"a": "anthropic upstream"} if DIRECT else {"a": "anthropic upstream", "o": "openai upstream"}
SAME = {"a": "anthropic upstream"}
HELLO = {"max_tokens": 1024, "system": "be brief", "messages": [{"role": "user", "content": "hello there"}]}
HELLO_TOKENS = 5  # 19 bytes at four a token
WEATHER = {"name": "get_weather", "description": "Weather of a city", "input_schema": {
    "type": "object", "required": ["city", "days"],
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}}}}
CLOCK = {"name": "get_time", "input_schema": {
    "type": "object", "required": ["zone"], "properties": {"zone": {"enum": ["UTC", "CET"]}}}}
WEATHER_CALL = ("get_weather", {"city": "mock", "days": 2})
CLOCK_CALL = ("get_time", {"zone": "UTC"})


class Trip(BaseModel):
    """What structured output has to come back as."""

    class Stop(BaseModel):
        place: str
        nights: int

    name: str
    stops: list[Stop]


TRIP = Trip(name="mock", stops=[Trip.Stop(place="mock", nights=1)])

client = anthropic.Anthropic(base_url=BASE, api_key=KEY, max_retries=0, timeout=15)


def ask(name, **more):
    return client.messages.create(**{"model": name, **HELLO, **more})


def text(message):
    return "".join(block.text for block in message.content if block.type == "text")


def called(message):
    return [(block.name, block.input) for block in message.content if block.type == "tool_use"]


def deltas(events):
    return [event.delta.text for event in events
            if event.type == "content_block_delta" and event.delta.type == "text_delta"]


@check_each("message whole", ROUTES)
def whole(route):
    name = model(route)
    reply = ask(name)
    same((text(reply), reply.stop_reason), ("".join(words()), "end_turn"))
    same((reply.type, reply.role, len(reply.content), reply.model), ("message", "assistant", 1, name))
    same((reply.usage.input_tokens, reply.usage.output_tokens), (HELLO_TOKENS, 10), "usage")
    assert reply.id, reply


@check_each("message stream, events in order", ROUTES)
def stream(route):
    events = list(ask(model(route), stream=True))
    same(deltas(events), words(), "pieces")
    kinds = [event.type for event in events if event.type != "ping"]
    same(kinds, ["message_start", "content_block_start", *["content_block_delta"] * 10, "content_block_stop",
                 "message_delta", "message_stop"])
    last = events[kinds.index("message_delta") - len(kinds)]
    same((last.delta.stop_reason, last.usage.output_tokens), ("end_turn", 10))


@check_each("the SDK's own stream helper gets the same message", ROUTES)
def stream_helper(route):
    with client.messages.stream(model=model(route), **HELLO) as one:
        pieces = list(one.text_stream)
        message = one.get_final_message()
    same((pieces, text(message), message.stop_reason), (words(), "".join(words()), "end_turn"))
    same((message.usage.input_tokens, message.usage.output_tokens), (HELLO_TOKENS, 10), "usage")


@check_each("stream arrives while it is made", ROUTES)
def stream_is_live(route):
    times = [time.monotonic() for event in ask(model(route, "+words=6+drip=60ms"), stream=True)
             if event.type == "content_block_delta"]
    assert times[-1] - times[0] > 0.2, f"six pieces 60 ms apart came within {times[-1] - times[0]:.3f} s"


@check_each("stream in odd pieces of bytes", ROUTES)
def stream_slow_bytes(route):
    same(deltas(ask(model(route, "+words=20+slow-bytes"), stream=True)), words(20))


@check_each("stream with comments, CRLF and letters of many bytes", ROUTES)
def stream_oddities(route):
    same(deltas(ask(model(route, "+comments+crlf"), stream=True)), words())
    whole = text(ask(model(route, "+unicode")))
    assert not whole.isascii(), whole
    same("".join(deltas(ask(model(route, "+unicode+slow-bytes"), stream=True))), whole)


@check_each("1 MiB whole and streamed", ROUTES)
def large(route):
    reply = text(ask(model(route, "+words=100+size=1MiB")))
    same(len(reply), 1 << 20, "bytes")
    pieces = deltas(ask(model(route, "+words=100+size=1MiB"), stream=True))
    assert "".join(pieces) == reply, "the stream differs from the whole"


@check_each("token limit ends with max_tokens", ROUTES)
def length(route):
    reply = ask(model(route), max_tokens=3)
    same((text(reply), reply.stop_reason), ("w0 w1 w2 ", "max_tokens"))


@check_each("cached tokens are counted apart", ROUTES)
def cached(route):
    usage = ask(model(route, "+cached=7")).usage
    same((usage.input_tokens, usage.cache_read_input_tokens), (HELLO_TOKENS, 7))


@check_each("system text reaches the provider", ROUTES)
def system(route):
    name = model(route)
    blocks = [{"type": "text", "text": "first rule"}, {"type": "text", "text": "second rule"}]
    ask(name, system=blocks)
    [sent] = requests_for(name)
    assert "first rule" in sent["body"] and "second rule" in sent["body"], sent["body"]


@check_each("thinking, whole and streamed", SAME)
def thinking(route):
    think = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 4096}
    reply = ask(model(route, "+reasoning"), **think)
    same([block.type for block in reply.content], ["thinking", "text"])
    assert reply.content[0].signature, "the signature is lost"
    with client.messages.stream(model=model(route, "+reasoning"), **{**HELLO, **think}) as one:
        streamed = one.get_final_message().content
    same((streamed[0], [block.type for block in streamed]), (reply.content[0], ["thinking", "text"]))
    same(streamed[1].text, "".join(words()))


@check_each("a tool call and its result", ROUTES)
def tool(route):
    name = model(route, "+tools")
    reply = ask(name, tools=[WEATHER])
    same((called(reply), reply.stop_reason), ([WEATHER_CALL], "tool_use"))
    [call] = [block for block in reply.content if block.type == "tool_use"]
    after = ask(name, tools=[WEATHER], messages=[
        *HELLO["messages"], {"role": "assistant", "content": reply.content},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "rain"}]}])
    same((text(after), after.stop_reason), ("".join(words()), "end_turn"))
    assert "rain" in requests_for(name)[-1]["body"]


@check_each("parallel tools whole, both results, parallel off", ROUTES)
def parallel(route):
    name = model(route, "+parallel-tools")
    reply = ask(name, tools=[WEATHER, CLOCK])
    calls = [block for block in reply.content if block.type == "tool_use"]
    same((called(reply), reply.stop_reason), ([WEATHER_CALL, CLOCK_CALL], "tool_use"))
    assert calls[0].id and calls[0].id != calls[1].id, calls
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": f"result of {call.name}"} for call in calls]
    after = ask(name, tools=[WEATHER, CLOCK], messages=[
        *HELLO["messages"], {"role": "assistant", "content": reply.content}, {"role": "user", "content": results}])
    same(text(after), "".join(words()))
    sent = requests_for(name)[-1]["body"]
    assert all(f"result of {tool}" in sent for tool in ("get_weather", "get_time")), sent
    alone = {"type": "auto", "disable_parallel_tool_use": True}
    same(called(ask(name, tools=[WEATHER, CLOCK], tool_choice=alone)), [WEATHER_CALL])


@check_each("parallel tools streamed", ROUTES)
def parallel_streamed(route):
    with client.messages.stream(model=model(route, "+parallel-tools"), tools=[WEATHER, CLOCK], **HELLO) as one:
        events = list(one)
        message = one.get_final_message()
    same((called(message), message.stop_reason), ([WEATHER_CALL, CLOCK_CALL], "tool_use"))
    same([event.index for event in events if event.type == "content_block_start"], [0, 1])
    parts = [event for event in events if event.type == "input_json"]
    assert len(parts) > 2, "arguments came in one piece each"


@check_each("forced tools", ROUTES)
def forced(route):
    tools = {"tools": [WEATHER, CLOCK]}
    same(called(ask(model(route), tool_choice={"type": "any"}, **tools)), [WEATHER_CALL])
    same(called(ask(model(route), tool_choice={"type": "tool", "name": "get_time"}, **tools)), [CLOCK_CALL])
    none = ask(model(route, "+tools"), tool_choice={"type": "none"}, **tools)
    same((called(none), text(none)), ([], "".join(words())))


@check_each("structured output, parsed", ROUTES)
def structured(route):
    same(client.messages.parse(model=model(route), output_format=Trip, **HELLO).parsed_output, TRIP)


@check_each("structured output, streamed", ROUTES)
def structured_streamed(route):
    with client.messages.stream(model=model(route), output_format=Trip, **HELLO) as one:
        pieces = list(one.text_stream)
        same(one.get_final_message().parsed_output, TRIP)
    assert len(pieces) > 1, f"one piece only: {pieces}"


@check_each("request ids are readable", ROUTES, needs_gateway=True)
def request_ids(route):
    reply = ask(model(route))
    raw = client.messages.with_raw_response.create(model=model(route), **HELLO)
    assert reply._request_id, "the SDK found no request-id"
    same(raw.headers["x-request-id"], raw.headers["request-id"], "both spellings")
    private = {"set-cookie", "openai-organization", "anthropic-organization-id", "x-ratelimit-remaining-requests"}
    same(private & set(raw.headers), set(), "the provider's own headers")


@check_each("the provider gets its own wire and key, and none of the client's", ROUTES, needs_gateway=True)
def upstream_head(route):
    name = model(route)
    ask(name, extra_headers={"cookie": "a=b", "anthropic-beta": "some-beta-2026-01-01"})
    [sent] = requests_for(name)
    headers = dict(sent["headers"])
    if route == "a":
        same((sent["path"], headers["x-api-key"]), ("/v1/messages", "sk-mock-anthropic"))
        # What version a client speaks is between it and the provider.
        same((headers["anthropic-version"], headers["anthropic-beta"]), ("2026-10-21", "some-beta-2026-01-01"))
    else:
        same((sent["path"], headers["authorization"]), ("/v1/chat/completions", "Bearer sk-mock-openai"))
    assert KEY not in str(sent) and "cookie" not in headers, headers
    same(headers["accept-encoding"], "identity")


@check_each("count_tokens", SAME)
def count_tokens(route):
    more = {name: value for name, value in HELLO.items() if name != "max_tokens"}
    same(client.messages.count_tokens(model=model(route), **more).input_tokens, HELLO_TOKENS)


@check("models: list and retrieve", needs_gateway=True)
def models():
    listed = list(client.models.list())
    assert {"gpt-4o-mini", "claude-haiku"} <= {one.id for one in listed}, listed
    for one in listed:
        same((one.type, one.lifecycle), ("model", "active"))
        assert one.display_name and one.created_at.year > 1969, one
    same(client.models.retrieve("claude-haiku").id, "claude-haiku")
    raises(anthropic.NotFoundError, client.models.retrieve, "claude-heiku")


@check("every way to send the key, and the same under /anthropic", needs_gateway=True)
def keys():
    ways = [{"base_url": BASE, "auth_token": KEY}, {"base_url": f"{BASE}/anthropic", "api_key": KEY},
            {"base_url": BASE, "api_key": "unused", "default_headers": {"authorization": "", "x-api-key": KEY}}]
    for way in ways:
        other = anthropic.Anthropic(max_retries=0, timeout=15, **way)
        same(text(other.messages.create(model=model("a"), **HELLO)), "".join(words()), str(sorted(way)))


@check_each("a client that leaves a stream ends it upstream", ROUTES, needs_gateway=True)
def abort(route):
    def leave():
        name = model(route, "+words=3000+drip=10ms")
        with client.messages.stream(model=name, **HELLO) as one:
            for _, _ in zip(range(5), one.text_stream):
                pass
            one.close()
            return name, time.monotonic()
    upstream_gone_within(leave)
    same(counts()["streams_open"], 0, "streams open")


@check_each("a client that gives up waiting ends the call upstream", ROUTES, needs_gateway=True)
def give_up(route):
    def leave():
        name = model(route, "+hang")
        # Without this header the gateway knows when the client will give up, and answers just before.
        patient = {"x-stainless-read-timeout": "15"}
        raises(anthropic.APITimeoutError, ask, name, timeout=0.3, extra_headers=patient)
        return name, time.monotonic()
    upstream_gone_within(leave)


@check_each("a stream may last longer than the client's patience with silence", ROUTES, needs_gateway=True)
def long_stream(route):
    # An SDK's timeout is for one read: httpx starts it again with every chunk.
    same(deltas(ask(model(route, "+words=20+drip=80ms"), stream=True, timeout=0.8)), words(20))


@check_each("async client: whole, 20 streams at once, abort", ROUTES)
async def asynchronous(route):
    async with anthropic.AsyncAnthropic(base_url=BASE, api_key=KEY, max_retries=0, timeout=15) as other:
        same(text(await other.messages.create(model=model(route), **HELLO)), "".join(words()))

        async def one():
            async with other.messages.stream(model=model(route, "+words=50"), **HELLO) as stream:
                return [piece async for piece in stream.text_stream]

        same(await asyncio.gather(*[one() for _ in range(20)]), [words(50)] * 20)
        before = counts()["closed_early"]
        async with other.messages.stream(model=model(route, "+words=3000+drip=10ms"), **HELLO) as stream:
            await anext(stream.text_stream)
        deadline = time.monotonic() + 3
        while counts()["closed_early"] == before:
            assert time.monotonic() < deadline, "the upstream stream was still open after 3 s"
            await asyncio.sleep(0.01)


main("python anthropic")
