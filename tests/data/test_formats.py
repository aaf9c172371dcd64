"""Every kind of file gives a document or one sentence: what it is told by, and what it may cost."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from accrete.data import extract, formats
from accrete.data.documents import is_code, read_document
from accrete.data.formats import decode
from accrete.errors import DocumentError
from accrete.types import Document

FLATE = b"/Filter /FlateDecode"
PAGE = """<html><head><title>Mill</title><style>p {{}}</style></head><body><nav><a href=/>Home</a> <a href=/a>About</a></nav>
<article><h1>The mill of Brota</h1><p>The mill was built in <b>1834</b> by Jo &amp; sons. It stands by the river and grinds
flour.</p><p>In 1900 it <em>burned</em> down.{more}</p></article><script>track()</script></body></html>"""


def pdf(*pages: str | tuple[bytes, bytes], kids: bytes | None = None, count: int | None = None) -> bytes:
    """A PDF of pages of text, or of (content stream, its dictionary entries), with whatever page tree is asked for."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"", b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    numbers = []
    for page in pages:
        if isinstance(page, str):
            shown = b" T* ".join(b"(" + line.encode("latin-1") + b") Tj" for line in page.split("\n"))
            page = (b"BT /F1 12 Tf 14 TL 72 720 Td " + shown + b" ET", b"")
        stream, entries = page
        objects.append(b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(stream), entries, stream))
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> >>" % len(objects)
        )
        numbers.append(b"%d 0 R" % len(objects))
    objects[1] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (
        b" ".join(numbers) if kids is None else kids,
        len(numbers) if count is None else count,
    )
    out, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return out + b"xref\n0 %d\n0000000000 65535 f \n%strailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1,
        table,
        len(objects) + 1,
        len(out),
    )


GOOD = pdf("Hello World.\nThis is page one.", "And page two.")


def read(tmp_path: Path, raw: bytes, name: str) -> Document:
    path = tmp_path / name
    path.write_bytes(raw)
    return read_document(path)


def refusal(tmp_path: Path, raw: bytes, name: str) -> str:
    with pytest.raises(DocumentError) as caught:
        read(tmp_path, raw, name)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(tmp_path / name), "FILE")


# --- what a file is


@pytest.mark.parametrize("name", ["a.pdf", "A.PDF", "a.txt", "a.jsonl", "a"])
def test_a_pdf_is_one_whatever_its_name(tmp_path: Path, name: str) -> None:
    document = read(tmp_path, GOOD, name)
    assert document.text == "Hello World.\nThis is page one.\n\nAnd page two."
    assert (document.name, document.items) == (name, ())


def test_what_is_no_pdf_is_refused_as_one(tmp_path: Path) -> None:
    assert refusal(tmp_path, b"Just text about %PDF-1.4.", "a.pdf") == "FILE is no PDF, whatever its name says."


def test_code_is_read_as_it_is(tmp_path: Path) -> None:
    source = "def f():\n\treturn 'é'  \n\n\n"
    document = read(tmp_path, source.encode(), "f.py")
    assert document.text == source
    assert is_code(document) and not is_code(Document("notes.txt", "x")) and is_code(Document("a.JS", "x"))


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8-sig", "Grüße"),
        ("utf-16", "Grüße aus 東京"),
        ("utf-32", "Grüße aus 東京"),
        ("latin-1", "one\ntwo\ncafé"),
        ("cp1252", "“Quoted” text — it’s nice: 5 €"),
        ("latin-1", "El niño comió mañana."),
        ("cp1250", "Zażółć gęślą jaźń. Pchnąć w tę łódź jeża lub ośm skrzyń fig."),
        ("cp1251", "Это русский текст, который довольно длинный."),
        ("koi8-r", "Это русский текст, который довольно длинный."),
        ("cp1253", "Η Αθήνα είναι η πρωτεύουσα της Ελλάδας και έχει πολλούς κατοίκους."),
        ("cp932", "東京は日本の首都であり、多くの人々が住んでいます。これは日本語の文章です。"),
        ("gb18030", "北京是中华人民共和国的首都，是全国的政治中心、文化中心。"),
    ],
)
def test_encodings_are_told(encoding: str, text: str) -> None:
    assert decode(text.encode(encoding), "FILE") == text
    long = "Plain English, and much of it.\n" * 20_000 + text
    assert decode(long.encode(encoding), "FILE") == long


def test_line_ends_are_one_kind() -> None:
    assert decode(b"a\r\nb\rc\n", "FILE") == "a\nb\nc\n"


@given(st.binary(max_size=300), st.sampled_from(["", "utf-8", "latin-1", "rot13", "idna", "no-such", "\0"]))
def test_decoding_gives_text_or_a_sentence(raw: bytes, declared: str) -> None:
    try:
        text = decode(raw, "FILE", declared)
    except DocumentError as error:
        assert str(error).startswith("FILE ") and "\n" not in str(error)
    else:
        text.encode()
        assert "\0" not in text and "\r" not in text


# --- HTML


def test_the_main_text_of_a_page(tmp_path: Path) -> None:
    text = read(tmp_path, PAGE.format(more=" It was built again.").encode(), "a.html").text
    assert text.startswith("# The mill of Brota\n\nThe mill was built in 1834 by Jo & sons.")
    assert text.endswith("In 1900 it burned down. It was built again.")
    assert "Home" not in text and "track" not in text


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (
            b"<p>Just one <b>sentence</b> here.</p><script>x()</script><p>And two.</p>",
            "Just one sentence here.\n\nAnd two.",
        ),
        (b"no tags at all", "no tags at all"),
        ("<meta charset=iso-8859-1><p>Un bon café “là”.</p>".encode("cp1252"), "Un bon café “là”."),
    ],
    ids=["small", "no tags", "charset"],
)
def test_the_plain_text_where_no_main_text_is_found(tmp_path: Path, page: bytes, text: str) -> None:
    assert read(tmp_path, page, "a.htm").text == text


def test_a_page_holds_no_odd_characters() -> None:
    text = formats.plain(extract.read_html(b"<p>a&#xD800;b&#0;c&#1;d\x02e</p>", extract.Clock()))
    text.encode()
    assert "\0" not in text and "\x01" not in text and "\x02" not in text


@pytest.mark.parametrize("page", [b"<html></html>", b"<script>var x</script>", b"<div>" * 300_000 + b"x"])
def test_a_page_without_text(tmp_path: Path, page: bytes) -> None:
    assert refusal(tmp_path, page, "a.html") == "FILE is a page in which no text was found."


@pytest.mark.slow
def test_a_huge_page_ends_in_a_sentence(tmp_path: Path) -> None:
    page = b"<p>A sentence of some words.</p>\n" * 1_500_000
    assert refusal(tmp_path, page, "a.html") in {
        "FILE needs more than 1 GB of memory to read; split it.",
        "FILE takes too long to read; split it.",
    }


# --- PDF


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (GOOD[:-60], "FILE is an incomplete PDF: its end is missing."),
        (GOOD[:300], "FILE is an incomplete PDF: its end is missing."),
        (b"%PDF-1.4\n%%EOF", "FILE is a broken PDF."),
        (GOOD.replace(b"/Pages 2", b"/Pages 9"), "FILE is a broken PDF."),
        (pdf(""), "FILE is a PDF without text (scanned pages?); run it through text recognition first."),
        (pdf("x", kids=b"2 0 R"), "FILE is a broken PDF."),
        (pdf("x", count=10**9), "FILE is an incomplete PDF: only 1 of its pages are there."),
        (pdf("x", kids=b"5 0 R " * 50_000), "FILE unpacks to more than a document should; it may be made to do harm."),
        (
            b"%PDF-1.4\n1 0 obj\n" + b"[" * 1_000_000 + b"\nendobj\ntrailer << /Root 1 0 R >>\n%%EOF",
            "FILE is a broken PDF.",
        ),
    ],
    ids=["cut", "half", "nothing", "no pages", "no text", "circle", "count", "pages", "nested"],
)
def test_a_pdf_that_is_refused(tmp_path: Path, raw: bytes, complaint: str) -> None:
    assert refusal(tmp_path, raw, "a.pdf") == complaint


def test_a_pdf_bomb_ends_in_a_sentence(tmp_path: Path) -> None:
    once = zlib.compress(b" " * 100_000_000, 9)
    twice = zlib.compress(once, 9)
    operators = zlib.compress(b"BT /F1 12 Tf " + b"(a) Tj " * 4_000_000 + b"ET", 9)
    double = b"/Filter [/FlateDecode /FlateDecode]"
    for stream, entries in ((once, FLATE), (twice, double), (operators, FLATE)):
        complaint = refusal(tmp_path, pdf("Text first.", (stream, entries)), "a.pdf")
        assert complaint == "FILE unpacks to more than a document should; it may be made to do harm."
    # In a process of its own: this one may have had larger children.
    measure = "import resource as r, sys; from accrete.data.documents import read_document as d\ntry: d(sys.argv[1])\n"
    measure += "except Exception: print(r.getrusage(r.RUSAGE_CHILDREN).ru_maxrss)"
    ran = subprocess.run([sys.executable, "-c", measure, str(tmp_path / "a.pdf")], capture_output=True, check=True)
    assert 0 < int(ran.stdout) < 2**20  # KiB


def encrypted(password: str) -> bytes:
    import io

    import pypdf

    writer = pypdf.PdfWriter(clone_from=io.BytesIO(GOOD))
    writer.encrypt(password, owner_password="owner", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def test_an_encrypted_pdf(tmp_path: Path) -> None:
    assert refusal(tmp_path, encrypted("secret"), "a.pdf") == "FILE is encrypted; save it without a password."
    assert read(tmp_path, encrypted(""), "a.pdf").text.startswith("Hello World.")  # only printing is forbidden


def test_a_pdf_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract, "PATIENCE", 0.0)
    with pytest.raises(DocumentError, match="takes too long"):
        extract.read_pdf(GOOD, extract.Clock())


@pytest.mark.parametrize(
    ("code", "told"), [(-14, "takes too long"), (-11, "its reader failed"), (1, "its reader failed")]
)
def test_a_child_that_dies(monkeypatch: pytest.MonkeyPatch, code: int, told: str) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *args, **rest: subprocess.CompletedProcess(args, code, b"+half", b""))
    with pytest.raises(DocumentError, match=f"FILE .*{told}"):
        extract.extract("pdf", GOOD, "FILE")


def test_the_child_ends_itself_even_where_it_hangs() -> None:
    program = (
        "import sys, time; from accrete.data import extract; extract.PATIENCE = 1.0; sys.argv = ['x', 'pdf'];"
        "extract.READERS['pdf'] = lambda raw, clock: time.sleep(30); extract.main()"
    )
    started = time.monotonic()
    assert subprocess.run([sys.executable, "-c", program], input=b"").returncode == -signal.SIGALRM
    assert time.monotonic() - started < 20


def test_more_text_than_a_document_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract, "MOST_TEXT", 20)
    with pytest.raises(DocumentError, match="million characters; split it"):
        extract.read_pdf(GOOD, extract.Clock())


def document_or_sentence(kind: str, raw: bytes) -> None:
    try:
        text = extract.READERS[kind](raw, extract.Clock())
    except DocumentError as error:
        assert "\n" not in str(error)
    else:
        assert formats.plain(text).strip()


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(seed=st.integers(0, 10**6), changes=st.integers(1, 40), cut=st.booleans())
def test_a_corrupted_pdf_gives_text_or_a_sentence(seed: int, changes: int, cut: bool) -> None:
    dice, raw = random.Random(seed), bytearray(GOOD)
    for _ in range(changes):
        place = dice.randrange(9, len(raw))
        raw[place] = dice.choice(b"0123456789 <>[]/()RX\0\xff\n")
    if cut:
        place = dice.randrange(9, len(raw))
        raw[place:] = raw[dice.randrange(place, len(raw)) :]
    document_or_sentence("pdf", bytes(raw))


# --- anything


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    raw=st.one_of(
        st.binary(max_size=400),
        st.text(max_size=200).map(str.encode),
        st.binary(max_size=99).map(b"%PDF-1.4\n".__add__),
    ),
    name=st.sampled_from(["a.txt", "a.md", "a.jsonl", "a.pdf", "a.html", "a.py", "a"]),
)
@example(raw=b"<html>\xff<body", name="a.html")
@example(raw=b'{"text": "' + b"9" * 5000, name="a.jsonl")
@example(raw=b'{"text": ' + b"9" * 5000 + b"}", name="a.jsonl")
@example(raw=b"%PDF-1.7\n1 0 obj\nendobj\ntrailer<</Root 1 0 R>>%%EOF", name="a.txt")
def test_any_bytes_give_a_document_or_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: bytes, name: str
) -> None:
    """In this process: the child of every example would take minutes."""
    monkeypatch.setattr(formats, "extract", lambda kind, raw, name: extract.READERS[kind](raw, extract.Clock()))
    try:
        document = read(tmp_path, raw, name)
    except DocumentError as error:
        assert "\n" not in str(error)
    else:
        assert document.text.strip() or document.items
        assert "\0" not in document.text
        document.text.encode()


def test_reading_is_quick_and_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()
    read(tmp_path, GOOD.replace(b"startxref\n", b"startxref\n7"), "a.pdf")  # pypdf has something to say about this
    assert time.monotonic() - started < 10
    assert capfd.readouterr() == ("", "")
