"""Writes a llama-architecture GGUF small enough to make on the spot, whose reply is known beforehand.

No package ships a chat model, so this one is made here, weight by weight. It is a real transformer that
llama.cpp loads, tokenizes for and samples from like any other; only its weights are chosen and not learned:
- every token's embedding is a unit vector of its own, and attention and feed-forward add nothing to it, so
  the last layer still sees which token came last;
- the output matrix gives the token that follows it by far the highest logit.
After the assistant marker of its chat template it therefore says SENTENCE and ends its turn, at any
temperature near zero, on any machine. That is what lets the test compare text, and not only shapes.
"""

import sys

import gguf
import numpy as np

SENTENCE = (
    "Once there was a small gateway that carried every token from its model "
    "to the person who asked and never lost one on their way home ."
)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
ROLES = ["<|system|>", "<|user|>", "<|assistant|>"]
CONTEXT = 4096
LAYERS = 2
HEADS = 8


def vocabulary():
    """The tokens in order, each with its llama.cpp type; byte tokens make any prompt tokenizable."""
    kind = gguf.TokenType
    tokens = [("<unk>", kind.UNKNOWN), ("<s>", kind.CONTROL), ("</s>", kind.CONTROL)]
    tokens += [(role, kind.CONTROL) for role in ROLES]
    tokens += [(f"<0x{byte:02X}>", kind.BYTE) for byte in range(256)]
    tokens += [("\u2581" + word, kind.NORMAL) for word in SENTENCE.split()]
    return tokens


def weights(tokens):
    """The tensors by name: embeddings are unit vectors, the output matrix is the table of what follows what."""
    ids = {text: index for index, (text, _) in enumerate(tokens)}
    size = 64 * -(-len(tokens) // 64)
    embedding = np.zeros((len(tokens), size), dtype=np.float32)
    embedding[np.arange(len(tokens)), np.arange(len(tokens))] = 1.0

    words = [ids["\u2581" + word] for word in SENTENCE.split()]
    assert len(set(words)) == len(words), "each word may stand only once: a token has one follower"
    follows = list(zip([ids["<|assistant|>"], *words], [*words, ids["</s>"]]))
    output = np.zeros((len(tokens), size), dtype=np.float32)
    output[ids["</s>"], :] = 1.0
    for before, after in follows:
        output[:, before] = 0.0
        output[after, before] = 4.0

    nothing = np.zeros((size, size), dtype=np.float32)
    ones = np.ones(size, dtype=np.float32)
    tensors = {"token_embd.weight": embedding, "output_norm.weight": ones, "output.weight": output}
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        for name in ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]:
            tensors[f"{block}{name}.weight"] = nothing
        for name in ["attn_norm", "ffn_norm"]:
            tensors[f"{block}{name}.weight"] = ones
    return tensors, size


def write(path):
    """Writes the model to `path`."""
    tokens = vocabulary()
    tensors, size = weights(tokens)
    ids = {text: index for index, (text, _) in enumerate(tokens)}
    file = gguf.GGUFWriter(path, "llama")
    file.add_name("troupe-tiny")
    file.add_context_length(CONTEXT)
    file.add_embedding_length(size)
    file.add_block_count(LAYERS)
    file.add_feed_forward_length(size)
    file.add_head_count(HEADS)
    file.add_head_count_kv(HEADS)
    file.add_layer_norm_rms_eps(1e-6)
    file.add_rope_dimension_count(size // HEADS)
    file.add_vocab_size(len(tokens))
    file.add_tokenizer_model("llama")
    file.add_token_list([text for text, _ in tokens])
    file.add_token_scores([0.0] * len(tokens))
    file.add_token_types([kind for _, kind in tokens])
    file.add_unk_token_id(ids["<unk>"])
    file.add_bos_token_id(ids["<s>"])
    file.add_eos_token_id(ids["</s>"])
    file.add_add_bos_token(True)
    file.add_chat_template(CHAT_TEMPLATE)
    for name, tensor in tensors.items():
        file.add_tensor(name, tensor)
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


if __name__ == "__main__":
    write(sys.argv[1])
