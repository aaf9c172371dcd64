"""The datastore of hidden states with millions of positions: what it costs on disk, in memory, to open and to ask.

    python benchmarks/datastore.py [--positions 1000000] [--json] [--folder DIRECTORY]

Documents are ITEMS items of about nine keys each, all of them random unit vectors in float16, as whitened states nearly are;
the journal of a home in a temporary folder keeps them (10 million positions take 7 GB). Every step runs in a process of its
own. A question is a stored cue with noise (cosine COSINE, as held-out wordings have with the items that answer them); it is
answered where the keys of that item are among those of the 64 nearest items, ready to be compared with states.

    write_seconds             by the journal; draw_seconds is what making the vectors took
    open_seconds              the journal reads a state and checks every tensor; map_seconds maps the same files unchecked
    ..._mb                    resident: anon is this process's own memory, file is what the system may drop at any time
    ms_1, ms_64               milliseconds a question, alone and in batches of 64, keys gathered; `first` is the first one
    cpu_...                   of this process alone: the machine may have other things to do
    found                     share of the items themselves
    exact, faiss              through every cue, and with the inverted file of the extra `search` (null without it)
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional

from accrete.retrieval import inverted, nearest
from accrete.retrieval.datastore import Datastore, Entries, SideBySide
from accrete.store.home import writing
from accrete.store.journal import Commit, Journal, now

WIDTH, ITEMS, KEYS, WORDS = 256, 400, 9, 10  # of a document: items, and of each keys on average and words
COMMIT = 2_000_000  # positions
NEAR, COSINE = 64, 0.6
ALONE, BATCHES = 48, 5  # questions asked one by one, and batches of 64
BASE, METHOD = "benchmark", "retrieve_logits"


def unit(count: int, draw: torch.Generator) -> Tensor:
    return functional.normalize(torch.randn(count, WIDTH, generator=draw), dim=1)


def document(number: int, items: int) -> Entries:
    draw = torch.Generator().manual_seed(number)
    lengths = torch.randint(KEYS - 2, KEYS + 3, (items,), generator=draw)
    keys = int(lengths.sum())
    tokens, reach = torch.randint(8192, (keys,), generator=draw), torch.rand(keys, generator=draw)
    counts = torch.full((items,), WORDS)
    marks = torch.randint(-(2**31), 2**31, (WORDS * items,), generator=draw)
    return Entries(unit(items, draw), lengths, unit(keys, draw), tokens, reach, marks, counts)


def resident() -> dict[str, int] | None:
    """Megabytes of this process that are its own and that are of files; None where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith("Rss")}
    return {"anon": kilobytes["RssAnon"] // 1024, "file": kilobytes["RssFile"] // 1024}


# --- the steps, each in a process of its own -----------------------------------------------------------------------


def opened(home: Path, index: bool) -> Datastore:
    journal, store = Journal(home), Datastore()
    if index:
        store.derive_in(home / "derived")
    commits = journal.active(BASE, METHOD)
    if commits:
        store.load_state_dict(journal.state(commits[-1])["store"])
    return store


def write(home: Path, positions: int) -> dict[str, Any]:
    journal, store, number = Journal(home), Datastore(), 0
    drawing = writing_seconds = 0.0
    while len(store) < positions:
        started, until = time.perf_counter(), min(positions, len(store) + COMMIT)
        while (left := until - len(store)) > 0:
            store.add(f"{number:064x}", document(number, min(ITEMS, max(1, left // KEYS))))
            number += 1
        drawing += time.perf_counter() - started
        started = time.perf_counter()
        last = journal.active(BASE, METHOD)
        parent = last[-1].id if last else None
        commit = Commit("", parent, len(last) + 1, now(), f"{number}", f"{number}", "", "", f"{number}", {}, {})
        with writing(home):
            journal.append(BASE, BASE, METHOD, commit, {"store": store.state_dict()})
        writing_seconds += time.perf_counter() - started
        store = opened(home, index=False)  # what is written need not stay in memory
        sys.stderr.write(f"\r{len(store):,} of {positions:,} positions ")
    sys.stderr.write("\n")
    return {
        "positions": len(store),
        "documents": number,
        "disk_mb": round(sum(file.stat().st_size for file in (home / "packs").iterdir()) / 1e6),
        "draw_seconds": round(drawing, 1),
        "write_seconds": round(writing_seconds, 1),
    }


def build(home: Path) -> dict[str, Any]:
    store = opened(home, index=True)
    started = time.perf_counter()
    store.keep_up()
    files = list((home / "derived").glob("*.faiss"))
    return {
        "build_seconds": round(time.perf_counter() - started, 1),
        "index_mb": round(sum(file.stat().st_size for file in files) / 1e6),
    }


def ask(home: Path, index: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"bare_mb": resident()}
    if not index:
        found |= mapped(home)
    started = time.perf_counter()
    store = opened(home, index)
    found |= {"open_seconds": round(time.perf_counter() - started, 2), "opened_mb": resident()}
    cues = torch.cat([cues for key, cues in sorted(store.state_dict().items()) if key.endswith("/cues")][::37]).float()
    draw = torch.Generator().manual_seed(1)
    noise = (1 / COSINE**2 - 1) ** 0.5
    right = 0

    def questions(count: int) -> tuple[Tensor, Tensor]:
        wanted = torch.randint(len(cues), (count,), generator=draw)
        return functional.normalize(cues[wanted] + noise * unit(count, draw), dim=1), cues[wanted]

    def answer(asked: Tensor, wanted: Tensor) -> tuple[float, float]:
        """Milliseconds a question, as they passed and of this process alone; counts the items that were found."""
        nonlocal right
        started = time.perf_counter(), time.process_time()
        near = store.around(asked, NEAR)
        SideBySide.of(near, 0.5)
        ended = time.perf_counter(), time.process_time()
        wall, cpu = ((end - start) * 1e3 / len(asked) for start, end in zip(started, ended, strict=True))
        cosines = (asked * wanted).sum(1)  # no two are alike: it is known by it
        right += sum(bool(((one.cosines_M - own).abs() < 1e-5).any()) for one, own in zip(near, cosines, strict=True))
        return wall, cpu

    def median(count: int, times: int) -> tuple[float, ...]:
        spent = [answer(*questions(count)) for _ in range(times)]
        return tuple(round(statistics.median(one), 2) for one in zip(*spent, strict=True))

    found["first_ms"] = round(answer(*questions(1))[0], 1)
    found["ms_1"], found["cpu_ms_1"] = median(1, ALONE)
    found["ms_64"], found["cpu_ms_64"] = median(64, BATCHES)
    return found | {"found": round(right / (1 + ALONE + 64 * BATCHES), 3), "asked_mb": resident()}


def mapped(home: Path) -> dict[str, Any]:
    """The files alone: what an untouched tensor costs."""
    started, tensors = time.perf_counter(), []
    for path in (home / "packs").iterdir():
        with safe_open(path, "pt") as file:
            tensors += [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118
    return {"map_seconds": round(time.perf_counter() - started, 2), "mapped_mb": resident()}


# --- telling -------------------------------------------------------------------------------------------------------


def step(name: str, home: Path, options: argparse.Namespace) -> dict[str, Any]:
    works = {
        "write": lambda: write(home, options.positions),
        "exact": lambda: ask(home, index=False),
        "build": lambda: build(home),
        "faiss": lambda: ask(home, index=True),
    }
    usual = nearest.MANY
    if name != "exact":
        nearest.MANY = sys.maxsize if name == "write" else options.many
    try:
        return works[name]()
    finally:
        nearest.MANY = usual


def figures(options: argparse.Namespace, home: Path) -> dict[str, Any]:
    def run(name: str) -> dict[str, Any]:
        sys.stderr.write(f"{name}\n")
        if options.here:
            return step(name, home, options)
        arguments = [__file__, "--step", name, "--folder", str(home), "--positions", str(options.positions)]
        arguments += ["--many", str(options.many)]
        done = subprocess.run([sys.executable, *arguments], stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout)

    found = run("write") | {"exact": run("exact"), "build": None, "faiss": None}
    if inverted.faiss() is not None:
        found |= {"build": run("build"), "faiss": run("faiss")}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--positions", type=int, default=1_000_000)
    parser.add_argument("--many", type=int, default=nearest.MANY, help="items from which there is an inverted file")
    parser.add_argument("--folder", type=Path, help="an empty folder for the home; it is left there")
    parser.add_argument("--device", choices=("cpu",), default="cpu")
    parser.add_argument("--here", action="store_true", help="all in this process: memory then says little")
    parser.add_argument("--step", choices=("write", "exact", "build", "faiss"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(step(options.step, options.folder, options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = figures(options, options.folder or Path(folder))
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        if not isinstance(value, dict):
            print(f"{name:>16} {value}")
        else:
            print(f"{name}\n" + "\n".join(f"{inner:>16} {figure}" for inner, figure in value.items()))


if __name__ == "__main__":
    main()
