"""Text out of PDF and HTML, in a child process that may take only so much time and memory. Ends at plain text, or one
sentence that says why there is none.

Both formats unpack: a few kilobytes can become gigabytes or hours, and the libraries that read them are large. A process
of its own is the one fence that holds whatever they do.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from accrete.errors import DocumentError

MEMORY = 2**30  # bytes of address space for one file
PATIENCE = 20.0  # seconds in which a file has to begin to give text
PACE = 4_000  # characters that buy one second more, so that a thick book may take its time ...
LONGEST = 300.0  # ... up to this many seconds
MOST_TEXT = 16 * 2**20  # characters: some five thousand pages
MOST_PAGES = 20_000
UNPACKED = 32 * 2**20  # bytes of one stream of a PDF: a page of text has thousands

_EMPHASIS = re.compile(r"</?(?:b|i|u|em|strong)(?:\s[^<>]{0,200})?>", re.IGNORECASE)  # asterisks are no part of a fact
_PARAGRAPHS = frozenset({"p", "div", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "br", "pre", "blockquote",
                         "section", "article", "td", "th", "dt", "dd", "title", "body"})  # fmt: skip


def extract(kind: str, raw: bytes, name: str) -> str:
    """The text of `raw`, a "pdf" or (as UTF-8) "html", read in a child process; `name` is for the sentence.

    Raises DocumentError when it is broken, encrypted, without text, or needs too much time or memory.
    """
    path = os.pathsep.join(place or os.getcwd() for place in sys.path)
    command = [sys.executable, "-P", "-m", "accrete.data.extract", kind]
    try:
        child = subprocess.run(
            command,
            input=raw,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what libraries have to say about the file
            env=os.environ | {"PYTHONPATH": path},
            timeout=LONGEST + 2 * PATIENCE,  # it stops itself long before, where the system has alarms
        )
    except subprocess.TimeoutExpired:
        raise DocumentError(f"{name} takes too long to read; split it.") from None
    except OSError as error:
        raise DocumentError(f"Cannot start a process to read {name}: {error.strerror}.") from None
    answer = child.stdout.decode("utf-8", "replace")
    if child.returncode == 0 and answer[:1] == "+":
        return answer[1:]
    if child.returncode == 0 and answer[:1] == "-":
        raise DocumentError(f"{name} {answer[1:]}")
    if child.returncode == -14:  # SIGALRM
        raise DocumentError(f"{name} takes too long to read; split it.")
    raise DocumentError(f"{name} is a broken {kind.upper()}: its reader failed.")


class Clock:
    """Ends this process when a file takes longer than the text it gives is worth; a mere check without `alarm`."""

    def __init__(self, alarm: bool = False) -> None:
        self.started, self.alarm = time.monotonic(), alarm
        self.earned(0)

    def earned(self, characters: int) -> None:
        """To be called whenever a piece is done: `characters` is all the text there is by now."""
        allowed = min(PATIENCE + characters / PACE, LONGEST) - (time.monotonic() - self.started)
        if allowed <= 0:
            raise DocumentError("takes too long to read; split it.")
        if self.alarm:
            import signal

            signal.alarm(math.ceil(min(allowed, PATIENCE)))  # its default ends the process, whatever runs in it


def read_pdf(raw: bytes, clock: Clock) -> str:
    """The text of a PDF, a blank line between pages. The errors' sentences begin with their verb."""
    import pypdf
    from pypdf.errors import DependencyError, LimitReachedError

    limits = {
        "zlib_maximum_output_length": UNPACKED,
        "lzw_maximum_output_length": UNPACKED,
        "run_length_maximum_output_length": UNPACKED,
        "array_based_stream_maximum_output_length": UNPACKED,
        "stream_decoding_work_maximum_length": 2 * UNPACKED,
        "stream_parsing_work_maximum_count": 1_000_000,
        "page_tree_maximum_entries": MOST_PAGES,
        "xform_maximum_invocations_per_extraction": 500,
    }
    if b"%%EOF" not in raw[-65_536:]:
        raise DocumentError("is an incomplete PDF: its end is missing.")
    try:
        with pypdf.apply_configuration(**limits):
            return _pages(pypdf.PdfReader(io.BytesIO(raw)), clock)
    except DependencyError:  # newer ciphers need a library of their own
        raise DocumentError("is encrypted; save it without a password.") from None
    except LimitReachedError:
        raise DocumentError("unpacks to more than a document should; it may be made to do harm.") from None
    except (DocumentError, MemoryError):
        raise
    except Exception:  # on broken files pypdf raises whatever its code runs into
        raise DocumentError("is a broken PDF.") from None


def _pages(reader: Any, clock: Clock) -> str:
    if reader.is_encrypted and not reader.decrypt(""):
        raise DocumentError("is encrypted; save it without a password.")
    count = len(reader.pages)
    if count < _declared(reader):
        raise DocumentError(f"is an incomplete PDF: only {count} of its pages are there.")
    if count > MOST_PAGES:
        raise DocumentError(f"has more than {MOST_PAGES:,} pages; split it.")
    texts, total = [], 0
    for page in reader.pages:
        texts.append("\n".join(line.rstrip() for line in page.extract_text().split("\n")).strip("\n"))
        total += len(texts[-1])
        if total > MOST_TEXT:
            raise DocumentError(f"holds more than {MOST_TEXT // 2**20} million characters; split it.")
        clock.earned(total)
    if not total:
        raise DocumentError("is a PDF without text (scanned pages?); run it through text recognition first.")
    return "\n\n".join(text for text in texts if text)


def _declared(reader: Any) -> int:
    """How many pages the file itself says it has; 0 when it does not."""
    count = reader.trailer["/Root"]["/Pages"].get("/Count", 0)
    return count if isinstance(count, int) else 0


def read_html(raw: bytes, clock: Clock) -> str:
    """The main text of a page, as Markdown; all of its text where no main text is found."""
    import trafilatura

    page = _EMPHASIS.sub("", raw.decode("utf-8", "replace"))
    text: str | None
    try:
        text = trafilatura.extract(page, output_format="markdown", include_comments=False)
    except MemoryError:
        raise
    except Exception:  # trafilatura joins several libraries; the plain text below is the answer to all of them
        text = None
    clock.earned(0)
    text = text if text and text.strip() else _plain(page)
    if not text.strip():
        raise DocumentError("is a page in which no text was found.")
    if len(text) > MOST_TEXT:
        raise DocumentError(f"holds more than {MOST_TEXT // 2**20} million characters; split it.")
    return text


def _plain(page: str) -> str:
    """All text of a page but scripts and styles, a line for each element that makes a line."""
    from lxml import etree  # type: ignore[import-untyped]
    from lxml.html import HTMLParser  # type: ignore[import-untyped]

    parser = HTMLParser(encoding="utf-8", recover=True)  # huge_tree stays off: depth has a limit
    try:
        root = etree.fromstring(page.encode("utf-8", "replace"), parser)
    except (etree.LxmlError, ValueError):
        return ""
    if root is None:
        return ""
    pieces: list[str] = []
    for event, element in etree.iterwalk(root, events=("start", "end", "comment", "pi")):
        tag = element.tag if isinstance(element.tag, str) else ""
        if tag in _PARAGRAPHS:
            pieces.append("\n\n")
        if event == "start" and tag and tag not in {"script", "style", "template", "noscript"}:
            pieces.append(element.text or "")
        if event != "start":
            pieces.append(element.tail or "")
    lines = (" ".join(line.split()) for line in re.split(r"\n\n+", "".join(pieces)))
    return "\n\n".join(line for line in lines if line)


READERS: dict[str, Callable[[bytes, Clock], str]] = {"pdf": read_pdf, "html": read_html}


def main() -> None:
    """The child: bytes in, '+' and the text or '-' and the rest of a sentence out."""
    logging.disable(logging.CRITICAL)
    with contextlib.suppress(ImportError, ValueError, OSError):  # not every system has it
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    try:
        clock = Clock(alarm=sys.platform != "win32")
        answer = "+" + READERS[sys.argv[1]](sys.stdin.buffer.read(), clock)
    except DocumentError as error:
        answer = f"-{error}"
    except MemoryError:
        answer = "-needs more than 1 GB of memory to read; split it."
    sys.stdout.buffer.write(answer.encode("utf-8", "replace"))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
