"""What this machine has for a model: memory, and the GPUs that the installed llama.cpp can use.

The build that will serve is asked first: a GPU that it does not see is of no use, however new. What the drivers
say is only used to explain that. Each question is a program or a file with a short deadline; none of them failing
is an error. Parsing is apart from asking: no GPU of any kind was at hand here, so it is tested on texts alone.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

#: Seconds for a driver's tool. nvidia-smi takes some when the driver has to wake the card.
TOOL_DEADLINE = 10.0
#: Seconds for a llama.cpp build to list its devices: it loads the libraries of its GPU for that.
BUILD_DEADLINE = 30.0
#: Bytes of such an answer that are read.
MAX_ANSWER = 200_000
MIB = 1 << 20
#: A limit of a control group above this is none (version 1 writes the largest number there is).
NO_LIMIT = 1 << 60
#: The share of an Apple machine's memory that its GPU may use unless somebody changed that.
APPLE_SHARE = 0.7

Backend = Literal["CUDA", "ROCm", "Vulkan", "Metal", "other"]


class Gpu(Struct, frozen=True):
    """A graphics processor; memory in bytes. `free` is 0 when nothing says it."""

    name: str
    backend: Backend
    total: int
    free: int


class Hardware(Struct, frozen=True):
    """Memory for programs that can be had now, in bytes (0: unknown), and GPUs that the server can use.

    `idle` are GPUs that are here but that this build cannot use. `unified` is whether GPU and CPU share memory.
    """

    ram: int
    gpus: tuple[Gpu, ...] = ()
    idle: tuple[Gpu, ...] = ()
    unified: bool = False

    @property
    def gpu_memory(self) -> int:
        """Bytes free on all usable GPUs together: llama.cpp spreads layers over them."""
        return sum(gpu.free or gpu.total for gpu in self.gpus)


def look(command: Sequence[str] = ()) -> Hardware:
    """This machine, for a server of this command; () for the xllamacpp package. Takes a second or two."""
    usable = _listed(command[0]) if command else _seen_by_package()
    ram = available_memory()
    if sys.platform == "darwin":
        total = _sysctl("hw.memsize")
        gpus = usable or ((Gpu("Apple GPU", "Metal", int(total * APPLE_SHARE), 0),) if total else ())
        return Hardware(ram, gpus, unified=True)
    if usable:
        return Hardware(ram, usable)
    return Hardware(ram, idle=nvidia_gpus(_ask(_NVIDIA)) + amd_gpus(Path("/sys/class/drm")))


# Memory ---------------------------------------------------------------------------------------------------------


def available_memory() -> int:
    """Bytes that a program may still take here, control groups considered; 0 when unknown."""
    if sys.platform == "darwin":
        return darwin_available(_ask(("vm_stat",)))
    rooms = [room for room in (meminfo_available(_text("/proc/meminfo")), *_group_rooms()) if room]
    return min(rooms, default=0)


def meminfo_available(text: str) -> int:
    """`MemAvailable` of Linux's /proc/meminfo in bytes; 0 when it is not there."""
    match = re.search(r"^MemAvailable:\s+(\d{1,15}) kB", text, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def darwin_available(text: str) -> int:
    """Free, inactive and speculative pages in the output of macOS' vm_stat, in bytes; 0 when it is none."""
    page = re.search(r"page size of (\d{1,9}) bytes", text)
    kinds = r"^Pages (?:free|inactive|speculative|purgeable):\s+(\d{1,15})\."
    return int(page[1]) * sum(map(int, re.findall(kinds, text, re.MULTILINE))) if page else 0


def group_room(limit: str, usage: str, stat: str) -> int:
    """Bytes that a control group leaves, from the texts of its files; 0 when it sets no limit.

    File pages that it does not use (`inactive_file`) count as free: the kernel drops them when asked.
    """
    try:
        most, used = int(limit), int(usage)
    except ValueError:  # `max`, or no such file
        return 0
    if most >= NO_LIMIT:
        return 0
    match = re.search(r"^(?:total_)?inactive_file (\d{1,18})$", stat, re.MULTILINE)
    return max(most - used + (int(match[1]) if match else 0), 1)


def group_folders(text: str, mount: Path = Path("/sys/fs/cgroup")) -> list[tuple[Path, int]]:
    """The folders of the memory control groups in a /proc/self/cgroup, innermost first, with their version.

    Inside a container the path named there may not exist; the mount itself is the container's group then.
    """
    folders: list[tuple[Path, int]] = []
    for line in text.splitlines()[:64]:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        root, version = (mount / "memory", 1) if controllers else (mount, 2)
        parts = [part for part in path.split("/") if part not in ("", "..")]
        folders += [(root.joinpath(*parts[:count]), version) for count in range(len(parts), -1, -1)]
    return folders


def _group_rooms() -> list[int]:
    names = {2: ("memory.max", "memory.current"), 1: ("memory.limit_in_bytes", "memory.usage_in_bytes")}
    return [
        group_room(*(_text(folder / name) for name in (*names[version], "memory.stat")))
        for folder, version in group_folders(_text("/proc/self/cgroup"))
    ]


# GPUs -----------------------------------------------------------------------------------------------------------

_NVIDIA = ("nvidia-smi", "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits")


def nvidia_gpus(text: str) -> tuple[Gpu, ...]:
    """GPUs in the answer of nvidia-smi to our question; lines that are none (errors, `[N/A]`) are left out."""
    found = []
    for line in text.splitlines()[:64]:
        name, *numbers = [part.strip() for part in line.rsplit(",", 2)]
        if len(numbers) == 2 and all(re.fullmatch(r"\d{1,9}", number) for number in numbers):
            found.append(Gpu(name, "CUDA", int(numbers[0]) * MIB, int(numbers[1]) * MIB))
    return tuple(found)


def amd_gpus(drm: Path) -> tuple[Gpu, ...]:
    """AMD cards below Linux's /sys/class/drm: their driver writes the memory there."""
    found = []
    for card in sorted(drm.glob("card[0-9]*"))[:64]:
        device = card / "device"
        total, used = (_text(device / f"mem_info_vram_{what}").strip() for what in ("total", "used"))
        if re.fullmatch(r"\d{1,15}", total) and "-" not in card.name:
            name = _text(device / "product_name").strip() or "AMD GPU"
            busy = int(used) if re.fullmatch(r"\d{1,15}", used) else 0
            found.append(Gpu(name, "ROCm", int(total), max(int(total) - busy, 0)))
    return tuple(found)


def package_gpus(text: str) -> tuple[Gpu, ...]:
    """GPUs in the JSON of xllamacpp's own list of devices; () when it is none."""
    try:
        devices = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    found: dict[str, list[Gpu]] = {"GPU": [], "IGPU": []}
    for device in devices[:64] if isinstance(devices, list) else ():
        kind = re.search(r"(I?GPU)\b", str(device.get("type"))) if isinstance(device, dict) else None
        if kind is None:
            continue
        total, free = (_bytes(device.get(f"memory_{what}")) for what in ("total", "free"))
        name = str(device.get("description") or device.get("name"))[:200]
        found[kind[1]].append(Gpu(name, _backend(str(device.get("name"))), total, free))
    # llama.cpp uses a graphics unit inside the CPU only where there is nothing better.
    return tuple(found["GPU"] or found["IGPU"])


_LISTED = re.compile(r"^\s+(\w+)\S*: (.{1,200}) \((\d{1,9}) MiB, (\d{1,9}) MiB free\)$", re.MULTILINE)


def listed_gpus(text: str) -> tuple[Gpu, ...]:
    """GPUs in the answer of `llama-server --list-devices`; () when it knows no such option."""
    return tuple(
        Gpu(name, _backend(id), int(total) * MIB, int(free) * MIB)
        for id, name, total, free in _LISTED.findall(text.partition("Available devices")[2])[:64]
        if not id.upper().startswith(("CPU", "BLAS", "RPC"))
    )


def _backend(id: str) -> Backend:
    backends: tuple[Backend, ...] = ("CUDA", "ROCm", "Vulkan", "Metal")
    if re.fullmatch(r"MTL\d*", id):  # how Metal numbers its devices
        return "Metal"
    return next((backend for backend in backends if id.upper().startswith(backend.upper())), "other")


#: Run in a process of its own: libraries of a GPU that fails to load may end it, and take 100 MB.
_PACKAGE = """
import json, xllamacpp
print(json.dumps([{**d, "type": str(d.get("type")), "caps": None} for d in xllamacpp.get_device_info()]))
"""


def _seen_by_package() -> tuple[Gpu, ...]:
    return package_gpus(_ask((sys.executable, "-P", "-c", _PACKAGE), BUILD_DEADLINE, last_line=True))


def _listed(program: str) -> tuple[Gpu, ...]:
    return listed_gpus(_ask((program, "--list-devices"), BUILD_DEADLINE))


# Asking ---------------------------------------------------------------------------------------------------------


def _ask(argv: Sequence[str], seconds: float = TOOL_DEADLINE, *, last_line: bool = False) -> str:
    """What a program prints; '' when it is not there, fails or takes too long. Never raises."""
    if shutil.which(argv[0]) is None:
        return ""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if not last_line else subprocess.DEVNULL,
            timeout=seconds,
            cwd="/",
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    text = done.stdout[-MAX_ANSWER:].decode("utf-8", "replace")
    return text.strip().rpartition("\n")[2] if last_line else text


def _text(path: str | Path) -> str:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read(MAX_ANSWER).decode("utf-8", "replace")
    except OSError:
        return ""


def _sysctl(name: str) -> int:
    text = _ask(("sysctl", "-n", name)).strip()
    return int(text) if re.fullmatch(r"\d{1,18}", text) else 0


def _bytes(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
