"""A folder as pieces of at most 15 MiB (NAME.tar.xz.00, ...), which is what comes back from a lent machine, and joined again.

Weights travel in bf16; xz takes another quarter off them. Ends at files.
"""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from accrete.files import recover_directory, replace_directory

PIECE = 15 * 2**20


def split(folder: Path, name: str, out: Path, size: int = PIECE) -> list[Path]:
    """The files of `folder`, which has no folders, as pieces in `out`; those of an earlier call go."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:xz", preset=0) as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)
    data = archive.getvalue()
    out.mkdir(parents=True, exist_ok=True)
    for old in pieces(out, name):
        old.unlink()
    made = [out / f"{name}.tar.xz.{number:02}" for number in range(-(-len(data) // size))]
    for number, path in enumerate(made):
        path.write_bytes(data[number * size : (number + 1) * size])
    return made


def pieces(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"{name}.tar.xz.[0-9][0-9]"))


def join(folder: Path, name: str, target: Path) -> bool:
    """Put `target` together from the pieces in `folder`; False when there are none."""
    found = pieces(folder, name)
    if not found:
        return False
    data = io.BytesIO(b"".join(path.read_bytes() for path in found))

    def unpack(new: Path) -> None:
        with tarfile.open(fileobj=data, mode="r:xz") as tar:
            tar.extractall(new, filter="data")

    replace_directory(target, unpack)
    return True


# --- a checkpoint of `accrete.lm.pretrain` without its moments --------------------------------------------------------


def lighten(checkpoint: Path, folder: Path) -> None:
    """Its weights in bf16 and its step, without the moments, which are three quarters of it."""
    import torch
    from safetensors.torch import load_file, save_file

    def write(new: Path) -> None:
        weights = load_file(checkpoint / "model.safetensors")
        save_file({name: value.to(torch.bfloat16) for name, value in weights.items()}, new / "model.safetensors")
        (new / "step.json").write_text((checkpoint / "step.json").read_text())

    replace_directory(folder, write)


def recover(checkpoint: Path, carried: Path) -> None:
    """The checkpoint to go on from: the one that is here, else from the pieces in `carried`, else none."""
    recover_directory(checkpoint)
    light = checkpoint.with_name("light")
    if not checkpoint.exists() and join(carried, "checkpoint", light):
        restore(light, checkpoint)


def restore(light: Path, checkpoint: Path) -> None:
    """A whole checkpoint from a light one: float32 weights, and momentum starts anew."""
    import torch
    from safetensors.torch import load_file, save_file

    def write(new: Path) -> None:
        weights = load_file(light / "model.safetensors")
        save_file({name: value.to(torch.float32) for name, value in weights.items()}, new / "model.safetensors")
        save_file({}, new / "optimizer.safetensors")
        (new / "step.json").write_text((light / "step.json").read_text())

    replace_directory(checkpoint, write)


def step_of(checkpoint: Path) -> int:
    """How many steps a checkpoint has behind it; 0 when there is none."""
    path = checkpoint / "step.json"
    return int(json.loads(path.read_text())["step"]) if path.exists() else 0
