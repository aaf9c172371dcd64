"""What a file is, by its bytes and its name, and its bytes as text. Ends at plain text with \\n line ends."""

from __future__ import annotations

import codecs
import contextlib
import re

from accrete.data.extract import extract
from accrete.errors import DocumentError

_CODE = """.asm .awk .bash .bat .c .cc .cfg .clj .cmake .coffee .cpp .cs .css .cu .cxx .d .dart .el .erl .ex .exs .f .f90 .for
.fs .go .gradle .groovy .h .hh .hpp .hrl .hs .hxx .ini .java .jl .js .json .jsx .kt .kts .lisp .lua .m .mjs .ml .mli .mm .nim
.pas .php .pl .pm .proto .ps1 .py .pyi .pyx .r .rb .rs .s .scala .scm .scss .sh .sol .sql .swift .tcl .toml .ts .tsx .v .vb
.vhd .vue .xml .yaml .yml .zig .zsh"""
CODE = frozenset(_CODE.split())
NO_DOCUMENTS = {
    "an image": ".png .jpg .jpeg .gif .bmp .tif .tiff .webp .ico .svg .heic .avif .psd",
    "sound or video": ".mp3 .wav .flac .ogg .m4a .aac .mp4 .mkv .mov .avi .webm",
    "an archive": ".zip .tar .gz .tgz .bz2 .xz .zst .7z .rar .jar .whl .iso .dmg .deb .rpm",
    "a binary file": ".exe .dll .so .dylib .a .o .obj .class .pyc .pyo .bin .dat .db .sqlite .sqlite3 .wasm .node "
    ".safetensors .gguf .pt .pth .ckpt .onnx .npy .npz .pkl .pickle .parquet .arrow .h5 .ttf .otf .woff .woff2 .eot",
    "a format that cannot be read yet": ".doc .docx .xls .xlsx .ppt .pptx .odt .ods .odp .rtf .epub .mobi .djvu",
}
WHY_NOT = {suffix: reason for reason, suffixes in NO_DOCUMENTS.items() for suffix in suffixes.split()}

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What files are really written in. Left to all that Python knows, a lone é of a French file becomes Arabic.
_ENCODINGS = """cp1252 cp1250 cp1251 cp1253 cp1254 cp1255 cp1256 cp1257 koi8_r iso8859_2 iso8859_5 iso8859_7 cp866
cp932 euc_jp gb18030 big5 cp949"""
_SAMPLE = 2**18  # bytes
_CONTROL = re.compile(r"[\0-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
_CHARSET = re.compile(rb"""<meta[^>]{0,200}charset\s{0,9}=\s{0,9}["']?([\w.-]{1,40})""", re.IGNORECASE)


def is_pdf(raw: bytes) -> bool:
    return b"%PDF-" in raw[:1024] and raw.lstrip()[:5] == b"%PDF-"


def pdf_text(raw: bytes, name: str) -> str:
    if not is_pdf(raw):
        raise DocumentError(f"{name} is no PDF, whatever its name says.")
    return plain(extract("pdf", raw, name))


def html_text(raw: bytes, name: str) -> str:
    declared = _CHARSET.search(raw[:4096])
    page = decode(raw, name, declared[1].decode("ascii", "replace") if declared else "")
    return plain(extract("html", page.encode(), name))


def plain(text: str) -> str:
    """Without what no text should hold: NUL and other control characters, and halves of surrogate pairs."""
    text = text.encode("utf-8", "replace").decode().replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n")
    return _CONTROL.sub("", text)


def decode(raw: bytes, name: str, declared: str = "") -> str:
    """Bytes as text with \\n line ends: by their mark, as UTF-8, as `declared`, or as what they look like.

    Raises DocumentError for binary data, for text that is nearly UTF-8, and where no encoding convinces.
    """
    encoding = next((encoding for mark, encoding in _MARKS if raw.startswith(mark)), "")
    try:
        text = raw.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        if encoding:
            raise DocumentError(f"{name} begins like {encoding[:6].upper()} text, but is not.") from None
        if b"\0" in raw:
            raise DocumentError(f"{name} is a binary file, not text.") from None
        text = _declared(raw, declared) or _guessed(raw, name, error.start)
    if "\0" in text or len(_CONTROL.findall(text[:65_536])) > len(text[:65_536]) / 20:
        raise DocumentError(f"{name} is a binary file, not text.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _declared(raw: bytes, encoding: str) -> str:
    """As the file itself says; empty when that is not true."""
    encoding = {"iso-8859-1": "cp1252", "latin-1": "cp1252", "latin1": "cp1252"}.get(encoding.lower(), encoding)
    try:
        return raw.decode(encoding) if encoding else ""
    except (LookupError, ValueError):
        return ""


def _guessed(raw: bytes, name: str, wrong_at: int) -> str:
    """The text of bytes that are not UTF-8, first at offset `wrong_at`."""
    from charset_normalizer import from_bytes

    line = raw.count(b"\n", 0, wrong_at) + 1
    lossy = raw.decode("utf-8", "replace")
    if lossy.count("\ufffd") * 2 <= len(re.findall(r"[^\0-\x7f\ufffd]", lossy)):  # read as anything else: mojibake
        raise DocumentError(f"{name} is UTF-8 text with wrong bytes in it (line {line}); save it as UTF-8 again.")
    # Plain ASCII says nothing about the encoding, and a sample without it says more.
    sample = b"\n".join(part[:1000] for part in raw.split(b"\n") if not part.isascii())[:_SAMPLE]
    matches = list(from_bytes(sample, cp_isolation=_ENCODINGS.split(), enable_fallback=False))
    best = max(matches, key=lambda match: match.coherence - 3 * match.chaos, default=None)
    if best is not None:
        rivals = [match for match in matches if match is not best and match.chaos <= best.chaos]
        western = [match for match in matches if "cp1252" in (match.encoding, *match.could_be_from_charset)]
        encoding, convincing = best.encoding, best.chaos <= 0.2 and (best.coherence >= 0.1 or not rivals)
        if western and western[0].coherence > best.coherence - 0.2 and western[0].chaos <= best.chaos:
            # By far the most frequent: others have to be better, not as good.
            encoding, convincing = "cp1252", western[0].chaos <= 0.05
        with contextlib.suppress(UnicodeDecodeError):
            text = raw.decode(encoding) if convincing else ""
            if text and not _CONTROL.search(text):
                return text
    raise DocumentError(f"{name} is in no encoding that could be told (line {line}); save it as UTF-8.")
