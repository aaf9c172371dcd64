"""Pages of the web: what is fetched, from where, how much of it and for how long. A server of our own stands for the world."""

from __future__ import annotations

import gzip
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from accrete.data import extract, formats, web
from accrete.data.documents import is_code
from accrete.errors import DocumentError, OfflineError

TEXT = "The lighthouse of Norvik was built in 1874. Edda Kolm keeps it, and she writes down every ship that passes by."
PAGE = f"<html><head><title>The &amp; lighthouse</title></head><body><main><h1>Norvik</h1><p>{TEXT}</p></main></body></html>"


@pytest.fixture
def serve():
    """Starts a server whose answer to GET is what a function writes; gives its address."""
    servers = []

    def start(answer: Callable[[BaseHTTPRequestHandler], None]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                seen.append((self.path, dict(self.headers)))
                answer(self)

            def log_message(self, *arguments): ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    seen: list[tuple[str, dict]] = []
    start.seen, start.servers = seen, servers
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def says(body: bytes, kind: str = "text/html; charset=utf-8", status: int = 200, **headers: str):
    def answer(handler):
        handler.send_response(status)
        if kind:
            handler.send_header("Content-Type", kind)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def test_a_page_is_a_document_with_its_title_and_its_text(serve):
    place = serve(says(PAGE.encode()))
    document = web.read_page(f"{place}/docs/norvik.html?a=b#part", allow_private=True)
    assert document.name == "The & lighthouse" and TEXT in document.text and "<" not in document.text
    assert document.source.startswith(f"{place}/docs/norvik.html")
    ((path, headers),) = serve.seen
    assert path == "/docs/norvik.html?a=b" and headers["User-Agent"].startswith("accrete/")
    assert not {"Cookie", "Authorization", "Referer"} & set(headers)


@pytest.mark.parametrize("kind", ["text/plain", "text/markdown; charset=utf-8", "application/json", ""])
def test_plain_text_is_taken_as_it_is(serve, kind):
    place = serve(says(TEXT.encode(), kind))
    document = web.read_page(f"{place}/a/b.md", allow_private=True)
    assert document.text.strip() == TEXT and document.name == "127.0.0.1/a/b.md"


def test_the_charset_of_the_server_counts(serve):
    body = "Übergröße der Türme: für Ängstliche öffnet der Wärter früh.".encode("latin-1")
    place = serve(says(body, "text/plain; charset=iso-8859-1"))
    assert "Übergröße" in web.read_page(place, allow_private=True).text


@pytest.mark.parametrize("packed", ["gzip", "x-gzip"])
def test_what_is_packed_though_not_asked_for_is_unpacked(serve, packed):
    place = serve(says(gzip.compress(TEXT.encode()), "text/plain", Content_Encoding=packed))
    assert web.read_page(place, allow_private=True).text.strip() == TEXT


# --- refused -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://example.org/a", "only http and https"),
        ("file:///etc/passwd", "only http and https"),
        ("http://", "no address of a page"),
        ("http://exa mple.org/", "no address of a page"),
        ("http://example.org:99999/", "no address of a page"),
        ("http://[::1/", "no address of a page"),
        ("https://me:secret@example.org/", "name or password"),
    ],
)
def test_what_is_no_address_of_a_page(monkeypatch, url, said):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("it was looked up"))
    with pytest.raises(DocumentError, match=said) as caught:
        web.read_page(url)
    assert "secret" not in str(caught.value)


def test_offline_nothing_is_looked_up(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("it was looked up"))
    with pytest.raises(OfflineError, match="--offline"):
        web.read_page("https://example.org/", offline=True)


PRIVATE = ["127.0.0.1", "10.1.2.3", "192.168.0.9", "169.254.169.254", "0.0.0.0", "224.0.0.1", "100.64.0.1", "::1", "fe80::1",
           "fd00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1"]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_a_name_that_leads_into_the_network_here_is_refused(monkeypatch, address):
    """Even if it leads to a public address as well: which one is used is not for the page to choose."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    places = [(socket.AF_INET, 1, 6, "", ("93.184.216.34", 80)), (family, 1, 6, "", (address, 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: places)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("it was connected to"))
    with pytest.raises(DocumentError, match="no public address; --allow-private"):
        web.read_page("http://innocent.example/")


def test_the_address_that_was_checked_is_the_one_that_is_used(serve, monkeypatch):
    """A second lookup might answer otherwise (DNS rebinding); there is none."""
    place = serve(says(TEXT.encode(), "text/plain"))
    port, lookups = int(place.rpartition(":")[2]), []

    def getaddrinfo(host, *_, **__):
        lookups.append(host)
        return [(socket.AF_INET, 1, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(ipaddress.IPv4Address, "is_global", property(lambda _: True))
    assert web.read_page(f"http://rebinding.example:{port}/").text.strip() == TEXT
    assert lookups == ["rebinding.example"] and serve.seen[0][1]["Host"] == f"rebinding.example:{port}"


def test_a_redirect_is_followed_and_each_is_checked(serve, monkeypatch):
    last = serve(says(TEXT.encode(), "text/plain"))
    first = serve(says(b"", status=302, Location=f"{last}/there"))
    assert web.read_page(f"{first}/here", allow_private=True).source == f"{last}/there"
    checked, real = [], web._addresses
    monkeypatch.setattr(
        web, "_addresses", lambda host, port, private: checked.append(port) or real(host, port, len(checked) < 2)
    )
    with pytest.raises(DocumentError, match="no public address"):
        web.read_page(f"{first}/here")
    assert len(checked) == 2


def test_redirects_end(serve):
    place = serve(says(b"", status=301, Location="/again"))
    with pytest.raises(DocumentError, match="more than 5 redirects"):
        web.read_page(place, allow_private=True)
    assert len(serve.seen) == 6


@pytest.mark.parametrize("target", ["ftp://example.org/", "file:///etc/passwd", "http://user@example.org/"])
def test_a_redirect_elsewhere_is_none(serve, target):
    place = serve(says(b"", status=302, Location=target))
    with pytest.raises(DocumentError, match=r"only http|name or password"):
        web.read_page(place, allow_private=True)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (says(b"gone", status=404), "answered with 404"),
        (says(b"", "text/plain"), "is empty"),
        (says(b"   \n ", "text/plain"), "is empty"),
        (says(b"\x89PNG\r\n\x1a\n" + bytes(100), "image/png"), "is image/png, which is no text"),
        (says(b"\x00\x01\x02" * 40, "text/plain"), "127.0.0.1"),
        (says(b"abc", "text/plain", Content_Encoding="br"), "packed as br"),
        (says(b"no gzip", "text/plain", Content_Encoding="gzip"), "cannot be unpacked"),
        (says(b"abc", "text/plain", Content_Length="100"), "cut off|Cannot fetch"),
        (lambda handler: handler.wfile.write(b"hello, who is there?\r\n"), "no HTTP"),
        (lambda handler: None, "Cannot fetch"),
    ],
)
def test_what_is_no_text_is_one_sentence(serve, answer, said):
    with pytest.raises(DocumentError, match=said) as caught:
        web.read_page(serve(answer), allow_private=True)
    assert "\n" not in str(caught.value)


def test_nobody_there_and_no_such_host(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DocumentError, match="refused"):
        web.read_page(f"http://127.0.0.1:{port}/", allow_private=True)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: (_ for _ in ()).throw(socket.gaierror(-2, "no")))
    with pytest.raises(DocumentError, match=r"no host nowhere\.example"):
        web.read_page("http://nowhere.example/")


def test_https_without_a_certificate_is_refused(serve):
    place = serve(says(TEXT.encode(), "text/plain")).replace("http:", "https:")
    with pytest.raises(DocumentError, match=r"secure connection|certificate"):
        web.read_page(place, allow_private=True)


# --- limits ------------------------------------------------------------------------------------------------------------


def test_too_large_ends_early(serve, monkeypatch):
    monkeypatch.setattr(web, "LARGEST", 100_000)
    sent = []

    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        try:
            while len(sent) < 10_000:
                handler.wfile.write(b"word " * 2_000)
                sent.append(1)
        except OSError:
            pass

    with pytest.raises(DocumentError, match="larger than"):
        web.read_page(serve(endless), allow_private=True)
    assert len(sent) < 5_000


def test_a_small_page_that_unpacks_to_much_is_too_large(serve, monkeypatch):
    monkeypatch.setattr(web, "LARGEST", 1_000_000)
    bomb = gzip.compress(bytes(50_000_000))
    with pytest.raises(DocumentError, match="larger than"):
        web.read_page(serve(says(bomb, "text/plain", Content_Encoding="gzip")), allow_private=True)


@pytest.mark.parametrize(
    "part", [b"HTTP/1.0 200 OK\r\nX-A: b\r\n", b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n"]
)
def test_a_byte_now_and_then_does_not_last_for_ever(serve, monkeypatch, part):
    """In the headers and in the body: each byte is in time, all of them are not."""
    monkeypatch.setattr(web, "PATIENCE", 0.4)

    def drip(handler):
        try:
            handler.wfile.write(part)
            for _ in range(100):
                handler.wfile.write(b"x")
                handler.wfile.flush()
                time.sleep(0.05)
        except OSError:
            pass

    started = time.monotonic()
    with pytest.raises(DocumentError, match="too long"):
        web.read_page(serve(drip), allow_private=True)
    assert time.monotonic() - started < 2


def test_what_is_meant_as_an_address():
    assert all(map(web.is_address, ["https://a.b/c", "ftp://x", "HTTP://A"]))
    assert not any(map(web.is_address, ["notes.md", "C:/x", "./http/x", "a:b"]))


# --- places ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def names(monkeypatch):
    """What every name stands for from now on, as a list of addresses to fill; all of them lead to what is bound here."""
    places: list[str] = []

    def getaddrinfo(host, port, *_, **__):
        return [(socket.AF_INET6 if ":" in p else socket.AF_INET, socket.SOCK_STREAM, 6, "", (p, port)) for p in places]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return places


@pytest.mark.parametrize(
    "address",
    ["64:ff9b::7f00:1", "2002:0a00:0001::", "2001:0:7f00:1::1", "fec0::1", "::", "ff02::1", "2001:db8::1", "::7f00:1",
     "fe80::1%1", "192.0.0.8", "198.18.0.1", "240.0.0.1", "255.255.255.255", "172.31.0.1"],
)  # fmt: skip
def test_no_way_of_writing_it_makes_an_address_public(names, address):
    names.append(address)
    with pytest.raises(DocumentError, match="no public address"):
        web.read_page("http://innocent.example/")


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:21f::1", "64:ff9b::5db8:d822", "::ffff:93.184.216.34"])
def test_public_addresses_are_connected_to_and_nothing_else_is(names, monkeypatch, address):
    names.append(address)
    connected = []

    def connect(_, place):
        connected.append(place)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(DocumentError, match="refused"):
        web.read_page("https://public.example/")
    assert connected == [(address, 443)]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "127。0。0。1"])
def test_this_machine_has_many_names(monkeypatch, host):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("it was connected to"))
    with pytest.raises(DocumentError, match="no public address"):
        web.read_page(f"http://{host}:8000/")


def test_a_place_where_nobody_is_leaves_the_next(serve, names):
    place = serve(says(TEXT.encode(), "text/plain"))
    names += ["127.0.0.2", "127.0.0.1"]  # the server listens at the second alone
    port = place.rpartition(":")[2]
    assert web.read_page(f"http://two.example:{port}/", allow_private=True).text == TEXT


def test_a_lookup_has_its_time(monkeypatch):
    monkeypatch.setattr(web, "PATIENCE", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(1))
    started = time.monotonic()
    with pytest.raises(DocumentError, match="too long"):
        web.read_page("https://slow.example/")
    assert time.monotonic() - started < 0.8


@pytest.mark.parametrize(
    "url", ["https://me:sec ret@a.example/", "https://me:se/cret@a.example/", "https://me:s@[::1/"]
)
def test_a_password_is_never_shown(url):
    with pytest.raises(DocumentError) as caught:
        web.read_page(url)
    assert not [word for word in ("me:", "cret", "ret@", "s@") if word in str(caught.value)]


def test_other_alphabets_reach_the_server_as_they_should(serve):
    place = serve(says(TEXT.encode(), "text/plain"))
    document = web.read_page(f"{place}/Mühle am%20Fluss?wo=köln&a=%26".replace(" ", "%20"), allow_private=True)
    assert serve.seen[0][0] == "/M%C3%BChle%20am%20Fluss?wo=k%C3%B6ln&a=%26"
    assert document.name == "127.0.0.1/Mühle am Fluss" and str(web.parse("https://münster.example/")).startswith(
        "https://xn--mnster-3ya.example/"
    )


# --- TLS ---------------------------------------------------------------------------------------------------------------

# Made for this test, for the name mill.test, until 2126: openssl req -x509 -newkey ec -subj /CN=mill.test ...
CERTIFICATE = """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgbGxVg9qlr34WkXFv
ooMNyBRGphpFLlVX8ECecQy0fJ2hRANCAAQOdOwnKSeglETIK4ZKuT1ZHpe9tobM
vSAZJJvwP3pVauDa3LzbDC+hXHKQsdQWHEnzrm8rTaTsCxDFfHepPORQ
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBpjCCAUugAwIBAgIUISbEnYUdCy+Mi8455wNmqEDlwAowCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbWlsbC50ZXN0MCAXDTI2MTEyMzA5MzU1NFoYDzIxMjYxMDMw
MDkzNTU0WjAUMRIwEAYDVQQDDAltaWxsLnRlc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQOdOwnKSeglETIK4ZKuT1ZHpe9tobMvSAZJJvwP3pVauDa3LzbDC+h
XHKQsdQWHEnzrm8rTaTsCxDFfHepPORQo3kwdzAdBgNVHQ4EFgQUcbu1Qek2oFOE
SAK9HUhNmjD3LcgwHwYDVR0jBBgwFoAUcbu1Qek2oFOESAK9HUhNmjD3LcgwFAYD
VR0RBA0wC4IJbWlsbC50ZXN0MA4GA1UdDwEB/wQEAwIChDAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0kAMEYCIQDmnFu1LClM1fKz8TAAgyhEAfqImN/q+8CZ
CCLSe9HYawIhAKCYlFEsSDrbaq1lhZBF/6bhdZa3umgvQQisgcSQHdAI
-----END CERTIFICATE-----
"""


@pytest.fixture
def secure(serve, names, tmp_path):
    """Starts a server under TLS; gives its port. Every name leads to it."""
    file = tmp_path / "mill.pem"
    file.write_text(CERTIFICATE)
    names.append("127.0.0.1")

    def start(answer) -> int:
        place = serve(answer)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        serve.servers[-1].socket = context.wrap_socket(
            serve.servers[-1].socket, server_side=True, do_handshake_on_connect=False
        )
        return int(place.rpartition(":")[2])

    return start


def test_a_certificate_must_be_trusted_and_for_this_name(secure, monkeypatch, tmp_path):
    port = secure(says(PAGE.encode()))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    with pytest.raises(DocumentError, match=r"certificate of mill\.test .* self-signed"):
        web.read_page(f"https://mill.test:{port}/", allow_private=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "mill.pem"))
    assert TEXT in web.read_page(f"https://mill.test:{port}/", allow_private=True).text
    for other in ("other.test", "127.0.0.1"):
        with pytest.raises(DocumentError, match=f"certificate of {other} .* not valid for"):
            web.read_page(f"https://{other}:{port}/", allow_private=True)


@pytest.mark.parametrize(("scheme", "said"), [("http", "from https to http"), ("https", "more than 5 redirects")])
def test_a_redirect_never_leaves_tls(secure, monkeypatch, tmp_path, scheme, said):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "mill.pem"))
    port = secure(lambda handler: says(b"", status=307, Location=f"{scheme}://mill.test:{port}/")(handler))
    with pytest.raises(DocumentError, match=said):
        web.read_page(f"https://mill.test:{port}/", allow_private=True)


# --- bytes and what they mean ------------------------------------------------------------------------------------------

GERMAN = "Der Müller öffnet die Mühle früh am Morgen, und über dem Fluss hängt dann noch der Nebel der Nacht."


@pytest.fixture
def in_this_process(monkeypatch):
    """HTML is read without a child process, which costs most of the time here."""
    monkeypatch.setattr(formats, "extract", lambda kind, raw, name: extract.READERS[kind](raw, extract.Clock()))


@pytest.mark.parametrize(
    ("encoding", "kind", "head"),
    [
        ("latin-1", "text/html; charset=ISO-8859-1", ""),
        ("latin-1", "text/html", '<meta charset="iso-8859-1">'),
        ("utf-8", "text/html", '<meta charset="iso-8859-1">'),
        ("cp1252", 'text/html; charset="windows-1252"', '<meta charset="koi8-r">'),  # the server has the last word
        ("utf-16-le", "text/html; charset=utf-16le", ""),
        ("utf-8", "text/html; charset=no-such-charset", ""),
        ("utf-8", "application/xhtml+xml", ""),
    ],
)
def test_the_encoding_of_a_page(serve, in_this_process, encoding, kind, head):
    page = f"<html><head>{head}<title>Mühle</title></head><body><article><p>{GERMAN}</p></article></body></html>"
    document = web.read_page(serve(says(page.encode(encoding), kind)), allow_private=True)
    assert GERMAN in document.text and document.name in ("Mühle", "127.0.0.1")


def test_japanese_mail_encoding_is_not_taken_for_ascii(serve):
    place = serve(says("灯台は岬にある。".encode("iso-2022-jp"), "text/plain; charset=ISO-2022-JP"))
    assert web.read_page(place, allow_private=True).text == "灯台は岬にある。"


@pytest.mark.parametrize("kind", ["application/pdf", "application/octet-stream", ""])
def test_a_pdf(serve, monkeypatch, kind):
    monkeypatch.setattr(formats, "extract", lambda kind, raw, name: f"{kind}, {len(raw)} bytes")
    assert web.read_page(serve(says(b"%PDF-1.7 ...", kind)), allow_private=True).text == "pdf, 12 bytes"


def test_a_page_about_code_is_a_page_and_code_is_code(serve, in_this_process):
    """Code is not cleaned; docs.rs is no file of Rust."""
    place = serve(says(PAGE.encode()))
    assert not is_code(web.read_page(f"{place}/blob/main.py", allow_private=True))
    place = serve(says(b"x = 1\n", "text/plain"))
    assert is_code(web.read_page(f"{place}/raw/main.py", allow_private=True))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"5\r\nabcde\r\n0\r\n\r\n", ""),
        (b"5\r\nabcde\r\n", "cut off"),
        (b"-5\r\nabcde\r\n0\r\n\r\n", "no HTTP|cut off"),
        (b"-1\r\n" + b"a" * 300_000, "larger than|no HTTP|cut off"),
        (b"x\r\nabcde\r\n0\r\n\r\n", "no HTTP|cut off"),
    ],
)
def test_chunks(serve, monkeypatch, body, said):
    monkeypatch.setattr(web, "LARGEST", 100_000)
    monkeypatch.setattr(web, "OVERHEAD", 10_000)

    def answer(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n" + body)

    place = serve(answer)
    if not said:
        assert web.read_page(place, allow_private=True).text == "abcde"
        return
    with pytest.raises(DocumentError, match=said):
        web.read_page(place, allow_private=True)


def test_half_of_what_was_packed_is_not_learned(serve):
    place = serve(says(gzip.compress(TEXT.encode())[:-20], "text/plain", Content_Encoding="gzip"))
    with pytest.raises(DocumentError, match="cannot be unpacked"):
        web.read_page(place, allow_private=True)
