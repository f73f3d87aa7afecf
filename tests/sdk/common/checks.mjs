// What every Node suite needs: checks with deadlines, names for the mock, and what the mock counted.

import { isDeepStrictEqual, inspect } from "node:util";

export const BASE = process.env.TEST_BASE;
export const MOCK = process.env.TEST_MOCK;
export const KEY = process.env.TEST_KEY;
export const DIRECT = Boolean(process.env.TEST_DIRECT);

const CHECK_MS = 20_000;
// What the gateway promises; our own way out and the mock's way of noticing share it.
const GONE_MS = 100;

const checks = [];
let serial = 0;

/** Registers one check. */
export function check(title, run, { needsGateway = false } = {}) {
    checks.push({ title, run, needsGateway });
}

/** Registers one check a route; `routes` maps the first letter of a model name to what is behind it. */
export function checkEach(title, routes, run, options) {
    for (const [letter, behind] of Object.entries(routes)) check(`${title} (${behind})`, () => run(letter), options);
}

/** Makes a model name no other check has, so that what arrived for it can be counted. */
export const model = (route, knobs = "") => `${route}-n${process.pid}n${++serial}${knobs}`;

/** The mock's answer in pieces, one a content event. */
export const words = (count = 10) => Array.from({ length: count }, (_, index) => `w${index} `);

/** What the mock tells of itself. */
const told = async (what) => (await fetch(`${MOCK}/mock/${what}`)).json();

/** How many requests for a model name reached the mock. */
export const arrivals = async (name) => (await told("counts")).by_model[name] ?? 0;

export function same(got, wanted, what = "value") {
    if (!isDeepStrictEqual(got, wanted))
        throw new Error(`${what}: got ${inspect(got, { depth: 6 })}, wanted ${inspect(wanted, { depth: 6 })}`);
}

export function claim(holds, message) {
    if (!holds) throw new Error(message);
}

/** Runs `call` and gives its error, which must be of the class named. */
export async function raises(kind, call) {
    let result;
    try {
        result = await call();
    } catch (error) {
        if (error instanceof kind) return error;
        throw new Error(`expected ${kind.name}, got ${error?.constructor?.name}: ${error?.message}`, { cause: error });
    }
    throw new Error(`expected ${kind.name}, got a result: ${inspect(result)}`);
}

/**
 * Checks that the mock sees its client go soon after `leave()` made ours go; `leave` gives its model's name and the
 * moment it did, the mock says how long ago it noticed. The best of a few tries counts: a machine that sleeps in
 * between may stretch one, a gateway that does not pass the news on stretches all.
 */
export async function upstreamGoneSoon(leave, tries = 3) {
    const waits = [];
    for (let turn = 0; turn < tries; turn += 1) {
        const [name, left] = await leave();
        let departed;
        while (!(departed = (await told("closed-early")).find((one) => one.model === name))) {
            claim(performance.now() - left < 3000, "the upstream call was still open 3 s after its client had left");
            await new Promise((done) => setTimeout(done, 5));
        }
        waits.push(performance.now() - left - departed.ms_ago);
        if (waits.at(-1) <= GONE_MS) return;
    }
    throw new Error(`upstream closed only after ${Math.min(...waits).toFixed(0)} ms, ${GONE_MS} promised`);
}

function late() {
    let timer;
    const promise = new Promise((_, fail) => {
        timer = setTimeout(() => fail(new Error(`not over within ${CHECK_MS} ms`)), CHECK_MS);
    });
    return { promise, clear: () => clearTimeout(timer) };
}

/** Runs every check that was registered, prints a line each, and leaves with 1 if one failed. */
export async function main(suite) {
    await fetch(`${MOCK}/mock/reset`, { method: "POST" });
    let [passed, failed, leftOut] = [0, 0, 0];
    for (const { title, run, needsGateway } of checks) {
        if (needsGateway && DIRECT) {
            leftOut += 1;
            continue;
        }
        const deadline = late();
        try {
            await Promise.race([run(), deadline.promise]);
            passed += 1;
            console.log(`ok   ${suite} · ${title}`);
        } catch (error) {
            failed += 1;
            const place = /\/([^/]+\.mjs:\d+)/.exec(
                error?.stack?.split("\n").find((line) => line.includes(".mjs") && !line.includes("checks.mjs")) ?? "",
            );
            console.log(
                `FAIL ${suite} · ${title}${place ? ` [${place[1]}]` : ""}: ${error?.constructor?.name}: ${String(error?.message).slice(0, 600)}`,
            );
        } finally {
            deadline.clear();
        }
    }
    console.log(`     ${suite}: ${passed} passed, ${failed} failed${leftOut ? `, ${leftOut} need the gateway` : ""}`);
    // Not process.exitCode: a call that a failed check left hanging must not keep the suite open.
    process.exit(failed || !passed ? 1 : 0);
}
