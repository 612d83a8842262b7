"""The wheels that an index lists for a package, from its JSON or its HTML."""

from __future__ import annotations

import datetime
import json
import urllib.parse
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from onnxsd.errors import BadInputError
from refresh.web import Page, Web

JSON = "application/vnd.pypi.simple.v1+json"
_ACCEPT = f"{JSON}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedWheel:
    """One wheel as the index lists it; `uploaded` and `digest` where the index tells them."""

    file: str
    url: str
    version: Version
    abi: str
    platform_tags: tuple[str, ...]  # in the order of the file name
    uploaded: datetime.date | None
    digest: str | None
    yanked: bool

    @property
    def platform(self) -> str:
        """The matrix's name for the platform: `linux_x86_64`, `windows_x86_64`."""
        tag = self.platform_tags[0]
        if tag.startswith("win"):
            return {"win_amd64": "windows_x86_64", "win_arm64": "windows_aarch64"}.get(tag, tag)
        system, arch = ("macos", "arm64") if tag.endswith("arm64") else (tag.split("_")[0], _arch(tag))
        return f"{'linux' if 'linux' in system else system}_{arch}"


def listed(web: Web, package: str) -> tuple[ListedWheel, ...]:
    """Every wheel of a package that is not yanked, as pip would see it."""
    name = canonicalize_name(package)
    page = web.page(f"{web.index_url}/{name}/", accept=_ACCEPT, what=f"the list of {package}")
    rows = _from_json(page) if page.content_type == JSON else _from_html(page)
    wheels = tuple(wheel for wheel in map(_wheel, rows) if wheel is not None and not wheel.yanked)
    if not wheels:
        raise BadInputError(
            f"asked pip's index for {package}, and its page lists no wheel",
            hint="`python -m pip config list` shows the index in use",
        )
    return wheels


def _wheel(row: dict[str, Any]) -> ListedWheel | None:
    """The wheel of a row; None for a source archive or a file that is no wheel."""
    try:
        _, version, _, tags = parse_wheel_filename(row["file"])
    except InvalidWheelFilename:
        return None
    return ListedWheel(
        file=row["file"],
        url=row["url"],
        version=version,
        abi=_abi(tags),
        platform_tags=tuple(row["file"].removesuffix(".whl").rsplit("-", 1)[1].split(".")),
        uploaded=datetime.date.fromisoformat(row["uploaded"][:10]) if row["uploaded"] else None,
        digest=row["digest"],
        yanked=row["yanked"],
    )


def _abi(tags: frozenset[Tag]) -> str:
    abis = sorted({tag.abi for tag in tags})
    return ".".join(abis)


def _arch(tag: str) -> str:
    return "x86_64" if tag.endswith("x86_64") else tag.rsplit("_", 1)[-1]


def _from_json(page: Page) -> list[dict[str, Any]]:
    try:
        files = json.loads(page.body)["files"]
        return [
            {
                "file": file["filename"],
                "url": urllib.parse.urljoin(page.url, file["url"]),
                "uploaded": file.get("upload-time"),
                "digest": file.get("hashes", {}).get("sha256"),
                "yanked": bool(file.get("yanked")),
            }
            for file in files
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise BadInputError(f"the index calls its page {JSON}, and it cannot be read: {error!r}") from error


def _from_html(page: Page) -> list[dict[str, Any]]:
    anchors = _Anchors()
    anchors.feed(page.body.decode("utf-8", errors="replace"))
    rows = []
    for attributes in anchors.found:
        url, fragment = urllib.parse.urldefrag(urllib.parse.urljoin(page.url, attributes["href"]))
        kind, _, digest = fragment.partition("=")
        rows.append(
            {
                "file": urllib.parse.unquote(url.rsplit("/", 1)[-1]),
                "url": url,
                "uploaded": attributes.get("data-upload-time"),
                "digest": digest if kind == "sha256" else None,
                "yanked": "data-yanked" in attributes,
            }
        )
    return rows


class _Anchors(HTMLParser):
    """The attributes of every link of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "a" and "href" in attributes:
            self.found.append(attributes)
