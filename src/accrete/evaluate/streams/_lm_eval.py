"""Tasks of EleutherAI's lm-evaluation-harness as questions: a folder of its YAML files with JSON data. No stream by itself.

A task's YAML names its data as the harness has it, local files alone, looked for beside the YAML and then in the folder:
    dataset_path: json
    dataset_kwargs: {data_files: {test: questions.jsonl}}
Prompts and answers are made by the harness itself (`!function` included: such a folder holds code, and that code runs), of the
test split, or else of the validation split, without examples before them. A multiple choice is asked openly, with the
text of the right choice as its answer. Nothing is downloaded and nothing is cached. Needs the extra `eval`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from accrete.errors import DocumentError, UsageError
from accrete.evaluate.streams._files import rows, shown
from accrete.types import Probe

EXTRA = 'pip install "accrete[eval]"'


def is_folder_of_them(folder: Path) -> bool:
    """Whether any YAML file is there."""
    return folder.is_dir() and next(folder.rglob("*.yaml"), None) is not None


def read(folder: Path) -> dict[str, list[Probe]]:
    """The questions of every task in the folder, by its name.

    UsageError where lm_eval is not installed; DocumentError names the file or the task that is wrong.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise UsageError(f"{shown(folder)} holds YAML files of lm_eval tasks, which needs the extra eval: {EXTRA}.")
    for path in sorted(folder.rglob("*.yaml")):
        _check_yaml(path)
    with _quiet():
        from lm_eval.tasks import TaskManager

        manager = TaskManager(include_path=str(folder), include_defaults=False)
        names = list(manager.all_subtasks)
        if not names:
            raise DocumentError(f"None of the YAML files in {shown(folder)} is a task of lm_eval.")
        return {name: _read_task(manager, name, folder) for name in names}


def _check_yaml(path: Path) -> None:
    """The harness passes over what it cannot parse."""
    try:
        yaml.compose(path.read_text("utf-8"), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        place = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise DocumentError(f"{shown(path)}{place}: not valid YAML.") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        raise DocumentError(f"{shown(path)} is no YAML text.") from None


def _read_task(manager: Any, name: str, folder: Path) -> list[Probe]:
    entry = manager.task_index[name]
    splits = _splits(entry.cfg, entry.yaml_path, folder)
    # In a group, which is how the harness lets a caller overrule a task's file. A metric might be downloaded.
    own = {
        "task": name,
        "custom_dataset": functools.partial(_dataset, splits),
        "metric_list": None,
        "filter_list": None,
    }
    try:
        task = manager.load({"group": f"accrete {name}", "task": [own]})["tasks"][name]
        documents = list(task.eval_docs)
        return [_probe(task, document, f"{name}, question {n}") for n, document in enumerate(documents, 1)]
    except DocumentError:
        raise
    except Exception as error:  # whatever the harness, a template or a function of the folder raises
        said = " ".join(str(error).split())[:200]
        raise DocumentError(
            f"{shown(entry.yaml_path)}: lm_eval cannot make the task {name}: {type(error).__name__}: {said}"
        ) from None


def _splits(config: Mapping[str, Any], path: Path, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of every split, from JSON files; DocumentError where the data is something else."""
    options = config.get("dataset_kwargs") or {}
    given = options.get("data_files") if isinstance(options, dict) else None
    if config.get("dataset_path") != "json" or not given:
        raise DocumentError(
            f"{shown(path)}: only local JSON is read here; name it by dataset_path: json and dataset_kwargs: data_files."
        )
    by_split = given if isinstance(given, dict) else {"train": given}  # as the library `datasets` has it
    found = {}
    for split, names in by_split.items():
        places = [_placed(str(name), path, folder) for name in (names if isinstance(names, list) else [names])]
        found[str(split)] = [row for place in places for row in rows(place, {})]
    return found


def _placed(name: str, path: Path, folder: Path) -> Path:
    for place in (path.parent / name, folder / name):
        if place.is_file():
            return place
    raise DocumentError(f"{shown(path)}: there is no local file {name}.")


def _dataset(splits: Mapping[str, list[dict[str, Any]]], **options: Any) -> dict[str, Any]:
    from datasets import Dataset

    return {split: Dataset.from_list(rows) for split, rows in splits.items()}


# --- questions ------------------------------------------------------------------------------------------------------


def _probe(task: Any, document: Mapping[str, Any], where: str) -> Probe:
    """What is before the last empty line goes as context, which may be cut where it does not fit the model."""
    config = task.config
    choices = [str(choice) for choice in task.doc_to_choice(document)] if config.doc_to_choice is not None else []
    asked = task.doc_to_text(document)
    text = choices[asked] if isinstance(asked, int) else asked  # of several beginnings, the right one
    targets = task.doc_to_target(document)
    answers = [_answer(target, choices) for target in (targets if isinstance(targets, list) else [targets])]
    described = f"{task.resolve_field(document, config.description) or ''}{text}"
    context, _, question = described.strip().rpartition("\n\n")
    if not question.strip() or not answers or not all(answers):
        raise DocumentError(f"{where}: the question or its answer is empty.")
    return Probe(question, tuple(dict.fromkeys(answers)), context.strip(), kind=str(config.output_type))


def _answer(target: Any, choices: list[str]) -> str:
    if isinstance(target, int) and choices:
        return choices[target].strip()
    return "" if target is None else str(target).strip()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without progress bars and warnings of the harness, which are about scoring that is not used here."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    from datasets import utils as bars

    shown_before = not bars.are_progress_bars_disabled()
    bars.disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        if shown_before:
            bars.enable_progress_bars()
