"""Test-time training against the published package: tokens a second and peak memory, and the machine's own limit beside.

    python benchmarks/ttt_throughput.py [--shape embedded|qwen2.5-0.5b|qwen2.5-1.5b] [--rounds 3] [--json]

Both learn the same random token ids with the same random weights: 32 targets an update, independent windows (33 tokens,
nothing before them), twins beside the MLPs of the last quarter, all their weights trained, one step an update. Each figure
comes from a process of its own, the two sides in turns; a round's figure is that of its median update, the result that of
the median round. A busy machine slows the peer more than us: where the median update of a round is far from its fastest, a
warning says so.

The peer is continual-learning-slm 0.2.0 (MIT): Adam in float32. Ours is the reading of `--method ttt`: frozen blocks once for
many windows and in bfloat16, gradient descent by outer products on float32 weights, a fused head. `carried` is ours with what
no independent window has: eight windows share one context. `adam` is ours with the peer's optimiser.

Operations a token: 2 N for frozen weights below the twins, 4 N for those beside and above them and for the head, 6 N for the
twins. `ceiling_share` is their product with the tokens a second, over the largest bfloat16 matrix product of this machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from _ttt_peer import CHOICES, cache_folder, shape_config

HERE = Path(__file__).parent
UNEVEN = 1.5  # times its fastest update that a round's median may take before it says nothing


def run(script: str, *arguments: str) -> dict[str, Any]:
    """The JSON that a script of this folder prints, run in a process of its own."""
    ran = subprocess.run([sys.executable, str(HERE / script), *arguments], stdout=subprocess.PIPE, text=True)
    if ran.returncode:
        raise SystemExit(f"{script} failed.")
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def operations(shape: str) -> int:
    """Multiplications and additions for one token of ours."""
    c = shape_config(shape)
    heads = c.hidden_size // c.num_attention_heads
    attention = c.hidden_size * heads * (2 * c.num_attention_heads + 2 * c.num_key_value_heads)
    mlp, head = 3 * c.hidden_size * c.intermediate_size, c.hidden_size * c.vocab_size
    late = c.num_hidden_layers - 3 * c.num_hidden_layers // 4
    return 2 * (c.num_hidden_layers - late) * (attention + mlp) + 4 * (late * (attention + mlp) + head) + 6 * late * mlp


def measure(options: argparse.Namespace) -> dict[str, Any]:
    common = ["--shape", options.shape, "--updates", str(options.updates), "--threads", str(options.threads)]
    common += ["--device", options.device]
    sides = {
        "peer": ("_ttt_peer.py", "--peer-dir", str(options.peer_dir)),
        "ours": ("_ttt_ours.py",),
        "carried": ("_ttt_ours.py", "--windows", "carried"),
        "adam": ("_ttt_ours.py", "--set", "optimizer=adam", "--set", "read_rate=1e-5", "--set", "read_clip=0"),
    }
    rounds: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for number in range(options.rounds):
        for side, (script, *more) in sides.items():
            if side in ("carried", "adam") and number:
                continue
            print(f"round {number + 1} of {options.rounds}: {side}", file=sys.stderr, flush=True)
            rounds[side].append(run(script, *common, *more))
    uneven = [
        side
        for side, found in rounds.items()
        if any(statistics.median(f["update_seconds"]) > UNEVEN * min(f["update_seconds"]) for f in found)
    ]
    if uneven:
        print(f"warning: the updates of {', '.join(uneven)} were uneven; something else ran here.", file=sys.stderr)
    speed = {side: statistics.median(f["tokens_per_second"] for f in found) for side, found in rounds.items()}
    assert rounds["ours"][0]["trained"] == rounds["peer"][0]["trained"], "the two sides train different weights"
    ceiling = None  # of a GPU: learn_throughput.py measures that
    if options.device == "cpu":
        ceiling = run("_matmul_ceiling.py", "--shape", options.shape, "--threads", str(options.threads), "--json")
    work, limit = speed["ours"] * operations(options.shape), (ceiling or {}).get("bf16_gflops")
    return {
        "shape": options.shape,
        "ours": speed["ours"],
        "peer": speed["peer"],
        "ratio": round(speed["ours"] / speed["peer"], 2),
        "ceiling_share": round(work / (limit * 1e9), 3) if limit else None,
        "peak_mb": max(found["peak_mb"] for found in rounds["ours"]),
        "peer_peak_mb": max(found["peak_mb"] for found in rounds["peer"]),
        "carried": speed["carried"],
        "adam": speed["adam"],
        "trained": rounds["ours"][0]["trained"],
        "ceiling_gflops": limit,
        "rounds": {side: [found["tokens_per_second"] for found in all_] for side, all_ in rounds.items()},
        "uneven": uneven,
        "threads": rounds["ours"][0]["threads"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=CHOICES, default="embedded")
    parser.add_argument("--updates", type=int, default=20, help="timed, in every round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--peer-dir", type=Path, default=cache_folder(), help="where the peer is, or is to be installed"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options)
    if options.json:
        print(json.dumps(found))
        return
    share = f"   {found['ceiling_share']:.0%} of the ceiling" if found["ceiling_share"] else ""
    print(f"{found['shape']}, {found['trained']:,} trained weights, {found['threads']} threads, 32 tokens an update")
    print(f"  ours     {found['ours']:>9,.0f} tokens/s   {found['peak_mb']:>6,} MB{share}")
    print(f"  peer     {found['peer']:>9,.0f} tokens/s   {found['peer_peak_mb']:>6,} MB")
    print(f"  ratio    {found['ratio']:>9.2f}")
    print(f"  carried  {found['carried']:>9,.0f} tokens/s   ours with Adam {found['adam']:,.0f} tokens/s")


if __name__ == "__main__":
    main()
