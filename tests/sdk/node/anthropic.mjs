// The official Node `@anthropic-ai/sdk`: what works, and every fault in its class. Messages with both wires upstream.

import Anthropic from "@anthropic-ai/sdk";
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

const SAME = { a: "anthropic upstream" };
const OTHER = { o: "openai upstream" };
const ROUTES = DIRECT ? SAME : { ...SAME, ...OTHER };
const GATEWAY = { needsGateway: true };
const HELLO = { max_tokens: 1024, system: "be brief", messages: [{ role: "user", content: "hello there" }] };
const HELLO_TOKENS = 5; // 19 bytes at four a token
const SCHEMA = {
    type: "object",
    required: ["city", "days"],
    additionalProperties: false,
    properties: { city: { type: "string" }, days: { type: "integer", minimum: 2 } },
};
const WEATHER = { name: "get_weather", input_schema: SCHEMA };
const CLOCK = {
    name: "get_time",
    input_schema: { type: "object", required: ["zone"], properties: { zone: { enum: ["UTC", "CET"] } } },
};
const WEATHER_CALL = ["get_weather", { city: "mock", days: 2 }];
const CLOCK_CALL = ["get_time", { zone: "UTC" }];
const ANSWER = words().join("");

const client = new Anthropic({ baseURL: BASE, apiKey: KEY, maxRetries: 0, timeout: 15_000 });
const ask = (name, more, options) => client.messages.create({ model: name, ...HELLO, ...more }, options);
const text = (message) =>
    message.content
        .filter((block) => block.type === "text")
        .map((block) => block.text)
        .join("");
const called = (message) =>
    message.content.filter((block) => block.type === "tool_use").map((block) => [block.name, block.input]);

checkEach("message whole", ROUTES, async (route) => {
    const reply = await ask(model(route));
    same([text(reply), reply.stop_reason, reply.role], [ANSWER, "end_turn", "assistant"]);
    same([reply.usage.input_tokens, reply.usage.output_tokens], [HELLO_TOKENS, 10], "usage");
    if (!DIRECT) claim(reply._request_id, "the SDK found no request-id");
});

checkEach("message stream, raw and by the SDK's helper", ROUTES, async (route) => {
    const [kinds, pieces] = [[], []];
    for await (const event of await ask(model(route), { stream: true })) {
        kinds.push(event.type);
        if (event.type === "content_block_delta") pieces.push(event.delta.text);
    }
    same(pieces, words());
    same([kinds[0], kinds.at(-1)], ["message_start", "message_stop"]);
    const message = await client.messages.stream({ model: model(route), ...HELLO }).finalMessage();
    same([text(message), message.stop_reason, message.usage.output_tokens], [ANSWER, "end_turn", 10]);
});

checkEach("stream in odd pieces of bytes", ROUTES, async (route) => {
    const message = await client.messages
        .stream({ model: model(route, "+words=20+slow-bytes"), ...HELLO })
        .finalMessage();
    same(text(message), words(20).join(""));
});

checkEach("a tool call and its result", ROUTES, async (route) => {
    const name = model(route, "+tools");
    const reply = await ask(name, { tools: [WEATHER] });
    same([called(reply), reply.stop_reason], [[WEATHER_CALL], "tool_use"]);
    const call = reply.content.find((block) => block.type === "tool_use");
    const after = await ask(name, {
        tools: [WEATHER],
        messages: [
            ...HELLO.messages,
            { role: "assistant", content: reply.content },
            { role: "user", content: [{ type: "tool_result", tool_use_id: call.id, content: "rain" }] },
        ],
    });
    same([text(after), after.stop_reason], [ANSWER, "end_turn"]);
});

checkEach("parallel tools, whole and streamed", ROUTES, async (route) => {
    const more = { tools: [WEATHER, CLOCK] };
    same(called(await ask(model(route, "+parallel-tools"), more)), [WEATHER_CALL, CLOCK_CALL]);
    const message = await client.messages
        .stream({ model: model(route, "+parallel-tools"), ...HELLO, ...more })
        .finalMessage();
    same([called(message), message.stop_reason], [[WEATHER_CALL, CLOCK_CALL], "tool_use"]);
});

checkEach("structured output, whole and streamed", ROUTES, async (route) => {
    const more = { output_config: { format: { type: "json_schema", schema: SCHEMA } } };
    same(JSON.parse(text(await ask(model(route), more))), { city: "mock", days: 2 });
    const message = await client.messages.stream({ model: model(route), ...HELLO, ...more }).finalMessage();
    same(JSON.parse(text(message)), { city: "mock", days: 2 }, "streamed");
});

checkEach("count_tokens", SAME, async (route) => {
    const { max_tokens: _, ...rest } = HELLO;
    same((await client.messages.countTokens({ model: model(route), ...rest })).input_tokens, HELLO_TOKENS);
});

check(
    "models: list and retrieve",
    async () => {
        const listed = [];
        for await (const one of client.models.list()) listed.push(one);
        claim(
            ["gpt-4o-mini", "claude-haiku"].every((id) => listed.some((one) => one.id === id)),
            `listed: ${listed.map((one) => one.id)}`,
        );
        claim(
            listed.every((one) => one.type === "model" && one.display_name && one.lifecycle === "active"),
            JSON.stringify(listed),
        );
        same((await client.models.retrieve("claude-haiku")).id, "claude-haiku");
    },
    GATEWAY,
);

/** Expects a refusal of this class, and that the provider was asked so many times. */
async function refused(kind, name, more, wanted = 1) {
    const error = await raises(kind, () => ask(name, more));
    same(await arrivals(name), wanted, "requests that reached the provider");
    claim(error.apiMessage && error.type, "the error has no body the SDK can read");
    if (!DIRECT) claim(error.requestID, "the error has no request id");
    return error;
}

checkEach("upstream 500, 503 and 429 in their classes", ROUTES, async (route) => {
    await refused(Anthropic.InternalServerError, model(route, "+status=500"));
    await refused(Anthropic.InternalServerError, model(route, "+status=503"), { stream: true });
    const limited = await refused(Anthropic.RateLimitError, model(route, "+status=429+retry-after=7"));
    same([limited.type, limited.headers.get("retry-after")], ["rate_limit_error", "7"]);
});

checkEach(
    "upstream 401 is not the client's",
    ROUTES,
    async (route) => {
        const error = await refused(Anthropic.InternalServerError, model(`${route}401`, "+status=401"));
        same([error.status, error.type], [502, "api_error"]);
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
            same((await refused(Anthropic.InternalServerError, model(route, knobs))).status, status, knobs);
        }
    },
    GATEWAY,
);

checkEach(
    "client errors: wrong key, unknown model",
    SAME,
    async (route) => {
        const stranger = new Anthropic({ baseURL: BASE, apiKey: "sk-wrong", maxRetries: 0 });
        await raises(Anthropic.AuthenticationError, () => stranger.messages.create({ model: model(route), ...HELLO }));
        const missing = await raises(Anthropic.NotFoundError, () => ask("claude-heiku"));
        claim(missing.apiMessage.includes("claude-haiku"), missing.message);
    },
    GATEWAY,
);

/** Reads a stream that must bring so many pieces and then raise. */
async function broken(name, wanted) {
    const pieces = [];
    const error = await raises(Anthropic.APIError, async () => {
        for await (const event of await ask(name, { stream: true })) {
            if (event.type === "content_block_delta") pieces.push(event.delta.text);
            claim(
                event.type !== "message_delta" && event.type !== "message_stop",
                "a broken stream claims to be finished",
            );
        }
    });
    same([pieces, await arrivals(name)], [words(wanted), 1], "pieces before the break, and arrivals");
    claim(!(error instanceof Anthropic.APIConnectionError), `the stream just broke off: ${error}`);
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
    "count_tokens where the provider has none",
    OTHER,
    async (route) => {
        const name = model(route);
        await raises(Anthropic.BadRequestError, () =>
            client.messages.countTokens({ model: name, messages: HELLO.messages }),
        );
        same(await arrivals(name), 0);
    },
    GATEWAY,
);

checkEach(
    "a client that leaves a stream ends it upstream",
    ROUTES,
    async (route) => {
        await upstreamGoneSoon(async () => {
            const name = model(route, "+words=3000+drip=10ms");
            const stream = await ask(name, { stream: true });
            let seen = 0;
            for await (const _ of stream) if ((seen += 1) === 8) break;
            stream.controller.abort();
            return [name, performance.now()];
        });
        await upstreamGoneSoon(async () => {
            const name = model(route, "+hang");
            const leaving = new AbortController();
            const call = raises(Anthropic.APIUserAbortError, () => ask(name, {}, { signal: leaving.signal }));
            await new Promise((done) => setTimeout(done, 200));
            leaving.abort();
            await call;
            return [name, performance.now()];
        });
    },
    GATEWAY,
);

await main("node anthropic");
