"""accrete's test-time training of a text, timed alone: the reading of `methods/ttt.py` as it comes.

    python benchmarks/_ttt_ours.py --shape embedded|qwen2.5-0.5b|qwen2.5-1.5b [--updates 20] [--threads 2] [--windows carried]
                                   [--dtype bfloat16] [--device cuda] [--set key=value]

`ttt_throughput.py` starts this in a process of its own. The same random weights and token ids as the peer's, the same layers,
one step on every 32 targets; windows are independent (each sees nothing before it), or carried (each sees all before it).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import torch
from _ttt_peer import CHOICES, WARM_UP, memory_mb, random_model

UPDATE = 32


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """One text of `updates` timed updates and a few before them."""
    from accrete.config import build
    from accrete.lm.batch import Sequence
    from accrete.lm.load import DTYPES, has_fast_bf16, load
    from accrete.lm.model import LM
    from accrete.methods.ttt import Options, TestTimeTraining
    from accrete.settings import parse_value

    model = random_model(options.shape).to(options.device, DTYPES[options.dtype])
    lm = LM(model, load("embedded", device="cpu", offline=True).tokenizer, options.shape)
    lm.mixed = options.dtype == "auto" and has_fast_bf16(torch.device(options.device))
    given = {key: parse_value(value, key) for key, _, value in (text.partition("=") for text in options.set)}
    config = build(
        Options, {"steps": 1, "threshold": 0.0, "mini_batch": UPDATE, "settle": 0} | given, "the options of ttt"
    )
    method = TestTimeTraining(lm, config)
    random = torch.Generator().manual_seed(1)
    count = (WARM_UP + options.updates) * UPDATE + 1
    ids = torch.randint(0, model.config.vocab_size, (count,), generator=random).tolist()
    starts = range(0, count - 1, UPDATE) if options.windows == "independent" else range(0, count - 1, 8 * UPDATE)
    width = UPDATE if options.windows == "independent" else 8 * UPDATE
    windows = [Sequence(tuple(ids[start : start + width + 1]), target_from=1) for start in starts]
    ends: list[float] = []

    def noted(step: int, loss: float, tokens: int = 0, of: int = 0) -> None:
        if options.device == "cuda":
            torch.cuda.synchronize()
        ends.append(time.perf_counter())

    parameters = method.adapter.open()
    before = time.perf_counter()
    with lm.in_bfloat16(frozen=True):
        report = method._read(windows, parameters, noted)
    seconds = [after - start for start, after in zip(ends[WARM_UP - 1 :], ends[WARM_UP:], strict=False)]
    assert len(seconds) == options.updates and report.tokens == count - 1
    return {
        "tokens_per_second": round(UPDATE / statistics.median(seconds), 2),
        "whole_tokens_per_second": round((count - 1) / (ends[-1] - before), 2),
        "peak_mb": memory_mb(options.device),
        "layers": list(method.adapter.twins),
        "trained": sum(p.numel() for p in parameters),
        "updates": options.updates,
        "update_seconds": [round(took, 4) for took in seconds],
        "text_loss": report.loss_before,
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=CHOICES, default="embedded")
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--windows", choices=["independent", "carried"], default="independent")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    from accrete.lm.allocator import keep_freed_memory

    keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    print(json.dumps(measure(options)))


if __name__ == "__main__":
    main()
