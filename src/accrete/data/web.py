"""A page of the web as a document, fetched within limits of time, size and place. Ends at a Document, or one sentence
that says why there is none.

A page may lie anywhere, and so may what it redirects to: every address that a name stands for is checked, and the
connection goes to one of those, with no second lookup between. There are no cookies, and proxies of the environment are
not used: behind one, the check would be about the proxy.
"""

from __future__ import annotations

import codecs
import gzip
import html
import http
import http.client
import io
import ipaddress
import re
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from accrete.data import formats
from accrete.data.documents import is_code
from accrete.errors import DocumentError, OfflineError
from accrete.types import Document

PATIENCE = 30.0  # seconds for all of it, the lookup and the redirects included
LARGEST = 16 * 2**20  # bytes of a page, unpacked
OVERHEAD = 2**20  # bytes more that may come over the wire: headers, the sizes of chunks
MOST_REDIRECTS = 5
LONGEST_URL = 4_096  # characters
KINDS = {
    "text/html": "html", "application/xhtml+xml": "html",
    "application/pdf": "pdf", "application/x-pdf": "pdf",
    "text/plain": "text", "text/markdown": "text", "text/x-markdown": "text", "application/json": "text",
    "application/octet-stream": "pdf",  # many servers say so of any PDF
    "": "text",
}  # fmt: skip

_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")
_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_-])?")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_SPECIAL = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24")))  # not in every Python's tables
_HEAD = 2**18  # bytes in which a title is looked for
_TITLE = re.compile(rb"<title[^<>]{0,200}>([^<]{1,1000})</title", re.IGNORECASE)
_LIKE_UTF8 = ("utf-16", "utf-32", "utf-7", "iso2022", "hz")  # encodings whose bytes may pass for UTF-8

_Place = tuple[Any, Any, int, str, Any]  # an entry of getaddrinfo


@dataclass(frozen=True)
class Address:
    """An http(s) address, sound as far as that can be told without the network. All of it is printable ASCII."""

    scheme: str
    host: str  # as in DNS; an IPv6 address without its brackets
    port: int
    target: str  # path and query

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def name(self) -> str:
        """host/path: the query is left out, for it may hold what is nobody's business."""
        return _shown(self.host + unquote(self.target.partition("?")[0], errors="replace").rstrip("/"), 200)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def is_address(text: str) -> bool:
    """Whether it is meant as an address, of whatever scheme."""
    return bool(_SCHEME.match(text))


def _shown(text: str, most: int = 100) -> str:
    """What another may have written, as text that can be printed."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text[:most])


def parse(text: str) -> Address:
    """An address, its fragment dropped. DocumentError for other schemes, user names and passwords, and what is none."""
    shown = _shown(re.sub(r"//.*@", "//...@", text))  # there may be a password
    wrong = DocumentError(f'"{shown}" is no address of a page; one is like https://host/page.')
    if any(c.isspace() or not c.isprintable() for c in text) or len(text) > LONGEST_URL:
        raise wrong
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in _PORTS:
        raise DocumentError(f'"{parts.scheme[:40]}://" cannot be read: pages come by only http and https.')
    if "@" in parts.netloc:
        raise DocumentError("The address of a page holds no name or password; leave out what stands before the @.")
    try:
        if ":" in host:
            sound = ipaddress.IPv6Address(host).scope_id is None
        else:
            host = host.encode("idna").decode().lower()
            sound = bool(_HOST.fullmatch(host))
    except ValueError:
        sound = False
    if not sound or port == 0:
        raise wrong
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~[]|")
    if parts.query:
        target += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~[]|?")
    return Address(parts.scheme, host, port or _PORTS[parts.scheme], target)


def check_online(offline: bool) -> None:
    """Raise OfflineError when `offline`."""
    if offline:
        raise OfflineError("A page is fetched over the network, and the network is switched off (--offline).")


def read_page(url: str, *, offline: bool = False, allow_private: bool = False) -> Document:
    """The page at an address, by its content type: HTML, PDF, Markdown, plain text, JSON. `source` is the last address.

    Names stand for public addresses only, unless `allow_private`. Raises OfflineError before any socket is opened,
    DocumentError for whatever cannot be fetched within the limits, or is no document.
    """
    address = parse(url)
    check_online(offline)
    deadline = time.monotonic() + PATIENCE
    for _ in range(MOST_REDIRECTS + 1):
        found = _fetched(address, deadline, allow_private)
        if isinstance(found, Document):
            return found
        address = found
    raise DocumentError(f"{parse(url)} leads to more than {MOST_REDIRECTS} redirects.")


def _fetched(address: Address, deadline: float, allow_private: bool) -> Document | Address:
    """The document, or where it is said to be. Everything that a network can do becomes one sentence."""
    try:
        places = _in_time(lambda: _addresses(address.host, address.port, allow_private), deadline)
        with closing(_connection(address, places, deadline)) as connection:
            connection.settimeout(_left(deadline))
            connection.sendall(_request(address))
            response = http.client.HTTPResponse(_Wire(connection, deadline, str(address)))  # type: ignore[arg-type]
            response.begin()
            if response.status in (301, 302, 303, 307, 308) and (location := response.getheader("Location")):
                return _redirected(address, location)
            kind, charset = _kind(address, response)
            raw = _body(address, response)
    except TimeoutError:
        raise DocumentError(f"{address} takes too long: more than {PATIENCE:g} seconds.") from None
    except socket.gaierror:
        raise DocumentError(f"There is no host {address.host}, or no network to ask for it.") from None
    except ssl.SSLCertVerificationError as error:
        why = error.verify_message.rstrip(".")
        raise DocumentError(f"The certificate of {address.host} does not prove who it is: {why}.") from None
    except ssl.SSLError:
        raise DocumentError(f"No secure connection to {address.authority} could be made.") from None
    except http.client.IncompleteRead:
        raise DocumentError(f"{address} was cut off before its end.") from None
    except ConnectionError as error:  # a server that hangs up without a word is one, too
        why = "the connection was refused" if isinstance(error, ConnectionRefusedError) else "the connection broke off"
        raise DocumentError(f"Cannot fetch {address}: {why}.") from None
    except (http.client.HTTPException, ValueError):
        raise DocumentError(f"{address} answers with something that is no HTTP.") from None
    except OSError as error:
        raise DocumentError(f"Cannot fetch {address}: {error.strerror or 'no connection'}.") from None
    return _document(address, raw, kind, charset)


def _left(deadline: float) -> float:
    """Seconds until the deadline; TimeoutError when there are none."""
    if (left := deadline - time.monotonic()) <= 0:
        raise TimeoutError
    return left


def _in_time(look_up: Callable[[], list[_Place]], deadline: float) -> list[_Place]:
    """What it gives; a lookup has no time limit of its own, so it is left alone with its work when it is late."""
    future: Future[list[_Place]] = Future()

    def work() -> None:
        try:
            future.set_result(look_up())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future.result(_left(deadline))


def _addresses(host: str, port: int, allow_private: bool) -> list[_Place]:
    """All that the name stands for, looked up once. DocumentError when one of them is no public address."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for *_, place in found:
        if not (allow_private or _is_public(ipaddress.ip_address(place[0]))):
            where = host if host == place[0] else f"{host} ({place[0]})"
            raise DocumentError(f"{where} is no public address; --allow-private reads it all the same.")
    return found


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:  # a way of writing an IPv4 address, and reaching it
            return _is_public(inner)
    special = address.is_multicast or address.is_reserved or getattr(address, "is_site_local", False)
    return address.is_global and not special and not any(address in network for network in _SPECIAL)


def _connection(address: Address, places: list[_Place], deadline: float) -> socket.socket:
    """Connected to the first of the places that answers, under TLS for https. The last error when none does."""
    last: OSError = OSError("no address")
    for number, (family, kind, protocol, _, place) in enumerate(places):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(_left(deadline) / (len(places) - number))  # one that is silent leaves time for others
            connection.connect(place)
            connection.settimeout(_left(deadline))
            if address.scheme == "http":
                return connection
            return ssl.create_default_context().wrap_socket(connection, server_hostname=address.host)
        except ssl.SSLError:
            connection.close()
            raise
        except OSError as error:
            connection.close()
            last = error
    raise last


def _request(address: Address) -> bytes:
    lines = (
        f"GET {address.target} HTTP/1.1",
        f"Host: {address.authority}",
        f"User-Agent: accrete/{metadata.version('accrete')}",
        "Accept: text/html, application/xhtml+xml, text/markdown, text/plain, application/pdf, application/json",
        "Accept-Encoding: gzip",
        "Connection: close",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii")


class _Wire(io.RawIOBase):
    """What the other side sends, for http.client to read: until the deadline, however slowly it drips, and only so much."""

    def __init__(self, connection: socket.socket, deadline: float, name: str):
        self.connection, self.deadline, self.name = connection, deadline, name
        self.allowed = LARGEST + OVERHEAD

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.connection.settimeout(_left(self.deadline))
        count = self.connection.recv_into(buffer)
        self.allowed -= count
        if self.allowed < 0:
            raise _too_large(self.name)
        return count


def _too_large(name: str) -> DocumentError:
    return DocumentError(f"{name} is larger than {LARGEST // 2**20} MB; save it and split it.")


def _redirected(address: Address, location: str) -> Address:
    """Where a redirect leads, relative ones included; http.client gives its bytes as Latin-1."""
    try:
        there = urljoin(str(address), location.encode("latin-1").decode("utf-8", "replace").strip())
    except ValueError:
        raise DocumentError(f"{address} is redirected to what is no address.") from None
    try:
        target = parse(there)
    except DocumentError as error:
        raise DocumentError(f"{address} is redirected to what cannot be read. {error}") from None
    if (address.scheme, target.scheme) == ("https", "http"):
        raise DocumentError(f"{address} is redirected from https to http, where anyone could change it.")
    return target


def _kind(address: Address, response: http.client.HTTPResponse) -> tuple[str, str]:
    """(kind, charset) by status and content type. DocumentError for what is no page, before any of it is read."""
    if response.status not in (200, 203, 204):
        known = {status.value: f" ({status.phrase})" for status in http.HTTPStatus}
        raise DocumentError(f"{address} answered with {response.status}{known.get(response.status, '')}.")
    stated = response.getheader("Content-Type") or ""
    media_type = stated.partition(";")[0].strip().lower()
    if response.status != 204 and media_type not in KINDS:
        raise DocumentError(
            f"{address} is {_shown(media_type, 60)}, which is no text: HTML, PDF, Markdown, plain text or JSON."
        )
    return KINDS.get(media_type, "text"), response.headers.get_content_charset() or ""


def _body(address: Address, response: http.client.HTTPResponse) -> bytes:
    """All bytes of a page, unpacked. DocumentError when they are too many, too few, or packed in an unknown way."""
    coding = (response.getheader("Content-Encoding") or "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip"):
        raise DocumentError(f"{address} came packed as {_shown(coding, 40)}, which was not asked for.")
    if (response.length or 0) > LARGEST:
        raise _too_large(str(address))
    try:
        stream: Any = response if coding == "identity" else gzip.GzipFile(fileobj=response)
        raw: bytes = stream.read(LARGEST + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise DocumentError(f"{address} came packed, and cannot be unpacked.") from None
    if len(raw) > LARGEST:
        raise _too_large(str(address))
    if response.length:  # read(n) does not complain about less than was promised
        raise http.client.IncompleteRead(b"", response.length)
    return raw


def _document(address: Address, raw: bytes, kind: str, charset: str) -> Document:
    name = str(address)
    if not raw.strip():
        raise DocumentError(f"{name} is empty.")
    if kind == "pdf" or formats.is_pdf(raw):
        title, text = "", formats.pdf_text(raw, name)
    elif kind == "html":
        page = formats.decode(_as_utf8(raw, charset), name, charset).encode() if charset else raw  # else by its <meta>
        title, text = _title(page), formats.html_text(page, name)
    else:
        title, text = "", formats.decode(_as_utf8(raw, charset), name, charset)
    if not text.strip():
        raise DocumentError(f"{name} is empty.")
    document = Document(title or address.name, text=text, source=name)
    if is_code(document) and (kind == "html" or formats.is_pdf(raw)):
        # github.com/.../main.py is a page about code, docs.rs a host: an empty fragment is the same page and no suffix.
        document = replace(document, source=f"{name}#")
    return document


def _title(page: bytes) -> str:
    """What a page calls itself; empty when it does not, or in an unknown encoding."""
    found = _TITLE.search(page[:_HEAD])
    try:
        return _shown(" ".join(html.unescape(found[1].decode()).split())) if found else ""
    except ValueError:
        return ""


def _as_utf8(raw: bytes, charset: str) -> bytes:
    """What is in an encoding that could be mistaken for UTF-8, as UTF-8; all else as it is."""
    try:
        if codecs.lookup(charset).name.startswith(_LIKE_UTF8):
            return raw.decode(charset).removeprefix("\ufeff").encode()
    except (LookupError, ValueError):
        pass
    return raw
