"""The verbs of settings: config show, set, unset. Ends at a table, or at one line about what was changed."""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accrete.cli.lesson_lines import plain_table
from accrete.cli.session import Session, branch, verb
from accrete.errors import LockedError, UsageError, did_you_mean

if TYPE_CHECKING:
    from rich.console import Console

    from accrete.settings import Resolved

PATIENCE = 3.0  # seconds: another `config set` takes milliseconds, a lesson longer

app = typer.Typer(
    name="config",
    help="Show and change the settings of a home: its config.yaml, which ACCRETE_... variables and flags override.",
    rich_markup_mode=None,
)
app.callback(invoke_without_command=True)(branch)

Key = Annotated[str, typer.Argument(help="A setting, or METHOD.OPTION.", show_default=False)]


@app.command()
@verb
def show(
    session: Session,
    key: Annotated[str | None, typer.Argument(help="A setting, a METHOD or METHOD.OPTION; all without it.")] = None,
) -> None:
    """Show values and where they come from.

    The options of the chosen method are among them, and any other that was set.
    """
    rows = _rows(session.settings(), key)

    def human(console: "Console") -> None:
        from rich.text import Text

        table = plain_table("key", "value", "source")
        for row in rows:
            table.add_row(*(Text(cell) for cell in (row["key"], _text(row["value"]), row["source"])))
        console.print(table)

    session.print(rows, human)


@app.command("set")
@verb
def set_key(
    session: Session,
    key: Key,
    value: Annotated[str, typer.Argument(help="Its value.", show_default=False)],
) -> None:
    """Write a setting to the home's file.

    A wrong one is refused. Comments in config.yaml are not kept.
    """
    from accrete import settings
    from accrete.config import build

    home = session.home_directory()
    path = home / settings.FILE
    method, _, option = key.rpartition(".")
    wanted = _option_value(method, option, value) if method else _setting_value(key, value)
    with _one_writer(home):
        values = settings.checked_sections(settings.read_file(home), str(path))
        before = _in_file(values, key)
        section = values.setdefault("options", {}) if method else values
        if method:
            section = section.setdefault(method, {}) if isinstance(section, dict) else None
        if not isinstance(section, dict):
            raise UsageError(f'Under "options" in {path} there must be methods, and options with values under each.')
        section[option or key] = wanted
        build(settings.Settings, values, str(path))
        settings.write_file(home, values)
    variable = settings.variable_for(key)
    result = {"key": key, "value": wanted, "was": before, "file": str(path), "overridden_by": variable}
    line = f"{key} = {_text(wanted)} (was {_text(before)}), in {path}"
    line += f"; but {variable} in the environment wins over it" if variable else ""
    session.print(result, lambda console: console.print(line, markup=False, soft_wrap=True))


@app.command("unset")
@verb
def unset_key(session: Session, key: Key) -> None:
    """Take a setting out of the home's file.

    Its default counts again. A key that does not exist can be taken out too: so a wrong file is put right.
    """
    from accrete import settings

    home = session.home_directory()
    path = home / settings.FILE
    with _one_writer(home) if path.exists() else contextlib.nullcontext():
        values = settings.read_file(home)
        removed = _remove(values, key.removeprefix("options."))
        if removed is not _NOTHING:
            settings.write_file(home, values)
    if removed is _NOTHING:
        _in_file({}, key)  # complains about a key that does not exist
    result = {"key": key, "removed": removed is not _NOTHING, "was": None if removed is _NOTHING else removed}
    line = (
        f"{key} was not set in {path}; nothing was changed"
        if removed is _NOTHING
        else f"{key} is no longer set (was {_text(removed)}), in {path}"
    )
    session.print(result | {"file": str(path)}, lambda console: console.print(line, markup=False, soft_wrap=True))


# --- what is shown ----------------------------------------------------------------------------------------------------


def _rows(resolved: "Resolved", key: str | None) -> list[dict[str, Any]]:
    """key, value, source of every setting, or of `key`: one setting, the options of one method, or one option."""
    from accrete.methods import DEFAULT, base
    from accrete.settings import KEYS

    resolved.check_methods(base.names())
    values = {name: getattr(resolved.settings, name) for name in KEYS}
    values["method"] = values["method"] or DEFAULT
    shown = dict.fromkeys([values["method"], *(m for m, options in resolved.settings.options.items() if options)])
    asked = (key or "").partition(".")[0]
    for method in shown | dict.fromkeys(m for m in base.names() if m == asked):
        config = resolved.method_config(method, base.find(method).Config)
        values |= {f"{method}.{option}": value for option, value in config.model_dump(mode="json").items()}
    rows = [{"key": k, "value": v, "source": resolved.sources.get(k, "default")} for k, v in values.items()]
    if key is None:
        return rows
    found = [row for row in rows if row["key"] == key or row["key"].startswith(f"{key}.")]
    if not found:
        raise _unknown(key, values)
    return found


def _text(value: Any) -> str:
    """A value as it may be typed."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _unknown(key: str, known: Any) -> UsageError:
    return UsageError(f'There is no setting "{key}".{did_you_mean(key, known)}')


# --- what is changed --------------------------------------------------------------------------------------------------


def _setting_value(key: str, text: str) -> Any:
    """The value of a setting that was typed; UsageError when there is no such setting or it cannot be that."""
    from accrete import settings
    from accrete.config import build

    if key not in settings.KEYS:
        raise _unknown(key, settings.KEYS)
    if key == "method":
        from accrete.methods import base

        base.check_name(text)
    if key in ("device", "dtype"):
        from accrete.lm import load

        if key == "device":
            load.choose_device(text)
        elif text not in load.DTYPES:
            raise UsageError(f'Unknown dtype "{text}"; choose from {", ".join(load.DTYPES)}.')
    if key == "model" and text not in ("", "embedded") and Path(text).expanduser().is_dir():
        text = str(Path(text).expanduser().resolve())  # the next command may be called elsewhere
    value = settings.setting_value(key, text, "config set")
    return getattr(build(settings.Settings, {key: value}, "config set"), key)


def _option_value(method: str, option: str, text: str) -> Any:
    """The value of a method's option that was typed, as the method's Config has it."""
    from accrete import settings
    from accrete.methods import base

    given = {option: settings.parse_value(text, "config set")}
    alone = settings.Resolved(settings.Settings(), {}).with_options(base.check_name(method), given, "config set")
    return alone.method_config(method, base.find(method).Config).model_dump(mode="json")[option]


def _in_file(values: dict[str, Any], key: str) -> Any:
    """What a file that says `values` makes of a key: its value there, else the default. UsageError: no such key."""
    from accrete.settings import KEYS, Settings

    method, _, option = key.rpartition(".")
    if not method:
        if key not in KEYS:
            raise _unknown(key, KEYS)
        if key == "method":
            from accrete.methods import DEFAULT

            return values.get(key) or DEFAULT
        return values.get(key, getattr(Settings(), key))
    from accrete.methods import base

    default = base.find(base.check_name(method)).Config().model_dump(mode="json")
    if option not in default:
        raise _unknown(key, [f"{method}.{known}" for known in default])
    section = values.get("options")
    given = section.get(method) if isinstance(section, dict) else None
    return given.get(option, default[option]) if isinstance(given, dict) else default[option]


_NOTHING = object()


def _remove(values: dict[str, Any], key: str) -> Any:
    """Take `key` out of what a file says, known or not: this is how a wrong file is put right. Returns what it was."""
    if key in values:
        return values.pop(key)
    options = values.get("options")
    if not isinstance(options, dict):
        return _NOTHING
    method, dot, option = key.partition(".")
    if not dot:
        removed = options.pop(method, _NOTHING)
    else:
        section = options.get(method)
        removed = section.pop(option, _NOTHING) if isinstance(section, dict) else _NOTHING
        if section == {}:
            del options[method]
    if not options:
        del values["options"]
    return removed


@contextlib.contextmanager
def _one_writer(home: Path) -> Iterator[None]:
    """The home's lock, waited for a moment: two `config set` at once both count. Errors of the disk in plain words."""
    from accrete.store.home import plain_errors, writing

    deadline = time.monotonic() + PATIENCE
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(writing(home))
                break
            except LockedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        with plain_errors(home):
            yield
