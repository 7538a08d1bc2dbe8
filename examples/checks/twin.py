"""The engine's model in transformers: the same weights, unpacked to 32 bits."""

from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

_MATRICES = {  # names of a block's tensors: GGUF's and transformers'
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def _split_halves(matrix: np.ndarray, heads: int) -> np.ndarray:
    """Rows of W_q or W_k in transformers' order.

    RoPE turns pairs of channels: GGUF's Llama files have them side by side (0 1, 2 3, ...),
    transformers half a head apart (0 32, 1 33, ...).
    """
    rows, columns = matrix.shape
    pairs = matrix.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def load(path: Path) -> LlamaForCausalLM:
    """A GGUF file of a Llama-architecture model as a LlamaForCausalLM of 32-bit weights.

    Attention is transformers' "eager" one, which hands out its weights. Raises ValueError if the
    file is of another architecture or lacks a tensor.
    """
    reader = gguf.GGUFReader(path)

    def field(name: str, default=None):
        found = reader.get_field(name)
        if found is None and default is None:
            raise ValueError(f"{path}: no field {name}")
        return default if found is None else found.contents()

    architecture = field("general.architecture")
    if architecture != "llama":
        raise ValueError(f"{path}: architecture is {architecture}, not llama")
    heads = field("llama.attention.head_count")
    kv_heads = field("llama.attention.head_count_kv", heads)
    tensors = {
        t.name: gguf.dequantize(t.data, t.tensor_type).astype(np.float32) for t in reader.tensors
    }
    embedding = tensors["token_embd.weight"]
    state = {
        "model.embed_tokens.weight": embedding,
        "model.norm.weight": tensors["output_norm.weight"],
        "lm_head.weight": tensors.get("output.weight", embedding),
    }
    layers = field("llama.block_count")
    for layer in range(layers):
        for theirs, ours in _MATRICES.items():
            matrix = tensors[f"blk.{layer}.{theirs}.weight"]
            if theirs in ("attn_q", "attn_k"):
                matrix = _split_halves(matrix, heads if theirs == "attn_q" else kv_heads)
            state[f"model.layers.{layer}.{ours}.weight"] = matrix
    config = LlamaConfig(
        vocab_size=embedding.shape[0],
        hidden_size=embedding.shape[1],
        intermediate_size=field("llama.feed_forward_length"),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=field("llama.context_length"),
        rms_norm_eps=field("llama.attention.layer_norm_rms_epsilon"),
        rope_theta=field("llama.rope.freq_base", 10000.0),
        tie_word_embeddings=False,
        attn_implementation="eager",
    )
    model = LlamaForCausalLM(config)
    model.load_state_dict({name: torch.from_numpy(x.copy()) for name, x in state.items()})
    return model.eval()
