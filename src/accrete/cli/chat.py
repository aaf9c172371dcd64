"""The verb that talks: questions answered as they are written, lessons and undo in between. Ends at the end of input."""

import contextlib
import io
import shlex
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from accrete.cli.session import Session, Ticker, verb
from accrete.errors import AccreteError, UsageError, did_you_mean

if TYPE_CHECKING:
    from rich.console import Console

    from accrete.learner import Learner
    from accrete.settings import Settings

HELP = """/learn PATH...   learn documents, folders, pages (https://...)
/undo            take the last lesson back
/log             the lessons
/domain [NAME]   answer from one domain, without NAME from wherever it fits
/help, /quit     this, and leave (as the end of input does)"""


@verb
def chat(
    session: Session,
    domain: Annotated[str | None, typer.Option(help="The domain to read from; see `accrete domains`.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="How long an answer may be.", min=1)] = 128,
) -> None:
    """Talk with the model: answers stream; /learn, /undo and /log work inside. Every question stands alone."""
    from rich.console import Console

    if session.json:
        raise UsageError("chat is for people; `accrete ask --json` answers machines.")
    learner = session.learner()
    settings = session.settings(domain=domain).settings
    talk = Chat(learner, Console(highlight=False), domain, max_new_tokens, settings)
    if sys.stdin.isatty():
        print(f"{learner.lm.name}, {learner.method_name}. /help says what there is.")
    for line in _lines():
        try:
            if not talk.take(line.strip()):
                return
        except AccreteError as error:
            print(f"accrete: {error}", file=sys.stderr)
        except KeyboardInterrupt:
            print("\nStopped; what was committed stands.", file=sys.stderr)


def _lines() -> Iterator[str]:
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  # input() gets history and editing from it
    while True:
        try:
            yield input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return
        except KeyboardInterrupt:
            print()
            return


class Chat:
    """One conversation: takes a line, and says whether to go on."""

    def __init__(
        self, learner: "Learner", console: "Console", domain: str | None, max_new_tokens: int, settings: "Settings"
    ):
        self.learner, self.console, self.domain, self.max_new_tokens = learner, console, domain, max_new_tokens
        self.settings = settings

    def take(self, line: str) -> bool:
        """Answer a question, or do what a line that begins with "/" says."""
        if not line:
            return True
        if not line.startswith("/"):
            for piece in self.learner.stream_answer(line, domain=self.domain, max_new_tokens=self.max_new_tokens):
                print(piece, end="", flush=True)
            print(flush=True)
            return True
        word, _, rest = line[1:].partition(" ")
        commands: dict[str, Callable[[str], None]] = {
            "learn": self._learn, "undo": self._undo, "log": self._log, "domain": self._domain,
            "help": lambda _: print(HELP), "quit": lambda _: None, "exit": lambda _: None,
        }  # fmt: skip
        if word not in commands:
            raise UsageError(f'There is no command "/{word}".{did_you_mean(word, commands)}')
        commands[word](rest.strip())
        return word not in ("quit", "exit")

    def _learn(self, paths: str) -> None:
        from accrete.cli.desk import Desk, short, sources
        from accrete.cli.lesson_lines import print_lesson

        try:
            named = shlex.split(paths)
        except ValueError as error:
            raise UsageError(f"/learn: {error}.") from None
        if not named:
            raise UsageError("/learn wants the path of a document.")
        desk = Desk(self.settings.clean, offline=self.settings.offline)
        for path in sources(named):
            ticker = self.learner.progress = Ticker(short(path))
            try:
                document, left_out = desk.read(path)
                commit = self.learner.learn(document, domain=self.domain or self.settings.domain, left_out=left_out)
            finally:
                ticker.done()
            print_lesson(self.console, commit)

    def _undo(self, _: str) -> None:
        undone = self.learner.undo()
        print(f"undone: {undone.document} ({undone.id})")
        if self.domain and self.domain not in (self.learner.reader.domains or {}):
            self._domain("")  # nothing is left of it

    def _log(self, _: str) -> None:
        from accrete.cli.lesson_lines import print_log

        print_log(self.console, self.learner, self.learner.log()[::-1])

    def _domain(self, name: str) -> None:
        if name:
            self.learner.reader.chosen_domains([name], False)
        self.domain = name or None
        print(f"answering from {name}" if name else "answering from wherever it fits")
