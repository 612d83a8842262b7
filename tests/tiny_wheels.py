"""Tiny ELF and PE files, fatbins and wheels, and a server that lists them as a package index does."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import struct
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PTX, SASS, OTHER = 1, 2, 8
# Where the server lists its files.
ROOT = "/simple"
EXACT = 0x100000
_BASE = 0x400000  # the address at which the ELF files are loaded


def fatbin(*entries: tuple[int, int, int], payload_bytes: int = 24) -> bytes:
    """A fatbin with an entry for each (kind, target, flags)."""
    body = b"".join(
        struct.pack("<HHIQ", kind, 0x101, 64, payload_bytes)
        + bytes(12)
        + struct.pack("<IIIQ", target, 0, 0, flags)
        + bytes(16)
        + b"\x7f" * payload_bytes
        for kind, target, flags in entries
    )
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def elf(
    needed: Sequence[str] = (),
    *,
    versions: Mapping[str, Sequence[str]] | None = None,
    run_path: str = "",
    stack_flags: int | None = 6,
    body: bytes = b"",
    strings_last: bool = False,
) -> bytes:
    """A shared library for x86-64; `body` stands between its headers and what the loader reads."""
    strings = _Strings()
    tags = [(1, strings.add(name)) for name in needed]
    if run_path:
        tags.append((29, strings.add(run_path)))
    wanted = _versions_wanted(versions or {}, strings)
    parts, places, at = [], {}, 64 + 3 * 56
    middle = {"body": body, "versions": wanted, "dynamic": bytes(16 * (len(tags) + 5))}
    order = {**middle, "strings": strings.blob} if strings_last else {"strings": strings.blob, **middle}
    for name, blob in order.items():
        places[name] = at
        parts.append(blob)
        at += len(blob)
    tags += [(5, _BASE + places["strings"]), (10, len(strings.blob))]
    if versions:
        tags += [(0x6FFFFFFE, _BASE + places["versions"]), (0x6FFFFFFF, len(versions))]
    parts[list(order).index("dynamic")] = b"".join(struct.pack("<2Q", *tag) for tag in [*tags, (0, 0)]).ljust(
        len(middle["dynamic"]), b"\0"
    )
    segments = [
        (1, 5, 0, _BASE, at),
        (2, 6, places["dynamic"], _BASE + places["dynamic"], 16 * len(tags) + 16),
    ]
    if stack_flags is not None:
        segments.append((0x6474E551, stack_flags, 0, 0, 0))
    table = b"".join(
        struct.pack("<2I6Q", kind, flags, offset, address, address, size, size, 8)
        for kind, flags, offset, address, size in segments
    ).ljust(3 * 56, b"\0")
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<2HI3QI6H", 3, 62, 1, 0, 64, 0, 0, 64, 56, len(segments), 64, 0, 0
    )
    return header + table + b"".join(parts)


def pe(imports: Sequence[str] = (), *, body: bytes = b"", machine_magic: int = 0x20B) -> bytes:
    """A DLL with one section that holds the body, then the import table and its names."""
    address, place = 0x1000, 1024
    table_at = len(body)
    names_at = table_at + 20 * (len(imports) + 1)
    descriptors, names = b"", b""
    for name in imports:
        descriptors += struct.pack("<5I", 1, 0, 0, address + names_at + len(names), 1)
        names += name.encode() + b"\0"
    section = body + descriptors + bytes(20) + names + bytes(256)  # names are read in pieces of 256
    directories = bytes(8) + struct.pack("<2I", address + table_at, 20 * (len(imports) + 1)) + bytes(112)
    optional = struct.pack("<H", machine_magic).ljust(112, b"\0") + directories
    coff = struct.pack("<2H3I2H", 0x8664, 1, 0, 0, 0, len(optional), 0x2022)
    row = (
        b".text".ljust(8, b"\0") + struct.pack("<4I", len(section), address, len(section), place) + bytes(16)
    )
    start = b"MZ".ljust(60, b"\0") + struct.pack("<I", 64) + b"PE\0\0"
    return (start + coff + optional + row).ljust(place, b"\0") + section


def wheel(members: Mapping[str, bytes | str], *, metadata: str, compress: bool = True) -> bytes:
    """A wheel of `onnxruntime_gpu 1.0` as far as a reader sees one."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr("onnxruntime_gpu-1.0.dist-info/METADATA", metadata)
    return out.getvalue()


class _Strings:
    def __init__(self) -> None:
        self.blob = b"\0"

    def add(self, text: str) -> int:
        at = len(self.blob)
        self.blob += text.encode() + b"\0"
        return at


def _versions_wanted(versions: Mapping[str, Sequence[str]], strings: _Strings) -> bytes:
    blob = b""
    for number, (library, names) in enumerate(versions.items(), 1):
        following = 16 + 16 * len(names) if number < len(versions) else 0
        blob += struct.pack("<2H3I", 1, len(names), strings.add(library), 16, following)
        for at, name in enumerate(names, 1):
            blob += struct.pack("<I2H2I", 0, 0, 2, strings.add(name), 16 if at < len(names) else 0)
    return blob


@dataclass
class Index:
    """What the server serves, and what it was asked for."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    attributes: dict[str, dict[str, Any]] = field(default_factory=dict)
    html: bool = False
    ranges: bool = True
    break_after_bytes: int | None = None  # of the next answer; then the connection ends
    busy: int = 0  # how many answers are 503 before it serves
    password: str | None = None
    page: bytes | None = None  # instead of the list
    asked: list[str] = field(default_factory=list)

    def listing(self) -> tuple[str, bytes]:
        """The page of the package, as JSON or HTML."""
        if self.html:
            lines = "\n".join(self._anchor(name) for name in self.files)
            return "text/html", f"<!DOCTYPE html><body><h1>Links</h1>{lines}</body>".encode()
        rows = [
            {
                "filename": name,
                "url": f"../../files/{name}",
                "hashes": {"sha256": hashlib.sha256(content).hexdigest()},
                **self.attributes.get(name, {}),
            }
            for name, content in self.files.items()
        ]
        return "application/vnd.pypi.simple.v1+json", json.dumps({"files": rows}).encode()

    def _anchor(self, name: str) -> str:
        told = self.attributes.get(name, {})
        digest = hashlib.sha256(self.files[name]).hexdigest()
        extra = f' data-upload-time="{told["upload-time"]}"' if "upload-time" in told else ""
        extra += ' data-yanked="broken"' if told.get("yanked") else ""
        return f'<a href="../../files/{html.escape(name)}#sha256={digest}"{extra}>{name}</a>'


@contextmanager
def serving() -> Iterator[Index]:
    """An index on a port of this machine, while the block runs."""
    index = Index()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(index))
    index.url = f"http://127.0.0.1:{server.server_port}{ROOT}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield index
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(index: Index) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            index.asked.append(self.path)
            if index.busy:
                index.busy -= 1
                self._answer(503, b"", {})
            elif not self._allowed():
                self._answer(401, b"", {})
            elif self.path == f"{ROOT}/onnxruntime-gpu/":
                kind, body = index.listing()
                self._answer(200, index.page if index.page is not None else body, {"Content-Type": kind})
            elif self.path.startswith("/files/") and self.path[7:] in index.files:
                self._part(index.files[self.path[7:]])
            else:
                self._answer(404, b"", {})

        def _allowed(self) -> bool:
            wanted = f"Basic {base64.b64encode(f'user:{index.password}'.encode()).decode()}"
            return index.password is None or self.headers.get("Authorization") == wanted

        def _part(self, content: bytes) -> None:
            span = self.headers.get("Range", "")
            if not (index.ranges and span):
                return self._answer(200, content, {})
            first, _, last = span.removeprefix("bytes=").partition("-")
            start = int(first) if first else max(0, len(content) - int(last))
            stop = min(int(last) + 1, len(content)) if first and last else len(content)
            told = {"Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"}
            return self._answer(206, content[start:stop], told)

        def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            sent, index.break_after_bytes = index.break_after_bytes, None
            self.wfile.write(body[:sent])

        def log_message(self, *words: object) -> None:
            """Say nothing."""

    return Handler
