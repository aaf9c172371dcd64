"""What a step of sparse memory finetuning costs as the memory grows, against the same layer with a dense gradient.

    python benchmarks/memory_step.py [--width 896] [--tokens 512] [--rows 9000] [--lessons 50] [--batches 8]
                                      [--per lesson|batch] [--steps 24] [--dense-gb 9] [--device cpu] [--json]

One memory layer alone, of the shape that is the method's default, at the width of Qwen2.5-0.5B (d = 896, 128 numbers to
hear), in float32: look, read, back to the rows, one step of row-wise Adam. A lesson goes over its batches again and again,
and its rows are chosen by KL once, before the first step, as is the method's default (`--per batch`: anew at every step). So
many lessons have been written before, of so many rows that lie at random: of a small table that is every slot. `growth_full`
is of tables of which every slot was written, as after thousands of lessons. `growth_anew` is of a lesson that never ends:
tokens are drawn anew for every step and rows chosen for it, so that of a large table each step opens thousands that were
never written, and pays for their memory (a lesson does that in its first steps). The dense peer is the same reading by
torch's embedding bag with AdamW over the whole table. Every figure is of a process of its own, so that peaks are its own. A
dense table of a million slots takes 15 GB with its gradient and moments: it is measured at the largest size that fits into
`--dense-gb`, and its time at a million is extrapolated in proportion to the slots, as `dense_extrapolated` says.

Keys of the result: ms_16k, ms_262k, ms_1m (median of a step), growth = ms_1m / ms_16k, ms_dense_1m, speedup_1m =
ms_dense_1m / ms_1m, peak_mb of each; the same of full tables, ms_full_16k to growth_full, and ms_anew_16k to growth_anew.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SIZES = {"16k": 128**2, "262k": 512**2, "1m": 1024**2}
HEARD = 128  # of Qwen2.5-0.5B: key-value heads * width of a head
SIZED = ("slots", "rows", "lessons", "device")
BYTES_A_NUMBER = 16  # float32: the value, its gradient and two moments


Batches = Iterator[tuple["torch.Tensor", "torch.Tensor"]]


def batches_of(options: argparse.Namespace) -> Batches:
    """The states [T, D] and what can be heard [T, C], batch by batch, the same for every kind and size."""
    drawn = drawn_batches(options)
    return drawn if options.anew else itertools.cycle(itertools.islice(drawn, options.batches))


def drawn_batches(options: argparse.Namespace) -> Batches:
    import torch

    generator = torch.Generator().manual_seed(1)
    while True:
        x_TD, heard_TC = (torch.randn(options.tokens, wide, generator=generator) for wide in (options.width, HEARD))
        yield x_TD.to(options.device), heard_TC.to(options.device)


def sparse(options: argparse.Namespace) -> Callable[[], None]:
    """A step of what the method does."""
    import torch

    from accrete.adapters.memory_table import Table
    from accrete.adapters.product_keys import ProductKeys, Shape, at_random, looking_with
    from accrete.gates.slots import SlotGate
    from accrete.optim.rows import RowAdam

    width, slots, rows, lessons, device = (getattr(options, name) for name in ("width", *SIZED))
    shape, generator = Shape(slots), torch.Generator().manual_seed(0)
    keys = ProductKeys(shape, at_random(shape, width + HEARD, 0)).to(device)
    table, gate = Table(slots, width, torch.device(device)), SlotGate(slots, "kl", rows, generator)
    written_R = (
        torch.randint(slots, (rows * lessons,), generator=generator).unique() if lessons else torch.arange(slots)
    )
    values_RD = torch.randn(len(written_R), width, generator=generator)
    table.become({"earlier lessons": (written_R.to(device), values_RD.to(device))})
    general_TQ = torch.randn(4_096, width + HEARD, generator=generator)
    gate.note({0: keys.look(general_TQ.to(device))[0]})
    optimizer = RowAdam([table.values], lr=1e-3, floor=0.15)
    batches = batches_of(options)
    of_lesson = itertools.islice(batches_of(options), options.batches)
    of_lesson_TS = torch.cat([keys.look(looking_with(*one))[0] for one in of_lesson])
    open_R = gate.open(0, of_lesson_TS)

    def step() -> None:
        x_TD, heard_TC = next(batches)
        slots_TS, weights_TS = keys.look(looking_with(x_TD, heard_TC))
        once = options.per == "lesson" and not options.anew
        m_TD = table.read_to_write(slots_TS, weights_TS, open_R if once else gate.open(0, slots_TS))
        optimizer.zero_grad()
        (m_TD * x_TD).sum().backward()
        optimizer.step()

    return step


def dense(options: argparse.Namespace) -> Callable[[], None]:
    """The same layer with a gradient for every slot."""
    import torch
    from torch.nn import functional

    from accrete.adapters.product_keys import ProductKeys, Shape, at_random, looking_with

    width, slots, device = options.width, options.slots, options.device
    shape = Shape(slots)
    keys = ProductKeys(shape, at_random(shape, width + HEARD, 0)).to(device)
    batches = batches_of(options)
    values = torch.nn.Parameter(torch.randn(slots, width, device=device))
    optimizer = torch.optim.AdamW([values], lr=1e-3, fused=True)

    def step() -> None:
        x_TD, heard_TC = next(batches)
        slots_TS, weights_TS = keys.look(looking_with(x_TD, heard_TC))
        m_TD = functional.embedding_bag(slots_TS, values, mode="sum", per_sample_weights=weights_TS)
        optimizer.zero_grad()
        (m_TD * x_TD).sum().backward()
        optimizer.step()

    return step


def measure(
    kind: str, slots: int, options: argparse.Namespace, lessons: int = 0, anew: bool = False
) -> dict[str, float]:
    """Milliseconds of a step and the peak of the process, in one of its own; no `lessons`: every slot is written."""
    command = [sys.executable, str(Path(__file__)), "--one", kind, "--slots", str(slots), "--lessons", str(lessons)]
    command += ["--anew"] * anew
    for name in ("width", "tokens", "rows", "batches", "per", "steps", "device"):
        command += [f"--{name}", str(getattr(options, name))]
    print(f"{kind}, {slots:,} slots" + (", tokens anew" if anew else ""), file=sys.stderr, flush=True)
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(f"{kind} with {slots:,} slots failed: {ran.stderr.strip().splitlines()[-1:]}")
    return json.loads(ran.stdout)


def one(options: argparse.Namespace) -> None:
    import torch

    from accrete.lm.allocator import keep_freed_memory

    keep_freed_memory()
    on_gpu = options.device.startswith("cuda")
    made = {"sparse": sparse, "dense": dense}[options.one]
    step = made(options)
    seconds = []
    for _ in range(options.batches + options.steps):
        started = time.perf_counter()
        step()
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    peak = (
        torch.cuda.max_memory_allocated() / 2**20
        if on_gpu
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    )
    print(json.dumps({"ms": 1_000 * statistics.median(seconds[options.batches :]), "peak_mb": peak}))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--width", type=int, default=896)
    parser.add_argument("--tokens", type=int, default=512, help="in a step")
    parser.add_argument("--rows", type=int, default=9_000, help="that a step may change")
    parser.add_argument("--lessons", type=int, default=50, help="that have been written before; 0: every slot")
    parser.add_argument(
        "--batches", type=int, default=8, help="that the lesson goes over; the first time is not measured"
    )
    parser.add_argument("--per", choices=["lesson", "batch"], default="lesson", help="what rows are chosen for")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--anew", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--dense-gb", type=float, default=9.0, help="the largest dense table with its moments")
    parser.add_argument("--device", default="cpu", help="cpu or cuda; peaks are then of the GPU's memory")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", choices=["sparse", "dense"], help=argparse.SUPPRESS)
    parser.add_argument("--slots", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return one(options)
    found = {name: measure("sparse", slots, options, options.lessons) for name, slots in SIZES.items()}
    full = {name: measure("sparse", slots, options) for name, slots in SIZES.items()}
    anew = {name: measure("sparse", slots, options, options.lessons, anew=True) for name, slots in SIZES.items()}
    fits = int((options.dense_gb * 1e9 / (BYTES_A_NUMBER * options.width)) ** 0.5) ** 2
    size = min(fits, SIZES["1m"])
    peer = measure("dense", size, options)
    million = SIZES["1m"] / size
    result = {f"ms_{name}": one["ms"] for name, one in found.items()}
    result |= {
        "growth": result["ms_1m"] / result["ms_16k"],
        "ms_dense_1m": peer["ms"] * million,
        "speedup_1m": peer["ms"] * million / result["ms_1m"],
        "dense_slots_measured": size,
        "dense_extrapolated": size < SIZES["1m"],
    }
    for kind, measured in (("full", full), ("anew", anew)):
        result |= {f"ms_{kind}_{name}": one["ms"] for name, one in measured.items()}
        result |= {f"peak_mb_{kind}_{name}": one["peak_mb"] for name, one in measured.items()}
        result[f"growth_{kind}"] = measured["1m"]["ms"] / measured["16k"]["ms"]
    result |= {f"peak_mb_{name}": one["peak_mb"] for name, one in found.items()}
    result["peak_mb_dense"] = peer["peak_mb"]
    if options.json:
        print(json.dumps(result))
        return None
    for name, slots in SIZES.items():
        print(f"{slots:>9,} slots: {found[name]['ms']:7.1f} ms a step, peak {found[name]['peak_mb']:,.0f} MB"
              f" (every slot written: {full[name]['ms']:.1f} ms, {full[name]['peak_mb']:,.0f} MB;"
              f" tokens anew: {anew[name]['ms']:.1f} ms)")  # fmt: skip
    print(f"{size:>9,} slots, dense gradient and AdamW: {peer['ms']:.0f} ms a step, peak {peer['peak_mb']:,.0f} MB")
    said = " (extrapolated in proportion to the slots)" if result["dense_extrapolated"] else ""
    print(f"a million slots: {result['growth']:.2f} times as long as 16k"
          f" ({result['growth_full']:.2f} where every slot is written, {result['growth_anew']:.2f} with tokens anew);"
          f" dense {result['ms_dense_1m']:,.0f} ms{said},"
          f" {result['speedup_1m']:.0f} times as long")  # fmt: skip
    return None


if __name__ == "__main__":
    main()
