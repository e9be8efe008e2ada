"""Writes a checkpoint as a GGUF file of architecture `llama`, tokenizer and chat template inside."""

from __future__ import annotations

import argparse
from pathlib import Path

import gguf
import numpy as np
import torch
from torch import Tensor

from training.data import TOKENIZER
from training.episodes import TEMPLATE
from training.network import Network, Shape
from training.tokenizer import END, PAD, SPECIAL, Tokenizer

NAME = "pool-demo"
DESCRIPTION = (
    "Demonstration model of pool: fixes one-line bugs of one family of small Python modules. Nothing else."
)
CONTROL, NORMAL = 3, 1


def paired(weight: Tensor, heads: int) -> Tensor:
    """Rows of a query or key matrix reordered from rotary halves to llama's interleaved pairs."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def export(network: Network, tokenizer: Tokenizer, path: Path) -> None:
    """Write the network with half-precision matrices."""
    shape = network.shape
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(NAME)
    writer.add_description(DESCRIPTION)
    writer.add_license("Apache-2.0")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    pieces = tokenizer.for_gguf()
    writer.add_tokenizer_model("rwkv")
    writer.add_token_list(pieces)
    writer.add_token_types([CONTROL] * len(SPECIAL) + [NORMAL] * (len(pieces) - len(SPECIAL)))
    writer.add_eos_token_id(END)
    writer.add_eot_token_id(END)
    writer.add_pad_token_id(PAD)
    writer.add_add_bos_token(False)
    writer.add_sampling_temp(0.0)
    writer.add_chat_template(TEMPLATE)
    weights = network.state_dict()

    def add(name: str, weight: Tensor) -> None:
        kind = np.float16 if weight.dim() == 2 else np.float32
        writer.add_tensor(name, weight.float().numpy().astype(kind))

    add("token_embd.weight", weights["embedding.weight"])
    add("output_norm.weight", weights["norm.weight"])
    names = {
        "attn_norm": "attention_norm", "ffn_norm": "feed_norm", "attn_v": "value", "attn_output": "output",
        "ffn_gate": "gate", "ffn_up": "up", "ffn_down": "down",
    }  # fmt: skip
    for layer in range(shape.layers):
        source, target = f"blocks.{layer}", f"blk.{layer}"
        for theirs, ours in names.items():
            add(f"{target}.{theirs}.weight", weights[f"{source}.{ours}.weight"])
        for theirs, ours in (("attn_q", "query"), ("attn_k", "key")):
            add(f"{target}.{theirs}.weight", paired(weights[f"{source}.{ours}.weight"], shape.heads))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--folder", type=Path, help="where the tokenizer is; the checkpoint's folder by default"
    )
    options = parser.parse_args()
    saved = torch.load(options.checkpoint, map_location="cpu")
    network = Network(Shape(**saved["shape"]))
    network.load_state_dict(saved["weights"])
    tokenizer = Tokenizer.load((options.folder or options.checkpoint.parent) / TOKENIZER)
    export(network, tokenizer, options.out)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
