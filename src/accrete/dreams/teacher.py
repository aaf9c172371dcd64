"""A teacher: a larger model behind an OpenAI-compatible endpoint that writes in the model's place. Ends at its texts.

The key comes from the environment variable ACCRETE_TEACHER_KEY and goes into a header, nowhere else.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from accrete.errors import ModelError, OfflineError, UsageError

KEY = "ACCRETE_TEACHER_KEY"
TIMEOUT = 120.0  # seconds for one text
AT_ONCE = 4  # requests
TRIES = 3  # of a request that is refused for a moment
WAIT = 1.0  # seconds before the second try, twice as long before the third
LARGEST = 4_000_000  # bytes of a reply
_MOMENTARY = (429, 500, 502, 503, 504)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: the key was meant for the address that was named."""

    def redirect_request(self, *arguments: Any, **options: Any) -> None:
        return None


class Teacher:
    """Writes through `POST {url}/chat/completions`. The address is URL or URL#MODEL.

    Without MODEL the endpoint is asked which it serves. Raises UsageError for an address that is none, OfflineError when the
    network is switched off, ModelError when the teacher cannot be reached or answers with something else than a text.
    """

    def __init__(self, address: str, *, offline: bool = False, timeout: float = TIMEOUT):
        if offline:
            raise OfflineError("A teacher is asked over the network, and the network is switched off (--offline).")
        url, _, model = address.partition("#")
        try:
            parts = urlsplit(url)
            sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            sound = False
        if not sound or not url.isascii() or any(character.isspace() for character in url):
            raise UsageError("A teacher is an address like http://localhost:8000/v1 or http://localhost:8000/v1#MODEL.")
        if "@" in parts.netloc:
            raise UsageError(f"A teacher's address holds no password; its key belongs into {KEY}.")
        self.url, self.timeout = url.rstrip("/"), timeout
        self.host = parts.netloc
        self._open = urllib.request.build_opener(_NoRedirect).open
        self.model = model or self._only_model()
        self.name = f"{self.model} at {self.host}"

    def __call__(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperatures: Sequence[float] = (), seed: int = 0
    ) -> list[str]:
        bodies = [
            {
                "model": self.model,
                "messages": [{"role": "user", "content": prompt}],
                "max_tokens": max_new_tokens,
                "temperature": temperatures[number] if temperatures else 0.0,
                "seed": (seed + number) % 2**31,  # the same prompt is to be answered in several ways
            }
            for number, prompt in enumerate(prompts)
        ]
        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            return list(pool.map(self._text, bodies))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _text(self, body: dict[str, Any]) -> str:
        reply = self._ask("/chat/completions", json.dumps(body).encode())
        try:
            text = reply["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            raise ModelError(
                f"The teacher at {self.host} answered with something that is no chat completion."
            ) from None
        return text.strip() if isinstance(text, str) else ""

    def _only_model(self) -> str:
        reply = self._ask("/models", None)
        try:
            names = [str(model["id"]) for model in reply["data"]]
        except (KeyError, TypeError):
            names = []
        if len(names) != 1:
            served = f"serves {', '.join(names[:5])}" if names else "does not say what it serves"
            raise UsageError(f"The teacher at {self.host} {served}; name the model, as in {self.url}#MODEL.")
        return names[0]

    def _ask(self, path: str, body: bytes | None) -> Any:
        """The JSON that comes back. One try more after a while where the endpoint is busy."""
        headers = {"Content-Type": "application/json", "User-Agent": "accrete"}
        if key := os.environ.get(KEY, "").strip():
            if not (key.isascii() and key.isprintable()):  # urllib would print it in its complaint
                raise UsageError(f"What stands in {KEY} is no key.")
            headers["Authorization"] = f"Bearer {key}"
        for attempt in range(1, TRIES + 1):
            request = urllib.request.Request(self.url + path, data=body, headers=headers)
            try:
                with self._open(request, timeout=self.timeout) as reply:
                    content = reply.read(LARGEST + 1)
                if len(content) > LARGEST:
                    raise ValueError
                return json.loads(content)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code not in _MOMENTARY or attempt == TRIES:
                    raise ModelError(self._refusal(error.code)) from None
                time.sleep(WAIT * 2 ** (attempt - 1))
            except TimeoutError:
                raise ModelError(
                    f"The teacher at {self.host} did not answer within {self.timeout:g} seconds."
                ) from None
            except (OSError, HTTPException) as error:
                if isinstance(getattr(error, "reason", None), TimeoutError):
                    raise ModelError(
                        f"The teacher at {self.host} did not answer within {self.timeout:g} seconds."
                    ) from None
                raise ModelError(f"The teacher at {self.host} cannot be reached.") from None
            except (ValueError, RecursionError):
                raise ModelError(f"The teacher at {self.host} answered with something that is no JSON.") from None
        raise AssertionError("unreachable")

    def _refusal(self, code: int) -> str:
        why = {
            401: f"it wants a key in {KEY}",
            403: f"the key in {KEY} may not do this",
            404: "there is no such model or address",
            429: "it is too busy",
        }
        return f"The teacher at {self.host} refused (HTTP {code}{': ' + why[code] if code in why else ''})."
