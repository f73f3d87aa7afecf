// The official Node `openai` SDK: what works, and every fault in its class. Chat with both wires upstream.

import OpenAI from "openai";
import {
    BASE,
    DIRECT,
    KEY,
    arrivals,
    check,
    checkEach,
    claim,
    main,
    model,
    raises,
    same,
    upstreamGoneSoon,
    words,
} from "../common/checks.mjs";

const SAME = { o: "openai upstream" };
const OTHER = { a: "anthropic upstream" };
const ROUTES = DIRECT ? SAME : { ...SAME, ...OTHER };
const GATEWAY = { needsGateway: true };
const messages = [
    { role: "system", content: "be brief" },
    { role: "user", content: "hello there" },
];
const HELLO_TOKENS = 5; // 19 bytes at four a token
const SCHEMA = {
    type: "object",
    required: ["city", "days"],
    additionalProperties: false,
    properties: { city: { type: "string" }, days: { type: "integer", minimum: 2 } },
};
const WEATHER = { type: "function", function: { name: "get_weather", parameters: SCHEMA } };
const CLOCK = {
    type: "function",
    function: {
        name: "get_time",
        parameters: { type: "object", required: ["zone"], properties: { zone: { enum: ["UTC", "CET"] } } },
    },
};
const WEATHER_CALL = ["get_weather", { city: "mock", days: 2 }];
const CLOCK_CALL = ["get_time", { zone: "UTC" }];
const ANSWER = words().join("");

const client = new OpenAI({ baseURL: `${BASE}/v1`, apiKey: KEY, maxRetries: 0, timeout: 15_000 });
const chat = (name, more, options) => client.chat.completions.create({ model: name, messages, ...more }, options);
const called = (calls) => calls.map((call) => [call.function.name, JSON.parse(call.function.arguments)]);

async function read(stream) {
    const seen = { pieces: [], reasons: [], usages: [] };
    for await (const chunk of stream) {
        if (chunk.usage) seen.usages.push(chunk.usage);
        for (const choice of chunk.choices) {
            if (choice.delta.content) seen.pieces.push(choice.delta.content);
            if (choice.finish_reason) seen.reasons.push(choice.finish_reason);
        }
    }
    return seen;
}

checkEach("chat whole", ROUTES, async (route) => {
    const reply = await chat(model(route));
    same([reply.choices[0].message.content, reply.choices[0].finish_reason], [ANSWER, "stop"]);
    same(
        [reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens],
        [HELLO_TOKENS, 10, HELLO_TOKENS + 10],
        "usage",
    );
    if (!DIRECT) claim(reply._request_id, "the SDK found no x-request-id");
});

checkEach("chat stream, usage only when asked", ROUTES, async (route) => {
    same(await read(await chat(model(route), { stream: true })), { pieces: words(), reasons: ["stop"], usages: [] });
    const { usages } = await read(await chat(model(route), { stream: true, stream_options: { include_usage: true } }));
    same(
        usages.map((usage) => [usage.prompt_tokens, usage.completion_tokens]),
        [[HELLO_TOKENS, 10]],
        "usages",
    );
});

checkEach("stream in odd pieces of bytes", ROUTES, async (route) => {
    same((await read(await chat(model(route, "+words=20+slow-bytes"), { stream: true }))).pieces, words(20));
});

checkEach("a tool call and its result", ROUTES, async (route) => {
    const name = model(route, "+tools");
    const { message, finish_reason } = (await chat(name, { tools: [WEATHER] })).choices[0];
    same([called(message.tool_calls), finish_reason], [[WEATHER_CALL], "tool_calls"]);
    const result = { role: "tool", tool_call_id: message.tool_calls[0].id, content: "rain" };
    const after = await chat(name, { tools: [WEATHER], messages: [...messages, message, result] });
    same(after.choices[0].message.content, ANSWER);
});

checkEach("parallel tools, whole and streamed", ROUTES, async (route) => {
    const more = { tools: [WEATHER, CLOCK] };
    const whole = await chat(model(route, "+parallel-tools"), more);
    same(called(whole.choices[0].message.tool_calls), [WEATHER_CALL, CLOCK_CALL]);
    const stream = client.chat.completions.stream({ model: model(route, "+parallel-tools"), messages, ...more });
    const { message, finish_reason } = (await stream.finalChatCompletion()).choices[0];
    same([called(message.tool_calls), finish_reason], [[WEATHER_CALL, CLOCK_CALL], "tool_calls"]);
});

checkEach("structured output, parsed and streamed", ROUTES, async (route) => {
    const response_format = { type: "json_schema", json_schema: { name: "trip", strict: true, schema: SCHEMA } };
    const parsed = await client.chat.completions.parse({ model: model(route), messages, response_format });
    same(parsed.choices[0].message.parsed, { city: "mock", days: 2 });
    const { pieces } = await read(await chat(model(route), { response_format, stream: true }));
    same(JSON.parse(pieces.join("")), { city: "mock", days: 2 }, "streamed");
});

checkEach("embeddings, base64 by default and float", SAME, async (route) => {
    const packed = await client.embeddings.create({ model: model(route), input: ["a", "b"] });
    const plain = await client.embeddings.create({ model: model(route), input: ["a", "b"], encoding_format: "float" });
    same(
        packed.data.map((one) => one.embedding.length),
        [16, 16],
    );
    same(
        packed.data.map((one) => one.embedding),
        plain.data.map((one) => one.embedding),
        "both encodings",
    );
});

checkEach("Responses, whole and streamed", SAME, async (route) => {
    const whole = await client.responses.create({ model: model(route), input: "hello there" });
    same([whole.status, whole.output_text], ["completed", ANSWER]);
    const events = [];
    for await (const event of await client.responses.create({
        model: model(route),
        input: "hello there",
        stream: true,
    }))
        events.push(event);
    same(
        events.map((event) => event.sequence_number),
        events.map((_, index) => index),
        "sequence numbers",
    );
    same(
        events.filter((event) => event.type === "response.output_text.delta").map((event) => event.delta),
        words(),
    );
    same(events.at(-1).type, "response.completed");
});

checkEach("legacy completions, whole and streamed", SAME, async (route) => {
    same((await client.completions.create({ model: model(route), prompt: "once" })).choices[0].text, ANSWER);
    const pieces = [];
    for await (const chunk of await client.completions.create({ model: model(route), prompt: "once", stream: true }))
        pieces.push(chunk.choices[0]?.text);
    same(pieces.filter(Boolean), words());
});

check(
    "models: list and retrieve",
    async () => {
        const listed = [];
        for await (const one of client.models.list()) listed.push(one.id);
        claim(listed.includes("gpt-4o-mini") && listed.includes("claude-haiku"), `listed: ${listed}`);
        same((await client.models.retrieve("gpt-4o-mini")).id, "gpt-4o-mini");
    },
    GATEWAY,
);

/** Expects a refusal of this class, and that the provider was asked so many times. */
async function refused(kind, name, more, wanted = 1) {
    const error = await raises(kind, () => chat(name, more));
    same(await arrivals(name), wanted, "requests that reached the provider");
    claim(error.error?.message, "the error has no body the SDK can read");
    if (!DIRECT) claim(error.requestID, "the error has no request id");
    return error;
}

checkEach("upstream 500, 503 and 429 in their classes", ROUTES, async (route) => {
    await refused(OpenAI.InternalServerError, model(route, "+status=500"));
    await refused(OpenAI.InternalServerError, model(route, "+status=503"), { stream: true });
    const limited = await refused(OpenAI.RateLimitError, model(route, "+status=429+retry-after=7"));
    same(limited.headers.get("retry-after"), "7");
});

checkEach(
    "upstream 401 is not the client's",
    ROUTES,
    async (route) => {
        const error = await refused(OpenAI.InternalServerError, model(`${route}401`, "+status=401"));
        same([error.status, error.code], [502, "provider_credential"]);
    },
    GATEWAY,
);

checkEach(
    "hang, reset, garbage, truncated",
    ROUTES,
    async (route) => {
        const cases = [
            ["+hang", 504],
            ["+reset", 502],
            ["+garbage", 502],
            ["+truncated", 502],
        ];
        for (const [knobs, status] of cases) {
            same((await refused(OpenAI.InternalServerError, model(route, knobs))).status, status, knobs);
        }
    },
    GATEWAY,
);

checkEach(
    "client errors: wrong key, unknown model",
    SAME,
    async (route) => {
        const stranger = new OpenAI({ baseURL: `${BASE}/v1`, apiKey: "sk-wrong", maxRetries: 0 });
        await raises(OpenAI.AuthenticationError, () =>
            stranger.chat.completions.create({ model: model(route), messages }),
        );
        const missing = await raises(OpenAI.NotFoundError, () => chat("gpt-4o-mimi"));
        claim(missing.message.includes("gpt-4o-mini"), missing.message);
    },
    GATEWAY,
);

/** Reads a stream that must bring so many pieces and then raise. */
async function broken(name, wanted) {
    const pieces = [];
    const error = await raises(OpenAI.APIError, async () => {
        for await (const chunk of await chat(name, { stream: true })) {
            if (chunk.choices[0]?.delta.content) pieces.push(chunk.choices[0].delta.content);
            claim(!chunk.choices[0]?.finish_reason, "a broken stream claims to be finished");
        }
    });
    same([pieces, await arrivals(name)], [words(wanted), 1], "pieces before the break, and arrivals");
    claim(!(error instanceof OpenAI.APIConnectionError), `the stream just broke off: ${error}`);
}

checkEach("in-band error raises", ROUTES, (route) => broken(model(route, "+error-at=3"), 3));
checkEach(
    "cut, early end and silence in mid-stream raise",
    ROUTES,
    async (route) => {
        await broken(model(route, "+cut=3"), 3);
        await broken(model(route, "+clean-cut=3"), 3);
        await broken(model(route, "+hang-at=2"), 2);
    },
    GATEWAY,
);

checkEach(
    "what cannot be translated is refused by name",
    OTHER,
    async (route) => {
        same((await refused(OpenAI.BadRequestError, model(route), { n: 2 }, 0)).param, "n");
        for (const [call, more] of [
            [client.responses, { input: "hello" }],
            [client.embeddings, { input: "hello" }],
        ]) {
            const error = await raises(OpenAI.BadRequestError, () => call.create({ model: model(route), ...more }));
            same(error.code, "unsupported_operation");
        }
    },
    GATEWAY,
);

checkEach(
    "a client that leaves a stream ends it upstream",
    ROUTES,
    async (route) => {
        await upstreamGoneSoon(async () => {
            const name = model(route, "+words=3000+drip=10ms");
            const stream = await chat(name, { stream: true });
            let seen = 0;
            for await (const _ of stream) if ((seen += 1) === 5) break;
            stream.controller.abort();
            return [name, performance.now()];
        });
        await upstreamGoneSoon(async () => {
            const name = model(route, "+hang");
            const leaving = new AbortController();
            const call = raises(OpenAI.APIUserAbortError, () => chat(name, {}, { signal: leaving.signal }));
            await new Promise((done) => setTimeout(done, 200));
            leaving.abort();
            await call;
            return [name, performance.now()];
        });
    },
    GATEWAY,
);

await main("node openai");
