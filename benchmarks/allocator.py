"""What keeping freed memory is worth: training steps with glibc's defaults against the same with `keep_freed_memory`.

    python benchmarks/allocator.py [--json] [--preset nano] [--steps 6] [--precision bf16|fp32]

Each figure comes from a process of its own, because an allocator can only be told before it is used.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time


def steps_per_second(preset_name: str, steps: int, precision: str) -> dict[str, float]:
    """Tokens/s, page faults per step and peak memory of whole training steps on random tokens, 16 x 256 at a time."""
    from accrete.lm.allocator import keep_freed_memory

    keep_freed_memory()  # does nothing under ACCRETE_ALLOCATOR=default
    import contextlib

    import torch
    from torch.nn import functional
    from transformers import AutoModelForCausalLM

    from accrete.lm.presets import preset

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(preset(preset_name), attn_implementation="eager")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    ids = torch.randint(0, model.config.vocab_size, (16, 256))

    def step() -> None:
        casting = torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
        with casting:
            logits = model(input_ids=ids, use_cache=False).logits
        functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(2):
        step()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    started = time.perf_counter()
    for _ in range(steps):
        step()
    seconds = time.perf_counter() - started
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "tokens_per_second": round(steps * ids.numel() / seconds, 1),
        "page_faults_per_step": round((usage.ru_minflt - faults) / steps),
        "peak_mb": round(usage.ru_maxrss / 1024),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(steps_per_second(options.preset, options.steps, options.precision)))
        return
    result = {}
    for name, setting in (("default", "default"), ("kept", "keep")):
        child = [sys.executable, __file__, "--child", "--preset", options.preset, "--steps", str(options.steps)]
        environment = os.environ | {"ACCRETE_ALLOCATOR": setting}
        ran = subprocess.run(
            [*child, "--precision", options.precision], env=environment, capture_output=True, check=True
        )
        result[name] = json.loads(ran.stdout.splitlines()[-1])
    result["ratio"] = round(result["kept"]["tokens_per_second"] / result["default"]["tokens_per_second"], 2)
    if options.json:
        print(json.dumps(result))
        return
    for name in ("default", "kept"):
        row = result[name]
        print(
            f"{name:<8} {row['tokens_per_second']:>9,.0f} tokens/s  {row['page_faults_per_step']:>9,} page faults a step"
            f"  {row['peak_mb']:>6,} MB"
        )
    print(f"ratio    {result['ratio']:>9}")


if __name__ == "__main__":
    main()
