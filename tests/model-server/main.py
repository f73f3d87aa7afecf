"""Asks a real model server through the gateway, in both wires, whole and streamed, and compares every word.

llama.cpp serves OpenAI's wire and Anthropic's, so one server gives all four pairings of client and provider.
"""

import argparse
import http.client
import json
import os
import sys
import urllib.parse

import tiny_model
from world import World, WorldError, free_ports, start_gateway

HERE = os.path.dirname(os.path.abspath(__file__))
KEY = "sk-troupe-model-server-0123456789abcdef"
REPLY_SECS = 20
WORDS = [f" {word}" for word in tiny_model.SENTENCE.split()]
TEXT = "".join(WORDS)
QUESTION = [{"role": "user", "content": "Tell me a story."}]

SPEC = """
[providers.llama-chat]
wire = "openai"
base_url = "{url}/v1"

[providers.llama-messages]
wire = "anthropic"
base_url = "{url}"

[models.tiny-chat]
targets = [{{ provider = "llama-chat", model = "tiny" }}]

[models.tiny-messages]
targets = [{{ provider = "llama-messages", model = "tiny" }}]

[keys.tests]
secret = "env:TROUPE_TEST_KEY"
"""


def same(got, wanted, what):
    assert got == wanted, f"{what}: got {got!r}, wanted {wanted!r}"


class Client:
    """Sends to one address with the key, without any SDK: the bytes themselves are checked."""

    def __init__(self, url):
        self.address = urllib.parse.urlsplit(url).netloc

    def post(self, path, body):
        """Gives the content type and the body of a 200, as text; anything else fails the check."""
        connection = http.client.HTTPConnection(self.address, timeout=REPLY_SECS)
        try:
            headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}",
                       "anthropic-version": "2023-06-01"}
            connection.request("POST", path, json.dumps(body), headers)
            reply = connection.getresponse()
            text = reply.read().decode("utf-8")
            assert reply.status == 200, f"status {reply.status}: {text[:500]}"
            return reply.headers["content-type"], text
        finally:
            connection.close()

    def json(self, path, body):
        kind, text = self.post(path, body)
        assert kind.startswith("application/json"), kind
        return json.loads(text)

    def events(self, path, body):
        """Gives the events of a stream in order, each as (name or None, data as text)."""
        kind, text = self.post(path, {**body, "stream": True})
        assert kind.startswith("text/event-stream"), kind
        assert text.endswith("\n\n"), f"the stream ends inside an event: {text[-80:]!r}"
        events = []
        for block in text.split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
            if fields:
                events.append((fields.get("event"), fields["data"]))
        return events


def chat(client, model, **more):
    body = {"model": model, "messages": QUESTION, "temperature": 0, "max_tokens": 100, **more}
    return client.json("/v1/chat/completions", body)


def chat_whole(client, model):
    reply = chat(client, model)
    [choice] = reply["choices"]
    same(choice["message"]["content"], TEXT, "text")
    same((reply["object"], choice["message"]["role"], choice["finish_reason"]),
         ("chat.completion", "assistant", "stop"), "shape")
    usage = reply["usage"]
    # One token a word and one that ends the turn.
    same(usage["completion_tokens"], len(WORDS) + 1, "completion tokens")
    assert usage["prompt_tokens"] > 0, usage
    same(usage["total_tokens"], usage["prompt_tokens"] + usage["completion_tokens"], "total tokens")


def chat_limit(client, model):
    reply = chat(client, model, max_tokens=5)
    same((reply["choices"][0]["message"]["content"], reply["choices"][0]["finish_reason"]),
         ("".join(WORDS[:5]), "length"), "cut reply")


def chat_stream(client, model):
    body = {"model": model, "messages": QUESTION, "temperature": 0, "max_tokens": 100,
            "stream_options": {"include_usage": True}}
    events = client.events("/v1/chat/completions", body)
    same(events[-1], (None, "[DONE]"), "last event")
    chunks = [json.loads(data) for _, data in events[:-1]]
    assert all(chunk["object"] == "chat.completion.chunk" for chunk in chunks), chunks
    deltas = [choice for chunk in chunks for choice in chunk["choices"]]
    pieces = [choice["delta"]["content"] for choice in deltas if choice["delta"].get("content")]
    same(pieces, WORDS, "pieces")
    same([choice["finish_reason"] for choice in deltas if choice.get("finish_reason")], ["stop"], "finish reasons")
    usages = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    same([usage["completion_tokens"] for usage in usages], [len(WORDS) + 1], "usages")


def messages(client, model, **more):
    return {"model": model, "messages": QUESTION, "max_tokens": 100, **more}


def messages_whole(client, model):
    reply = client.json("/v1/messages", messages(client, model))
    same([(block["type"], block["text"]) for block in reply["content"]], [("text", TEXT)], "content")
    same((reply["type"], reply["role"], reply["stop_reason"]), ("message", "assistant", "end_turn"), "shape")
    usage = reply["usage"]
    same(usage["output_tokens"], len(WORDS) + 1, "output tokens")
    assert usage["input_tokens"] + (usage.get("cache_read_input_tokens") or 0) > 0, usage


def messages_stream(client, model):
    events = client.events("/v1/messages", messages(client, model))
    parsed = [(name, json.loads(data)) for name, data in events]
    assert all(name == data["type"] for name, data in parsed), "an event's name differs from its type"
    pieces = [data["delta"]["text"] for name, data in parsed if name == "content_block_delta"]
    same([piece for piece in pieces if piece], WORDS, "pieces")
    kinds = [name for name, _ in parsed if name not in ("content_block_delta", "ping")]
    wanted = ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"]
    same(kinds, wanted, "events")
    [delta] = [data for name, data in parsed if name == "message_delta"]
    same((delta["delta"]["stop_reason"], delta["usage"]["output_tokens"]), ("end_turn", len(WORDS) + 1), "end")


CHECKS = [
    ("chat whole", chat_whole),
    ("chat cut at its token limit", chat_limit),
    ("chat streamed", chat_stream),
    ("messages whole", messages_whole),
    ("messages streamed", messages_stream),
]


def run(client, models):
    """Runs every check for every model and counts what failed."""
    failed = 0
    for model in models:
        for title, one in CHECKS:
            try:
                one(client, model)
            except Exception as error:
                failed += 1
                print(f"FAIL model server · {title} ({model}): {type(error).__name__}: {error}", flush=True)
            else:
                print(f"ok   model server · {title} ({model})", flush=True)
    total = len(CHECKS) * len(models)
    print(f"model server: {total - failed} of {total} checks passed", flush=True)
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", required=True, help="folder of troupe")
    parser.add_argument("--direct", action="store_true", help="ask the model server itself")
    args = parser.parse_args()
    with World() as world:
        tiny_model.write(world.path("tiny.gguf"))
        [port] = free_ports(1)
        url = f"http://127.0.0.1:{port}"
        command = [sys.executable, os.path.join(HERE, "serve.py"), world.path("tiny.gguf"), str(port)]
        world.start("llama", command, f"{url}/health")
        if args.direct:
            return run(Client(url), ["tiny"])
        gateway = start_gateway(world, os.path.join(args.bin, "troupe"), SPEC.format(url=url), {"TROUPE_TEST_KEY": KEY})
        failed = run(Client(gateway), ["tiny-chat", "tiny-messages"])
        failed += len(world.died())
        if failed:
            print("\n".join([*world.died(), world.tail("gateway", 15), world.tail("llama", 5)]), flush=True)
        return failed


if __name__ == "__main__":
    try:
        sys.exit(1 if main() else 0)
    except WorldError as error:
        print(f"FAIL model server: {error}", file=sys.stderr)
        sys.exit(1)
