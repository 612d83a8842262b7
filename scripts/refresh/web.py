"""Bytes over HTTP: whole small pages, and parts of large files by range."""

from __future__ import annotations

import base64
import http.client
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from onnxsd.errors import ResourceError
from refresh.pip_index import PipIndex

T = TypeVar("T")

CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 60
_TRIES = 4
_BUSY = (429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A small document, where it was found, and its kind."""

    body: bytes
    content_type: str
    url: str


class Web:
    """Reads what the index and its files serve; addresses stay out of messages."""

    def __init__(self, index: PipIndex, *, pause_s: float = 1.0) -> None:
        """`pause_s`: how long to wait before the second try; it doubles with each."""
        parts = urllib.parse.urlsplit(index.url)
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2])
        self.index_url = urllib.parse.urlunsplit(bare).rstrip("/")
        self._host = parts.hostname
        self._authorization = _basic(parts.username, parts.password)
        self._context = ssl.create_default_context(cafile=index.certificate)
        self._pause_s = pause_s

    def page(self, url: str, *, accept: str, what: str) -> Page:
        """A whole document."""

        def read() -> Page:
            with self._open(url, {"Accept": accept}, what) as answer:
                kind = answer.headers.get_content_type()
                return Page(body=answer.read(), content_type=kind, url=answer.geturl())

        return self._retried(read, what)

    def tail(self, url: str, size_bytes: int, *, what: str) -> tuple[bytes, int]:
        """The last bytes of a file, and the size of the whole."""

        def read() -> tuple[bytes, int]:
            with self._open(url, {"Range": f"bytes=-{size_bytes}"}, what) as answer:
                total = _total_of(answer, what)
                return answer.read(), total

        return self._retried(read, what)

    def stream(self, url: str, first: int, last: int, *, what: str) -> Iterator[bytes]:
        """The bytes from `first` to `last`, both counted in; a connection that breaks is taken up again."""
        tries = 0
        while first <= last:
            try:
                with self._open(url, {"Range": f"bytes={first}-{last}"}, what) as answer:
                    _total_of(answer, what)
                    while chunk := answer.read(CHUNK_BYTES):
                        yield chunk
                        first, tries = first + len(chunk), 0
                if first <= last:
                    raise ConnectionError("the answer ended early")
            except (OSError, http.client.HTTPException) as error:  # noqa: PERF203 - a try is what repeats
                tries = self._again(error, tries, what)

    def _retried(self, read: Callable[[], T], what: str) -> T:
        tries = 0
        while True:
            try:
                return read()
            except (OSError, http.client.HTTPException) as error:  # noqa: PERF203 - a try is what repeats
                tries = self._again(error, tries, what)

    def _again(self, error: Exception, tries: int, what: str) -> int:
        """How often it failed, after a pause; raises where that is enough."""
        if tries + 1 >= _TRIES:
            reason = getattr(error, "reason", error)
            raise ResourceError(
                f"asked for {what}, and the connection failed {_TRIES} times: {reason}",
                hint="is there a network, and does `python -m pip download` work here?",
            ) from error
        time.sleep(self._pause_s * 2**tries)
        return tries + 1

    def _open(self, url: str, headers: dict[str, str], what: str) -> Any:
        request = urllib.request.Request(url, headers=headers)
        if self._authorization and urllib.parse.urlsplit(url).hostname == self._host:
            request.add_unredirected_header("Authorization", self._authorization)
        try:
            return urllib.request.urlopen(request, timeout=_TIMEOUT_S, context=self._context)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in _BUSY:
                raise ConnectionError(f"HTTP {error.code} {error.reason}") from None
            raise ResourceError(
                f"asked pip's index for {what}, found HTTP {error.code} {error.reason}",
                hint="`python -m pip config list` shows the index in use",
            ) from None


def _total_of(answer: Any, what: str) -> int:
    """The size of the file that a part belongs to."""
    found = re.match(r"bytes \d+-\d+/(\d+)$", answer.headers.get("Content-Range") or "")
    if answer.status != 206 or found is None:
        raise ResourceError(
            f"asked for a part of {what}, and the index sends whole files only",
            hint="set PIP_INDEX_URL to one that serves ranges: hundreds of whole wheels are not read",
        )
    return int(found.group(1))


def _basic(user: str | None, password: str | None) -> str | None:
    if user is None:
        return None
    pair = f"{urllib.parse.unquote(user)}:{urllib.parse.unquote(password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()
