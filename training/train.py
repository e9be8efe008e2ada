"""Trains the network on token files. Start it once per worker (`make_model.py` does), two on two cores.

The learning rate depends on the share of the tokens, or of the minutes, that is over: whichever is larger.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from training.data import TOKENIZER
from training.network import Muon, Network, Shape
from training.tokenizer import PAD, Tokenizer

#: The share of the tokens that the model only reads whose prediction counts; fewer save work.
READ_SHARE = 0.4
#: Processors that multiply in bfloat16: there it takes two thirds of the time, elsewhere it takes longer.
FAST_BFLOAT16 = ("avx512_bf16", "amx_bf16", " bf16 ")
CHUNK = 2048


class Corpus:
    """All demonstrations of some token files."""

    def __init__(self, files: list[Path], read_weight: float, decisive_weight: float) -> None:
        self.weights = np.array([read_weight / READ_SHARE, 1.0, decisive_weight], np.float32)
        loaded = [np.load(file) for file in files]
        self.ids = np.concatenate([z["ids"] for z in loaded])
        self.levels = np.concatenate([z["levels"] for z in loaded])
        self.lengths = np.concatenate([np.diff(z["ends"]) for z in loaded])
        self.starts = np.cumsum(self.lengths) - self.lengths

    def batch(self, rows: list[int]) -> tuple[Tensor, Tensor]:
        """Token numbers, padded, and the weight of predicting each token after the first."""
        length = int(self.lengths[rows].max())
        ids = np.full((len(rows), length), PAD, np.int64)
        weights = np.zeros((len(rows), length), np.float32)
        for n, row in enumerate(rows):
            start, size = self.starts[row], self.lengths[row]
            ids[n, :size] = self.ids[start : start + size]
            weights[n, :size] = self.weights[self.levels[start : start + size]]
        return torch.from_numpy(ids), torch.from_numpy(weights)[:, 1:].reshape(-1)

    def batches(self, most: int, rng: np.random.Generator) -> Iterator[list[int]]:
        """Row numbers of endless batches of at most `most` tokens, rows of similar length together."""
        while True:
            order = rng.permutation(len(self.lengths))
            for start in range(0, len(order), CHUNK):
                chunk = order[start : start + CHUNK]
                chunk = chunk[np.argsort(self.lengths[chunk], kind="stable")]
                groups: list[list[int]] = [[]]
                for row in chunk:
                    if (len(groups[-1]) + 1) * self.lengths[row] > most:
                        groups.append([])
                    groups[-1].append(int(row))
                for index in rng.permutation(len(groups)):
                    if groups[index]:
                        yield groups[index]


def schedule(progress: float, step: int, warm_up: int, hold: float) -> float:
    """The learning rate's share: a short rise, flat for the share `hold` of the training, then down to 2 %."""
    fall = 1.0 if progress < hold or hold >= 1 else max(0.0, (1 - progress) / (1 - hold)) * 0.98 + 0.02
    return min(1.0, (step + 1) / warm_up) * fall


def half_precision() -> bool:
    """Whether this processor gains by computing in bfloat16 (weights stay in 32 bits)."""
    information = Path("/proc/cpuinfo")
    text = information.read_text() if information.exists() else ""
    return any(flag in text for flag in FAST_BFLOAT16)


def train(options: argparse.Namespace) -> None:
    """Train until the tokens or the minutes are used up; the first worker logs and saves."""
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    half = half_precision()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    if world > 1:
        dist.init_process_group("gloo")
    files = sorted(options.folder.glob(options.files))
    corpus = Corpus(files, options.read_weight, options.decisive_weight)
    vocabulary = len(Tokenizer.load(options.folder / TOKENIZER).pieces)
    network = Network(Shape(vocabulary))
    if options.start:
        saved = torch.load(options.start, map_location="cpu")
        network = Network(Shape(**saved["shape"]))
        network.load_state_dict(saved["weights"])
    parameters = list(network.parameters())
    muon = Muon(network.matrices(), options.rate)
    adam = torch.optim.AdamW(network.others(), options.rate / 5, betas=(0.9, 0.95), weight_decay=0.0)
    if rank == 0:
        size = sum(p.numel() for p in parameters)
        print(
            f"{size} parameters, {len(corpus.lengths)} demonstrations, {len(corpus.ids)} tokens"
            f"{', computing in bfloat16' if half else ''}",
            flush=True,
        )

    def save(path: Path) -> None:
        if rank == 0:
            torch.save({"shape": asdict(network.shape), "weights": network.state_dict()}, path)

    partial = options.out.with_suffix(".partial.pt")
    batches = corpus.batches(options.tokens, np.random.default_rng(options.seed * 97 + rank))
    begin = saved_at = time.monotonic()
    seen, step, progress = 0, 0, 0.0
    recent: list[tuple[float, float]] = []
    while progress < 1:
        ids, weights = corpus.batch(next(batches))
        minutes = (time.monotonic() - begin) / 60
        progress = max(seen / 1e6 / options.millions, minutes / options.minutes)
        if world > 1:  # both must agree on the rate and on when to stop
            shared = torch.tensor([progress])
            dist.broadcast(shared, 0)
            progress = float(shared)
        share = schedule(progress, step, options.warm_up, options.hold)
        muon.rate = options.rate * share
        for group in adam.param_groups:
            group["lr"] = options.rate / 5 * share
        seen += int((ids != PAD).sum()) * world
        looked_at = (weights >= 1) | ((weights > 0) & (torch.rand_like(weights) < READ_SHARE))
        weights = weights[looked_at]
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = network.logits(network(ids[:, :-1]).flatten(0, 1)[looked_at])
        target = ids[:, 1:].reshape(-1)[looked_at]
        errors = F.cross_entropy(logits.float(), target, reduction="none")
        (errors * weights).sum().div(weights.sum()).backward()
        if world > 1:
            flat = torch.cat([p.grad.reshape(-1) for p in parameters])
            dist.all_reduce(flat)
            for p, part in zip(
                parameters, flat.div_(world).split([p.numel() for p in parameters]), strict=True
            ):
                p.grad.copy_(part.view_as(p))
        torch.nn.utils.clip_grad_norm_(network.others(), 1.0)
        muon.step()
        adam.step()
        network.zero_grad(set_to_none=True)
        written = weights >= 1
        right = logits.detach()[written].argmax(-1) == target[written]
        recent.append((float(errors.detach()[written].mean()), float(right.float().mean())))
        step += 1
        if rank == 0 and (step <= 3 or step % 20 == 0):
            loss, accuracy = np.array(recent[-20:]).mean(0)
            print(
                f"step {step}: loss {loss:.4f}, right {accuracy:.4f}, {seen / 1e6:.2f}M tokens, "
                f"{seen / minutes / 60:.0f}/s, {minutes:.1f} min, rate {share:.2f}",
                flush=True,
            )
        if time.monotonic() - saved_at > 180:
            save(partial)
            saved_at = time.monotonic()
    save(partial)
    if rank == 0:
        partial.replace(options.out)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the tokenizer and the token files are")
    parser.add_argument("out", type=Path, help="the checkpoint to write")
    parser.add_argument("--files", default="episodes-*.npz")
    parser.add_argument("--start", type=Path, help="a checkpoint to go on from")
    parser.add_argument("--millions", type=float, default=8, help="of tokens, all workers together")
    parser.add_argument("--minutes", type=float, default=60, help="at most")
    parser.add_argument("--tokens", type=int, default=8192, help="per worker and step")
    parser.add_argument("--rate", type=float, default=0.02, help="Muon's; AdamW takes a fifth")
    parser.add_argument("--hold", type=float, default=0.4, help="share of the training before the rate falls")
    parser.add_argument("--warm-up", type=int, default=30)
    parser.add_argument(
        "--read-weight", type=float, default=0.12, help="of a token only read; 1 is a written one"
    )
    parser.add_argument("--decisive-weight", type=float, default=1.0, help="of a token that makes a choice")
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
