"""Whether a model fits into this machine and with what: said before gigabytes are loaded. Pure.

Estimates, a little on the large side: weights are exact, the cache of a conversation nearly so, working buffers
are a rule of thumb. What does not fit as wished is conceded in an order that hurts least: conversations at once,
precision of the cache, context, and last layers on the GPU. What a person set is never changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from poolcli.errors import ModelError
from poolcli.models.gguf import Gguf
from poolcli.models.hardware import Hardware

KvType = Literal["f16", "q8_0"]

#: Bytes of an element of the cache; q8_0 stores 32 in 34.
KV_BYTES: dict[KvType, float] = {"f16": 2.0, "q8_0": 34 / 32}
#: Context that an agent needs at the least: below it the first file read fills the window.
SMALLEST_CONTEXT = 8192
#: Tokens that llama.cpp computes at once (n_ubatch): its buffers grow with it.
BATCH = 512
#: Cells of a cache are a multiple of this.
PADDING = 256
#: Memory left alone: on a GPU for its own context and fragmentation, beside it for other programs.
GPU_RESERVE = 600_000_000
RAM_RESERVE = 800_000_000
#: All layers of any model, in llama.cpp's way of counting.
ALL_LAYERS = 999


class Wishes(Struct, frozen=True):
    """What is wanted. `fixed` names the fields that a person set and that must stay."""

    #: Tokens of one conversation.
    context: int
    #: Conversations that the server works on at once.
    slots: int = 1
    kv_type: KvType = "f16"
    #: Layers on the GPU; -1 for as many as go.
    gpu_layers: int = -1
    fixed: frozenset[str] = frozenset()


class Plan(Struct, frozen=True):
    """How a model will be loaded, and what that takes in bytes."""

    context: int
    slots: int
    kv_type: KvType
    #: As given to llama.cpp: 0 for none, ALL_LAYERS for all with the output.
    gpu_layers: int
    weights: int
    cache: int
    buffers: int
    fits: bool
    #: One sentence for people.
    says: str


def cache_bytes(model: Gguf, context: int, slots: int, kv_type: KvType = "f16") -> list[int]:
    """Bytes of keys and values for each layer, all slots together."""
    whole = -(-context // PADDING) * PADDING
    # A layer with a sliding window keeps the window and the batch being computed.
    part = min(whole, -(-(model.window + BATCH) // PADDING) * PADDING)
    length = model.key_length + (0 if model.shared_values else model.value_length)
    element = KV_BYTES[kv_type]
    return [
        int((part if slides else whole) * slots * heads * length * element)
        for heads, slides in zip(model.kv_heads, model.sliding, strict=True)
    ]


def buffer_bytes(model: Gguf, context: int) -> int:
    """Bytes of working buffers: one batch's logits, activations and mask of the attention."""
    logits = model.vocabulary * BATCH * 4
    activations = 12 * model.embedding * BATCH * 4
    mask = context * BATCH * 4
    return logits + activations + mask


def plan(model: Gguf, hardware: Hardware, wishes: Wishes) -> Plan:
    """The first of the plans, best first, that fits; else the smallest of them, with `fits` False."""
    wishes = _capped(model, wishes)
    steps = list(_concessions(wishes))
    if wishes.gpu_layers == 0:
        hardware = replace(hardware, gpus=(), idle=())
    if hardware.gpus:
        for step in steps:
            if wishes.gpu_layers in (-1, ALL_LAYERS) and (found := _all_on_gpu(model, hardware, step)).fits:
                return _said(model, hardware, wishes, found)
    for step in steps:
        found = _spread(model, hardware, step)
        if found.fits:
            break
    return _said(model, hardware, wishes, found)


def check(model: Gguf, hardware: Hardware, wishes: Wishes) -> Plan:
    """The plan, or a ModelError with the numbers and with what would fit."""
    found = plan(model, hardware, wishes)
    if found.fits:
        return found
    room = hardware.ram + (0 if hardware.unified else hardware.gpu_memory)
    room -= RAM_RESERVE + GPU_RESERVE * len(hardware.gpus) + found.cache + found.buffers
    hint = "a smaller model or quantisation"
    if room > model.weights // 8:  # less is no other form of this model
        hint += f" of at most {size(room)} would fit"
    if wishes.fixed & {"context", "slots"}:
        hint += "; so may a smaller `context`"
    raise ModelError(found.says, hint + "; or run the server on a larger machine and give --base-url")


def _capped(model: Gguf, wishes: Wishes) -> Wishes:
    """llama.cpp gives no more context than the model was trained for."""
    most = model.trained_context or wishes.context
    return replace(wishes, context=min(wishes.context, most), slots=max(wishes.slots, 1))


def _concessions(wishes: Wishes) -> Iterator[Wishes]:
    """The wishes, then less and less of them: slots, precision of the cache, context."""
    yield wishes
    if "slots" not in wishes.fixed:
        while wishes.slots > 1:
            wishes = replace(wishes, slots=wishes.slots - 1)
            yield wishes
    if "kv_type" not in wishes.fixed and wishes.kv_type != "q8_0":
        wishes = replace(wishes, kv_type="q8_0")
        yield wishes
    if "context" not in wishes.fixed:
        while wishes.context > SMALLEST_CONTEXT:
            wishes = replace(wishes, context=max(wishes.context // 2, SMALLEST_CONTEXT))
            yield wishes


def _made(model: Gguf, step: Wishes, gpu_layers: int, fits: bool) -> Plan:
    return Plan(
        context=step.context,
        slots=step.slots,
        kv_type=step.kv_type,
        gpu_layers=gpu_layers,
        weights=model.weights,
        cache=sum(cache_bytes(model, step.context, step.slots, step.kv_type)) + model.state * step.slots,
        buffers=buffer_bytes(model, step.context),
        fits=fits,
        says="",
    )


def _all_on_gpu(model: Gguf, hardware: Hardware, step: Wishes) -> Plan:
    found = _made(model, step, ALL_LAYERS, True)
    # The input stays beside the GPU; a model without an output of its own has a copy of it there.
    weights = sum(model.layer_weights) + model.output_weights
    needed = weights + found.cache + found.buffers + GPU_RESERVE * len(hardware.gpus)
    # A machine whose memory is shared has no second place for the input: it is counted in the same.
    needed += model.input_weights if hardware.unified else 0
    return replace(found, fits=needed <= hardware.gpu_memory)


def _spread(model: Gguf, hardware: Hardware, step: Wishes) -> Plan:
    """As many layers on the GPU as go, the rest beside it."""
    by_layer = [
        weights + cache
        for weights, cache in zip(
            model.layer_weights, cache_bytes(model, step.context, step.slots, step.kv_type), strict=True
        )
    ]
    found = _made(model, step, 0, False)
    count = step.gpu_layers
    if count < 0:
        # llama.cpp puts the last layers there; each GPU needs buffers of its own.
        room = hardware.gpu_memory - (GPU_RESERVE + found.buffers) * len(hardware.gpus)
        count = 0
        for amount in reversed(by_layer):
            if amount > room:
                break
            room -= amount
            count += 1
    there = sum(by_layer[len(by_layer) - count :]) if 0 < count <= len(by_layer) else 0
    if count > len(by_layer):
        there = sum(by_layer) + model.output_weights
    beside = found.weights + found.cache + found.buffers - there
    fits = not hardware.ram or beside + RAM_RESERVE <= hardware.ram
    if hardware.gpus and there + GPU_RESERVE > hardware.gpu_memory:
        fits = False  # more layers were asked for than there is room
    if hardware.unified and hardware.gpus:
        fits = fits and there + beside + RAM_RESERVE <= max(hardware.ram, hardware.gpu_memory)
    return replace(found, gpu_layers=count, fits=fits)


# Words ----------------------------------------------------------------------------------------------------------


def size(count: int) -> str:
    """Bytes as people say them."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= scale:
            number = count / scale
            return f"{number:.1f} {unit}" if number < 10 else f"{number:.0f} {unit}"
    return f"{count} bytes"


def _said(model: Gguf, hardware: Hardware, wishes: Wishes, found: Plan) -> Plan:
    slots = f"{found.slots} slot{'s' if found.slots > 1 else ''}"
    q8 = ", q8_0" if found.kv_type == "q8_0" else ""
    needs = (
        f"{size(found.weights)} of weights + {size(found.cache)} of context "
        f"({found.context:,} tokens, {slots}{q8})"
    )
    memory = f"{size(hardware.ram)} of free memory" if hardware.ram else "memory of unknown size"
    gpu = f"{size(hardware.gpu_memory)} of GPU memory"
    if not found.fits:
        place = f"{memory} and {gpu}" if hardware.gpus else memory
        needs += f" + {size(found.buffers)} of buffers"
        return replace(found, says=f"{needs} do not fit into {place}")
    if found.gpu_layers > model.layers:
        says = f"{needs} fit into {gpu}: all {model.layers} layers there"
    elif found.gpu_layers:
        says = f"{needs} fit with {found.gpu_layers} of {model.layers} layers in {gpu}, the rest in {memory}"
    else:
        says = f"{needs} fit into {memory}"
        if hardware.gpus:
            says += ": no layer fits into the GPU"
        elif hardware.idle:
            says += f": this llama.cpp cannot use the {hardware.idle[0].name}, see docs/local-models.md"
    if less := _conceded(wishes, found):
        says += f"; less than wished to make it fit: {less}"
    return replace(found, says=says)


def _conceded(wishes: Wishes, found: Plan) -> str:
    less = []
    if found.slots < wishes.slots:
        less.append(f"{found.slots} slot{'s' if found.slots > 1 else ''} instead of {wishes.slots}")
    if found.kv_type != wishes.kv_type:
        less.append(f"a {found.kv_type} cache")
    if found.context < wishes.context:
        less.append(f"{found.context:,} tokens of context instead of {wishes.context:,}")
    return ", ".join(less)
