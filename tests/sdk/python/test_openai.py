"""The official Python `openai` SDK: what works. Chat also with a provider of Anthropic's wire behind it."""

import asyncio
import json
import time

import openai
from checks import (
    BASE, DIRECT, KEY, check, check_each, counts, main, model, raises, requests_for, same, upstream_gone_within, words,
)
from pydantic import BaseModel

ROUTES = {"o": "openai upstream"} if DIRECT else {"o": "openai upstream", "a": "anthropic upstream"}
SAME = {"o": "openai upstream"}
HELLO = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello there"}]
HELLO_TOKENS = 5  # 19 bytes at four a token
WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a city", "parameters": {
        "type": "object", "required": ["city", "days"],
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}}}}}
CLOCK = {"type": "function", "function": {
    "name": "get_time", "parameters": {
        "type": "object", "required": ["zone"], "properties": {"zone": {"enum": ["UTC", "CET"]}}}}}
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

client = openai.OpenAI(base_url=f"{BASE}/v1", api_key=KEY, max_retries=0, timeout=15)


def chat(name, **more):
    return client.chat.completions.create(**{"model": name, "messages": HELLO, **more})


def read(stream):
    """Reads a stream to its end: its pieces of text, its finish reasons, its usages."""
    pieces, reasons, usages = [], [], []
    for chunk in stream:
        assert chunk.object == "chat.completion.chunk" and chunk.id, chunk
        if chunk.usage is not None:
            usages.append(chunk.usage)
        for choice in chunk.choices:
            if choice.delta.content:
                pieces.append(choice.delta.content)
            if choice.finish_reason:
                reasons.append(choice.finish_reason)
    return pieces, reasons, usages


def called(calls):
    return [(call.function.name, json.loads(call.function.arguments)) for call in calls]


@check_each("chat whole", ROUTES)
def chat_whole(route):
    name = model(route)
    reply = chat(name)
    same(reply.choices[0].message.content, "".join(words()), "content")
    same((reply.object, reply.choices[0].message.role, reply.choices[0].finish_reason),
         ("chat.completion", "assistant", "stop"))
    same((reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens),
         (HELLO_TOKENS, 10, HELLO_TOKENS + 10), "usage")
    assert reply.id and len(reply.choices) == 1, reply
    same(reply.model, name, "model")


@check_each("chat stream, one event a piece, no usage unasked", ROUTES)
def chat_stream(route):
    pieces, reasons, usages = read(chat(model(route), stream=True))
    same(pieces, words(), "pieces")
    same((reasons, usages), (["stop"], []))


@check_each("chat stream with include_usage", ROUTES)
def chat_stream_usage(route):
    chunks = list(chat(model(route), stream=True, stream_options={"include_usage": True}))
    same([chunk.usage is None for chunk in chunks], [True] * (len(chunks) - 1) + [False], "usage in the last only")
    same(chunks[-1].choices, [])
    usage = chunks[-1].usage
    same((usage.prompt_tokens, usage.completion_tokens, usage.total_tokens), (HELLO_TOKENS, 10, HELLO_TOKENS + 10))


@check_each("stream arrives while it is made", ROUTES)
def stream_is_live(route):
    times = [time.monotonic() for chunk in chat(model(route, "+words=6+drip=60ms"), stream=True)
             if chunk.choices and chunk.choices[0].delta.content]
    assert times[-1] - times[0] > 0.2, f"six pieces 60 ms apart came within {times[-1] - times[0]:.3f} s"


@check_each("stream in odd pieces of bytes", ROUTES)
def stream_slow_bytes(route):
    same(read(chat(model(route, "+words=20+slow-bytes"), stream=True))[:2], (words(20), ["stop"]))


@check_each("stream with comments, CRLF and letters of many bytes", ROUTES)
def stream_oddities(route):
    same(read(chat(model(route, "+comments+crlf"), stream=True))[:2], (words(), ["stop"]))
    whole = chat(model(route, "+unicode")).choices[0].message.content
    assert not whole.isascii(), whole
    same("".join(read(chat(model(route, "+unicode+slow-bytes"), stream=True))[0]), whole)


@check_each("1 MiB whole and streamed", ROUTES)
def large(route):
    reply = chat(model(route, "+words=100+size=1MiB"))
    same(len(reply.choices[0].message.content), 1 << 20, "bytes")
    pieces, reasons, _ = read(chat(model(route, "+words=100+size=1MiB"), stream=True))
    same(("".join(pieces) == reply.choices[0].message.content, reasons), (True, ["stop"]))


@check_each("token limit ends with length", ROUTES)
def length(route):
    for limit in ({"max_tokens": 3}, {"max_completion_tokens": 3}):
        reply = chat(model(route), **limit)
        same((reply.choices[0].message.content, reply.choices[0].finish_reason), ("w0 w1 w2 ", "length"))


@check_each("cached tokens are part of the prompt", ROUTES)
def cached(route):
    usage = chat(model(route, "+cached=7")).usage
    same((usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens), (HELLO_TOKENS + 7, 7))


@check_each("reasoning, whole and streamed", ROUTES)
def reasoning(route):
    message = chat(model(route, "+reasoning")).choices[0].message
    same((message.reasoning_content, message.content), ("r0 r1 r2 r3 r4 ", "".join(words())))
    chunks = list(chat(model(route, "+reasoning"), stream=True))
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    same("".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas), "r0 r1 r2 r3 r4 ")
    same("".join(delta.content or "" for delta in deltas), "".join(words()))


@check_each("a tool call and its result", ROUTES)
def tool(route):
    name = model(route, "+tools")
    choice = chat(name, tools=[WEATHER]).choices[0]
    same((choice.finish_reason, called(choice.message.tool_calls)), ("tool_calls", [WEATHER_CALL]))
    [call] = choice.message.tool_calls
    after = chat(name, tools=[WEATHER], messages=[
        *HELLO, choice.message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}])
    same((after.choices[0].message.content, after.choices[0].finish_reason), ("".join(words()), "stop"))


@check_each("parallel tools whole, both results, parallel off", ROUTES)
def parallel(route):
    name = model(route, "+parallel-tools")
    choice = chat(name, tools=[WEATHER, CLOCK]).choices[0]
    calls = choice.message.tool_calls
    same((choice.finish_reason, called(calls)), ("tool_calls", [WEATHER_CALL, CLOCK_CALL]))
    assert calls[0].id and calls[0].id != calls[1].id, calls
    results = [{"role": "tool", "tool_call_id": call.id, "content": f"result of {call.function.name}"}
               for call in calls]
    after = chat(name, tools=[WEATHER, CLOCK], messages=[*HELLO, choice.message, *results])
    same(after.choices[0].message.content, "".join(words()))
    sent = requests_for(name)[-1]["body"]
    assert all(f"result of {tool}" in sent for tool in ("get_weather", "get_time")), sent
    one = chat(name, tools=[WEATHER, CLOCK], parallel_tool_calls=False).choices[0].message.tool_calls
    same(called(one), [WEATHER_CALL])


@check_each("parallel tools streamed", ROUTES)
def parallel_streamed(route):
    calls, reasons = {}, []
    for chunk in chat(model(route, "+parallel-tools"), tools=[WEATHER, CLOCK], stream=True):
        for choice in chunk.choices:
            reasons += [choice.finish_reason] if choice.finish_reason else []
            for part in choice.delta.tool_calls or []:
                held = calls.setdefault(part.index, {"ids": [], "names": [], "arguments": ""})
                held["ids"] += [part.id] if part.id else []
                held["names"] += [part.function.name] if part.function.name else []
                held["arguments"] += part.function.arguments or ""
    same((sorted(calls), reasons), ([0, 1], ["tool_calls"]))
    same([(held["names"], json.loads(held["arguments"])) for _, held in sorted(calls.items())],
         [([WEATHER_CALL[0]], WEATHER_CALL[1]), ([CLOCK_CALL[0]], CLOCK_CALL[1])], "names once, arguments whole")
    same([len(held["ids"]) for held in calls.values()], [1, 1], "ids once")


@check_each("the SDK's own stream helper puts tools together", ROUTES)
def tools_helper(route):
    with client.chat.completions.stream(
        model=model(route, "+parallel-tools"), messages=HELLO, tools=[WEATHER, CLOCK]
    ) as stream:
        kinds = [event.type for event in stream]
        message = stream.get_final_completion().choices[0].message
    same(called(message.tool_calls), [WEATHER_CALL, CLOCK_CALL])
    same(kinds.count("tool_calls.function.arguments.done"), 2)


@check_each("forced tools", ROUTES)
def forced(route):
    required = chat(model(route), tools=[WEATHER, CLOCK], tool_choice="required").choices[0].message
    same(called(required.tool_calls), [WEATHER_CALL])
    named = {"type": "function", "function": {"name": "get_time"}}
    message = chat(model(route), tools=[WEATHER, CLOCK], tool_choice=named).choices[0].message
    same(called(message.tool_calls), [CLOCK_CALL])
    none = chat(model(route, "+tools"), tools=[WEATHER], tool_choice="none").choices[0].message
    same((none.tool_calls or [], none.content), ([], "".join(words())))


@check_each("structured output, parsed", ROUTES)
def structured(route):
    reply = client.chat.completions.parse(model=model(route), messages=HELLO, response_format=Trip)
    same(reply.choices[0].message.parsed, TRIP)


@check_each("structured output, streamed", ROUTES)
def structured_streamed(route):
    with client.chat.completions.stream(model=model(route), messages=HELLO, response_format=Trip) as stream:
        pieces = [event.delta for event in stream if event.type == "content.delta"]
        same(stream.get_final_completion().choices[0].message.parsed, TRIP)
    assert len(pieces) > 1, f"one piece only: {pieces}"


@check_each("request ids are readable", ROUTES, needs_gateway=True)
def request_ids(route):
    reply = chat(model(route))
    raw = client.chat.completions.with_raw_response.create(model=model(route), messages=HELLO)
    assert reply._request_id, "the SDK found no x-request-id"
    same(raw.headers["x-request-id"], raw.headers["request-id"], "both spellings")
    assert raw.headers["x-request-id"] != reply._request_id, "every request has an id of its own"
    private = {"set-cookie", "openai-organization", "anthropic-organization-id", "x-ratelimit-remaining-requests"}
    same(private & set(raw.headers), set(), "the provider's own headers")


@check_each("the provider gets its own wire and key, and none of the client's", ROUTES, needs_gateway=True)
def upstream_head(route):
    name = model(route)
    client.chat.completions.create(model=name, messages=HELLO, extra_headers={"cookie": "a=b"})
    [sent] = requests_for(name)
    headers = dict(sent["headers"])
    if route == "o":
        same((sent["path"], headers["authorization"]), ("/v1/chat/completions", "Bearer sk-mock-openai"))
    else:
        same((sent["path"], headers["x-api-key"]), ("/v1/messages", "sk-mock-anthropic"))
        assert headers["anthropic-version"], headers
    assert KEY not in str(sent) and "cookie" not in headers, headers
    same(headers["accept-encoding"], "identity")


@check_each("n and logprobs", SAME)
def many(route):
    reply = chat(model(route), n=2, logprobs=True)
    same([choice.index for choice in reply.choices], [0, 1])
    same([entry.token for entry in reply.choices[1].logprobs.content], words())


@check_each("embeddings, base64 by default and float", SAME)
def embeddings(route):
    packed = client.embeddings.create(model=model(route), input=["a", "b"])
    plain = client.embeddings.create(model=model(route), input=["a", "b"], encoding_format="float")
    same([len(one.embedding) for one in packed.data], [16, 16])
    same([one.embedding for one in packed.data], [one.embedding for one in plain.data], "both encodings")
    assert packed.data[0].embedding != packed.data[1].embedding and packed.usage.total_tokens == 2, packed.usage
    same(len(client.embeddings.create(model=model(route), input="a", dimensions=4).data[0].embedding), 4)
    sent = [json.loads(one["body"]) for one in requests_for("base64")]
    assert any(body["encoding_format"] == "base64" for body in sent), "the SDK asks for base64 unless told otherwise"


@check_each("Responses, whole and streamed", SAME)
def responses(route):
    reply = client.responses.create(model=model(route), input="hello there")
    same((reply.status, reply.output_text, reply.usage.output_tokens), ("completed", "".join(words()), 10))
    events = list(client.responses.create(model=model(route), input="hello there", stream=True))
    same([event.sequence_number for event in events], list(range(len(events))), "sequence numbers")
    same([event.delta for event in events if event.type == "response.output_text.delta"], words())
    same((events[0].type, events[-1].type), ("response.created", "response.completed"))
    same(events[-1].response.output_text, "".join(words()))


@check_each("Responses with a tool, and parsed", SAME)
def responses_more(route):
    tool = {"type": "function", "strict": True, **WEATHER["function"]}
    reply = client.responses.create(model=model(route, "+tools"), input="hello", tools=[tool])
    calls = [item for item in reply.output if item.type == "function_call"]
    same([(call.name, json.loads(call.arguments)) for call in calls], [WEATHER_CALL])
    same(client.responses.parse(model=model(route), input="hello", text_format=Trip).output_parsed, TRIP)


@check_each("legacy completions, whole and streamed", SAME)
def completions(route):
    reply = client.completions.create(model=model(route), prompt="once")
    same((reply.choices[0].text, reply.choices[0].finish_reason), ("".join(words()), "stop"))
    chunks = client.completions.create(model=model(route), prompt="once", stream=True)
    same([chunk.choices[0].text for chunk in chunks if chunk.choices and chunk.choices[0].text], words())


@check("models: list and retrieve", needs_gateway=True)
def models():
    listed = list(client.models.list())
    assert {"gpt-4o-mini", "claude-haiku"} <= {one.id for one in listed}, listed
    assert all(one.object == "model" and isinstance(one.created, int) and one.owned_by for one in listed), listed
    same(client.models.retrieve("gpt-4o-mini").id, "gpt-4o-mini")
    missing = raises(openai.NotFoundError, client.models.retrieve, "gpt-5o-mini")
    same(missing.code, "model_not_found")


@check("the same under /openai", needs_gateway=True)
def prefixed():
    under = openai.OpenAI(base_url=f"{BASE}/openai/v1", api_key=KEY, max_retries=0, timeout=15)
    reply = under.chat.completions.create(model=model("o"), messages=HELLO)
    same(reply.choices[0].message.content, "".join(words()))


@check_each("a client that leaves a stream ends it upstream", ROUTES, needs_gateway=True)
def abort(route):
    def leave():
        name = model(route, "+words=3000+drip=10ms")
        stream = chat(name, stream=True)
        for _ in range(5):
            next(stream)
        stream.close()
        return name, time.monotonic()
    upstream_gone_within(leave)
    same(counts()["streams_open"], 0, "streams open")


@check_each("a client that gives up waiting ends the call upstream", ROUTES, needs_gateway=True)
def give_up(route):
    def leave():
        name = model(route, "+hang")
        # Without this header the gateway knows when the client will give up, and answers just before.
        patient = {"x-stainless-read-timeout": "15"}
        raises(openai.APITimeoutError, chat, name, timeout=0.3, extra_headers=patient)
        return name, time.monotonic()
    upstream_gone_within(leave)


@check_each("a stream may last longer than the client's patience with silence", ROUTES, needs_gateway=True)
def long_stream(route):
    # An SDK's timeout is for one read: httpx starts it again with every chunk.
    stream = chat(model(route, "+words=20+drip=80ms"), stream=True, timeout=0.8)
    same(read(stream)[:2], (words(20), ["stop"]))


@check_each("async client: whole, 20 streams at once, abort", ROUTES)
async def asynchronous(route):
    async with openai.AsyncOpenAI(base_url=f"{BASE}/v1", api_key=KEY, max_retries=0, timeout=15) as other:
        create = other.chat.completions.create
        reply = await create(model=model(route), messages=HELLO)
        same(reply.choices[0].message.content, "".join(words()))

        async def one():
            stream = await create(model=model(route, "+words=50"), messages=HELLO, stream=True)
            return [chunk.choices[0].delta.content async for chunk in stream
                    if chunk.choices and chunk.choices[0].delta.content]

        same(await asyncio.gather(*[one() for _ in range(20)]), [words(50)] * 20)
        before = counts()["closed_early"]
        async with await create(model=model(route, "+words=3000+drip=10ms"), messages=HELLO, stream=True) as stream:
            await anext(stream)
        deadline = time.monotonic() + 3
        while counts()["closed_early"] == before:
            assert time.monotonic() < deadline, "the upstream stream was still open after 3 s"
            await asyncio.sleep(0.01)


main("python openai")
