"""What evaluate and compare are asked for, checked before anything is measured. Ends at a job for every method."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accrete.cli.session import Session, check_choice
from accrete.errors import DocumentError, UsageError

if TYPE_CHECKING:
    from accrete.evaluate.run import Job
    from accrete.settings import Resolved


def method_names(session: Session, methods: str | None) -> list[str]:
    """The methods of --methods, or of --method where compare got that; all without either. UsageError: no such one."""
    from accrete.evaluate.compare import names

    if methods is not None and session.method is not None:
        raise UsageError("Name the methods with --methods alone; --method is for a single one.")
    asked = "all" if methods is None and session.method is None else methods or session.method or ""
    listed = [name.strip() for name in asked.split(",") if name.strip()]
    if not listed:
        raise UsageError("--methods wants names between commas, or all.")
    found = names([name for name in listed if name != "all"])
    return names(["all"]) if "all" in listed else found


def resolved_settings(
    session: Session, methods: Sequence[str], study: str | None, teacher: str | None
) -> "tuple[Resolved, str]":
    """The settings, and whose study items are used; UsageError for whatever a job would stumble over later."""
    from accrete.lm.load import DTYPES, choose_device
    from accrete.methods import base

    check_choice("--dtype", session.dtype, DTYPES)
    whose = study or "gold"
    resolved = session.settings(methods=methods, study=study, teacher=teacher)
    if teacher and whose in ("gold", "off"):
        raise UsageError(f"--teacher writes study items, and with --study {whose} none are written; add --study self.")
    choose_device(resolved.settings.device)
    resolved.check_methods(base.names())
    for method in methods:
        resolved.method_config(method, base.find(method).Config)
    return resolved, whose


def jobs_of(
    resolved: "Resolved", stream: str | None, methods: Sequence[str], chosen: dict[str, Any], **how: Any
) -> "tuple[Job, ...]":
    """A job for every method: `chosen` are the options of the stream (None: its own default), `how` is said of the job.

    The stream is made once, so that what is wrong with its data is said here.
    """
    from accrete.config import build
    from accrete.evaluate import streams as known
    from accrete.evaluate.run import Job
    from accrete.lm.load import weights_mark

    given = {key: value for key, value in chosen.items() if value is not None}
    known.check_options(named_stream(stream), given)
    for key in given.keys() & {"data", "probes"}:
        given[key] = _there(given[key])
    options = build(known.Options, given, "the options")
    made = known.make(named_stream(stream), options)
    settings = resolved.settings
    return tuple(
        Job(
            stream=made.name,
            content=known.digest(made),
            options=options,
            method=method,
            config=settings.options.get(method, {}),
            model=settings.model,
            weights=weights_mark(settings.model),
            device=settings.device,
            dtype=settings.dtype,
            offline=settings.offline,
            **how,
        )
        for method in methods
    )


def named_stream(stream: str | None) -> str:
    """The name itself; UsageError where none is given, or there is none of that name."""
    from accrete.evaluate import streams as known

    if stream is None:
        raise UsageError(f"Name a stream with --stream: {', '.join(known.names())}.")
    return known.check_name(stream)


def _there(path: Path) -> Path:
    """The path as processes elsewhere find it."""
    if not path.exists():
        raise DocumentError(f"There is no file {path}.")
    return path.resolve()
