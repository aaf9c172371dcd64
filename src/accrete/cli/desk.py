"""What is to be learned: files, folders and pages as a queue, each read and cleaned in its turn. Ends at a Document for one
lesson."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from accrete.errors import DocumentError

if TYPE_CHECKING:
    from accrete.data.quality import LeftOut
    from accrete.types import Document

Source = Path | str  # a file, or the address of a page


def sources(named: Sequence[str], offline: bool = False) -> list[Source]:
    """Every document to be learned, folders opened; what is wrong stops everything before the first lesson.

    OfflineError for a page while `offline`.
    """
    from accrete.data import web

    queue: list[Source] = []
    for word in named:
        found: Sequence[Source]
        if web.is_address(word):
            found = [str(web.parse(word))]
            web.check_online(offline)
        else:
            found = _files(Path(word))
        queue += [source for source in found if source not in queue]
    return queue


def short(source: Source) -> str:
    """A source in a line of progress."""
    from accrete.data import web

    return source.name if isinstance(source, Path) else web.parse(source).name


def _files(path: Path) -> tuple[Path, ...]:
    """A file, or those of a folder; what was left out of it goes to stderr."""
    from accrete.data.documents import find_documents

    if not path.exists():
        raise DocumentError(f"There is no file {path}.")
    found = find_documents(path)
    if found.left_out:
        reasons = Counter(reason for _, reason in found.left_out)
        told = ", ".join(f"{count} ({reason})" for reason, count in reasons.most_common())
        print(f"left out of {path}: {told}", file=sys.stderr)
    return found.documents


class Desk:
    """Reads one document after the other, each less what is not worth learning or was in an earlier one."""

    def __init__(
        self, clean: bool = True, language: str | None = None, offline: bool = False, allow_private: bool = False
    ):
        from accrete.data.seen import Seen

        self.clean, self.language, self.seen = clean, language, Seen()
        self.offline, self.allow_private = offline, allow_private
        self._read_as: dict[Source, str] = {}

    def read(self, source: Source) -> tuple["Document", tuple["LeftOut", ...]]:
        """The document, and what was left out of it."""
        from accrete.data.documents import read_document
        from accrete.data.quality import clean

        if isinstance(source, Path):
            document = read_document(source)
        else:
            from accrete.data.web import read_page

            document = read_page(source, offline=self.offline, allow_private=self.allow_private)
        self._read_as[source] = document.source  # a page may have been redirected
        return clean(document, self.seen, language=self.language) if self.clean else (document, ())

    def forget(self, source: Source) -> None:
        """It was not learned after all: what it says may be learned from another."""
        self.seen.forget(self._read_as.get(source, str(source)))
