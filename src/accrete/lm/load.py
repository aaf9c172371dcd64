"""From a name to a language model: "embedded", a local directory, or a hub id[@revision]. Ends at an LM.

Only safetensors are read and no code of a repository is run. Weights are float32 unless asked otherwise: learning adds
small numbers to large ones, and bfloat16 loses them. Products may be bfloat16 all the same: see `LM.autocast`.
"""

from __future__ import annotations

import hashlib
import json
import os
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from accrete.errors import ModelError, OfflineError, UsageError
from accrete.lm.allocator import keep_freed_memory

if TYPE_CHECKING:
    from accrete.lm.model import LM

START = ".start.safetensors"  # what an adapter begins with may lie beside a model
DTYPES = {"auto": torch.float32, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(name: str = "embedded", *, device: str = "auto", dtype: str = "auto", offline: bool = False) -> LM:
    """Load a causal language model.

    Raises ModelError when there is no such model or it cannot be read, OfflineError when it would have to be fetched
    while `offline`, UsageError for an unknown device or dtype.
    """
    if dtype not in DTYPES:
        raise UsageError(f'Unknown dtype "{dtype}"; choose from {", ".join(DTYPES)}.')
    where = choose_device(device)
    keep_freed_memory()
    quiet(offline)
    lm = _causal_lm(name, DTYPES[dtype], offline).to_device(where)
    lm.mixed = dtype == "auto" and has_fast_bf16(where)
    return lm


def weights_mark(name: str) -> str:
    """What tells the weights of a model from others of its name, without loading them; nothing for one of the hub.

    sha256 over the sizes, first and last megabytes of its safetensors, so that the same files have the same everywhere.
    Starts beside it are none of its weights.
    """
    folder, hasher = embedded_directory() if name == "embedded" else Path(name), hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")) if folder.is_dir() else ():
        if path.name.endswith(START):
            continue
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            hasher.update(f"{path.name} {size} ".encode())
            for start in (0, max(0, size - 2**20)):
                file.seek(start)
                hasher.update(file.read(2**20))
    return hasher.hexdigest()[:16] if folder.is_dir() else ""


def choose_device(device: str) -> torch.device:
    """auto: CUDA, else Apple's GPU, else the CPU. A device that is not there raises UsageError."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise UsageError(f'Unknown device "{device}"; choose from auto, cpu, cuda, mps.') from None
    if (chosen.type == "cuda" and not torch.cuda.is_available()) or (
        chosen.type == "mps" and not torch.backends.mps.is_available()
    ):
        raise UsageError(f'This machine has no "{device}"; choose cpu or auto.')
    return chosen


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 matrices in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def embedded_directory() -> Path:
    """Where the weights that ship with the package are."""
    return Path(str(resources.files("accrete.lm").joinpath("embedded")))


def quiet(offline: bool) -> None:
    """No telemetry, no advice on stderr; offline, for good, for the libraries below as well."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from huggingface_hub import constants
    from transformers.utils import logging

    # Set where they are read: the environment variables count only before the first import.
    constants.HF_HUB_DISABLE_TELEMETRY = True
    if offline:
        constants.HF_HUB_OFFLINE = True
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _source(name: str) -> tuple[str, dict[str, Any]]:
    """What transformers is given for a name: a directory or a repository, and the options that go with it."""
    if name == "embedded":
        if not (embedded_directory() / "model.safetensors").exists():
            raise ModelError("The embedded model is not part of this installation; reinstall accrete.")
        return str(embedded_directory()), {"local_files_only": True}
    path = Path(name).expanduser()
    if name.strip() and path.is_dir():  # Path("") is the current directory
        if not (path / "config.json").exists():
            raise ModelError(f"{name} is a directory without a model: it has no config.json.")
        return str(path), {"local_files_only": True}
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1 or not name.strip():
        raise ModelError(f'There is no model directory at "{name}".')
    repository, _, revision = name.partition("@")
    return repository, {"revision": revision or None}


def pretrained(kind: Any, name: str, *, dtype: torch.dtype = torch.float32, offline: bool = False) -> tuple[Any, Any]:
    """A model of a `kind` of transformers and its tokenizer, by a name as `load` takes it; the same errors."""
    from safetensors import SafetensorError
    from transformers import AutoTokenizer

    source, options = _source(name)
    options = {"local_files_only": offline, "trust_remote_code": False} | options
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        model, info = kind.from_pretrained(
            source, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
        )
        if info["missing_keys"]:  # transformers would fill them with noise
            raise ValueError(f"its weights lack {min(info['missing_keys'])}.")
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, TypeError, SafetensorError) as error:
        local = options["local_files_only"]
        if offline and not Path(source).is_dir():
            raise OfflineError(
                f'"{name}" is not on this machine, and the network is switched off (--offline).'
            ) from None
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        place = "in its directory" if local else "on this machine or the hub"
        raise ModelError(f'Cannot load the model "{name}" {place}: {reason}') from None
    return model, tokenizer


def _causal_lm(name: str, dtype: torch.dtype, offline: bool) -> LM:
    """With what lies beside it."""
    from transformers import AutoModelForCausalLM

    from accrete.lm.model import LM

    lm, source = LM(*pretrained(AutoModelForCausalLM, name, dtype=dtype, offline=offline), name), _source(name)[0]
    if Path(source).is_dir():
        try:
            lm.sentinels = tuple((r["question"], tuple(r["answers"]), r["split"]) for r in _lines(source, "sentinels"))
            lm.background = tuple((r["question"], r["answer"]) for r in _lines(source, "background"))
        except (ValueError, KeyError, TypeError):
            raise ModelError(f"The sentinels.jsonl or background.jsonl beside the model {name} is malformed.") from None
        lm.starts = _starts(Path(source), name)
    return lm


def start_of(lm: LM, name: str, chosen: str) -> dict[str, torch.Tensor]:
    """The tensors that something called `name` begins with: auto, those beside the model, if any; none; or those of a file."""
    if chosen == "auto":
        return lm.starts.get(name, {})
    return {} if chosen == "none" else _tensors(Path(chosen), f"the start {chosen}")


def _starts(folder: Path, name: str) -> dict[str, dict[str, torch.Tensor]]:
    """The tensors of NAME.start.safetensors beside a model, by NAME."""
    paths = sorted(folder.glob(f"*{START}"))
    return {path.name.removesuffix(START): _tensors(path, f"{path.name} beside the model {name}") for path in paths}


def _tensors(path: Path, what: str) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, ValueError, SafetensorError):
        raise ModelError(f"Cannot read {what}: it is missing, or no file of safetensors.") from None


def _lines(directory: str, name: str) -> list[dict[str, Any]]:
    path = Path(directory) / f"{name}.jsonl"
    text = path.read_text("utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.split("\n") if line.strip()]
