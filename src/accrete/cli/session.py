"""What every verb shares: the options before and after it, the two output forms, errors in one sentence.

Ends where a verb begins: `@verb` turns `f(session, ...)` into a typer command.
"""

import functools
import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from accrete.errors import AccreteError, UsageError, did_you_mean

if TYPE_CHECKING:
    from rich.console import Console

    from accrete.learner import Learner
    from accrete.settings import Resolved

Home = Annotated[Path | None, typer.Option("--home", help="Where lessons are kept [ACCRETE_HOME or ~/.accrete].")]
Model = Annotated[str | None, typer.Option("--model", help="embedded, a hub id[@revision], or a directory [embedded].")]
Method = Annotated[str | None, typer.Option("--method", help="How to learn; see `accrete methods`.")]
Json = Annotated[bool | None, typer.Option("--json", help="Print results as JSON, one object a line.")]
Offline = Annotated[bool | None, typer.Option("--offline/--no-offline", help="Open no network connection.")]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda or mps [auto].")]
Dtype = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        help="Of the weights: auto (float32; learning multiplies in bfloat16 where fast), float32, bfloat16, float16.",
    ),
]
Options = Annotated[
    list[str] | None, typer.Option("--set", help="An option of the method, as [METHOD.]key=value; repeatable.")
]


@dataclass(frozen=True)
class Session:
    """The options common to all verbs; None where nothing was said."""

    home: Home = None
    model: Model = None
    method: Method = None
    json: Json = None
    offline: Offline = None
    device: Device = None
    dtype: Dtype = None
    set: Options = None

    def then(self, later: dict[str, Any]) -> "Session":
        """What was said after the verb wins over what was said before it."""
        return replace(self, **{key: value for key, value in later.items() if value not in (None, [])})

    def home_directory(self) -> Path:
        """--home, ACCRETE_HOME or ~/.accrete; HomeError when it is a file."""
        from accrete.store.home import check_home, default_home

        home = self.home.expanduser() if self.home else default_home()
        check_home(home)
        return home

    def settings(self, methods: Sequence[str] | None = None, **flags: Any) -> "Resolved":
        """The settings with these options over them, and `flags` of the verb's own (max_forgetting, domain, ...).

        --set is about one of `methods`, which without them is that of the settings alone.
        """
        from accrete import settings
        from accrete.methods import DEFAULT

        for name in ("study", "facts", "on_conflict"):
            known = get_args(settings.Settings.model_fields[name].annotation)
            check_choice(f"--{name.replace('_', '-')}", flags.get(name), known)
        common = {key: getattr(self, key) for key in ("model", "method", "offline", "device", "dtype")}
        if methods is not None:
            common["method"] = None  # the verb has its own
        resolved = settings.resolve(self.home_directory(), common | flags)
        about = [resolved.settings.method or DEFAULT] if methods is None else methods
        for text in self.set or []:
            method, option, value = _setting(text, about)
            resolved = resolved.with_options(method, {option: value}, "flag --set")
        return resolved

    def learner(self, progress: Any = None, **flags: Any) -> "Learner":
        """The learner that the settings, these options and `flags` of the verb's own describe."""
        resolved = self.settings(**flags)
        settings = resolved.settings
        if settings.offline:  # here already: the libraries below look at it when they are imported, not later
            os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
        from accrete.learner import Learner
        from accrete.methods import DEFAULT, base

        method = settings.method or DEFAULT
        resolved.check_methods(base.names())
        resolved.method_config(method, base.find(method).Config)  # here, where it is known who said what is wrong
        options: dict[str, Any] = {"progress": progress} if progress else {}
        return Learner(
            settings.model,
            method=method,
            home=self.home,
            config=settings.options.get(method, {}),
            device=settings.device,
            dtype=settings.dtype,
            offline=settings.offline,
            max_forgetting=settings.max_forgetting,
            study=settings.study,
            teacher=settings.teacher,
            facts=settings.facts,
            on_conflict=settings.on_conflict,
            nli=settings.nli,
            **options,
        )

    def print(self, result: dict[str, Any] | list[Any], human: Callable[["Console"], None]) -> None:
        """The result on stdout: as JSON when asked, else as `human` writes it."""
        if self.json:
            print(json.dumps(result, ensure_ascii=False, allow_nan=False), flush=True)
            return
        from rich.console import Console

        live = sys.stdout.isatty()  # in a pipe, tables are as wide as they like: a folded id cannot be found again
        human(Console(highlight=False, soft_wrap=not live, width=None if live else 200))


def check_choice(option: str, value: str | None, known: Iterable[str]) -> None:
    """UsageError for a value that is none of those known; None was not given."""
    if value is not None and value not in (choices := list(known)):
        raise UsageError(f'{option} cannot be "{value}".{did_you_mean(value, choices)}')


def _setting(text: str, methods: Sequence[str]) -> tuple[str, str, Any]:
    """(method, option, value) of [METHOD.]key=value; the method may be left out where there is but one."""
    from accrete.settings import parse_value

    key, equals, value = text.partition("=")
    method, dot, option = key.rpartition(".")
    if not equals or not option or (dot and not method):
        raise UsageError(f'--set wants key=value or METHOD.key=value, not "{text}".')
    if not dot and len(methods) > 1:
        from accrete.methods import base

        owner = next((name for name in methods if option in base.find(name).Config.model_fields), methods[0])
        raise UsageError(f"--set {text}: say whose option it is, as in --set {owner}.{text}.")
    if dot and method not in methods:
        raise UsageError(f'--set {text}: "{method}" is not a method of this command.{did_you_mean(method, methods)}')
    return method or methods[0], option, parse_value(value, f"--set {key}")


_COMMON = [
    inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=f.type) for f in fields(Session)
]


def common(ctx: typer.Context, version: bool = False, **options: Any) -> None:
    """Remember what was said before the verb."""
    if version:
        from importlib import metadata

        print(metadata.version("accrete"))
        raise typer.Exit()
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())
        raise typer.Exit()
    ctx.obj = Session().then(options)


def branch(ctx: typer.Context, **options: Any) -> None:
    """The callback of a group of verbs: it takes the common options too, and shows its help when no verb follows."""
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())
        raise typer.Exit()
    ctx.obj = (ctx.obj or Session()).then(options)


_CONTEXT = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)


def _declare(function: Callable[..., Any], parameters: list[inspect.Parameter]) -> None:
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {p.name: p.annotation for p in parameters}


_VERSION = inspect.Parameter(
    "version",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[bool, typer.Option("--version", help="Print the version.")],
)
_declare(common, [_CONTEXT, *_COMMON, _VERSION])
_declare(branch, [_CONTEXT, *_COMMON])


def verb(function: Callable[..., None]) -> Callable[..., None]:
    """A typer command from `function(session, ...)`: adds the common options and puts errors into one sentence."""

    @functools.wraps(function)
    def command(ctx: typer.Context, **arguments: Any) -> None:
        shared = {f.name: arguments.pop(f.name) for f in fields(Session)}
        session = (ctx.obj or Session()).then(shared)
        with one_sentence(bool(session.json)):
            function(session, **arguments)

    own = list(inspect.signature(function).parameters.values())[1:]
    keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    _declare(command, [_CONTEXT, *keyword, *_COMMON])
    del command.__wrapped__
    return command


@contextmanager
def one_sentence(as_json: bool) -> Iterator[None]:
    """Print what went wrong as one sentence and leave with its exit code; ACCRETE_DEBUG=1 lets tracebacks through."""
    try:
        yield
    except typer.Exit:
        raise
    except AccreteError as error:
        _fail(str(error), error.exit_code, as_json)
    except KeyboardInterrupt as stop:
        _fail(str(stop) or "Stopped; what was committed stands.", 130, as_json)
    except BrokenPipeError:
        os._exit(0)
    except MemoryError as error:
        _fail(f"MemoryError: {error}".rstrip(": ") + ". What was committed stands.", 1, as_json)
    except OSError as error:
        place = f" ({str(error.filename)[:100]})" if error.filename else ""
        _fail(f"{error.strerror or type(error).__name__}{place}. What was committed stands.", 1, as_json)
    except Exception as error:
        if os.environ.get("ACCRETE_DEBUG"):
            raise
        message = " ".join(str(error).split())[:300]
        _fail(f"Internal error ({type(error).__name__}): {message} [ACCRETE_DEBUG=1 shows where]", 1, as_json)


def _fail(sentence: str, code: int, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"error": sentence}, ensure_ascii=False))
    print(f"accrete: {sentence}", file=sys.stderr)
    raise typer.Exit(code)


SELDOM = 20.0  # seconds from line to line where there is no terminal


class Ticker:
    """Progress on stderr: a line that rewrites itself on a terminal; elsewhere one now and then, of what takes long."""

    def __init__(self, title: str, quiet: bool = False):
        self.title, self.quiet = title, quiet
        self.live = sys.stderr.isatty() and not quiet
        self._told = time.monotonic()

    def __call__(self, stage: str, step: int, loss: float) -> None:
        figures = f", step {step:,}, loss {loss:.3f}" if stage.startswith("learning") else ""
        if self.live:
            print(f"\r\x1b[K{self.title}: {stage}{figures}", end="", file=sys.stderr, flush=True)
        elif not self.quiet and time.monotonic() - self._told > SELDOM:
            self._told = time.monotonic()
            print(f"{self.title}: {stage}{figures}", file=sys.stderr, flush=True)

    def done(self) -> None:
        if self.live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
