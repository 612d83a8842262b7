"""Downloads against a small Hub on this machine: nothing but 127.0.0.1 is ever asked.

huggingface_hub reads its environment variables once, at import, so each resolve runs in a Python of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from onnxsd.export.selection import expected_names

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
REPO = "someone/tiny"
COMMIT = "1" * 40
NEXT_COMMIT = "2" * 40
UNET = "unet/diffusion_pytorch_model.fp16.safetensors"

RESOLVE = """
import json, sys
from onnxsd.errors import OnnxsdError
from onnxsd.export.source import resolve
from onnxsd.tensors import DType

said = []
arguments = json.loads(sys.argv[1])
arguments["precision"] = DType[arguments.get("precision", "FLOAT16")]
try:
    source = resolve(**arguments, progress=said.append)
except OnnxsdError as error:
    answer = {"error": type(error).__name__, "exit_code": error.exit_code, "text": str(error)}
else:
    answer = {"folder": str(source.folder), "commit": source.commit, "hub_id": source.hub_id}
    answer["files"] = [file.name for file in source.selection.files]
print(json.dumps(answer | {"said": said}))
"""


def tiny_files() -> dict[str, bytes]:
    """A repository with what is needed, twice in precision, and much that is not."""
    pair = ["library", "Class"]
    index = {"_class_name": "StableDiffusionPipeline", **dict.fromkeys(PARTS, pair)}
    files = {
        name: json.dumps({"name": name}).encode()
        for name in (*expected_names(PARTS, None), *expected_names(PARTS, "fp16"))
    }
    weights = {name: name.encode() * 200 for name in files if name.endswith(".safetensors")}
    unwanted = ("tiny.safetensors", "unet/diffusion_pytorch_model.bin", "safety_checker/model.safetensors")
    return (
        files
        | weights
        | dict.fromkeys(unwanted, b"unwanted")
        | {"model_index.json": json.dumps(index).encode(), UNET: bytes(range(256)) * 4096}
    )


@dataclass
class FakeHub:
    """What the little server has, what it must do wrong, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=tiny_files)
    commit: str = COMMIT
    gated: bool = False
    status: int | None = None
    claimed_bytes: dict[str, int] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    failing: set[str] = field(default_factory=set)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    url: str = ""

    def downloads(self) -> list[str]:
        """The names of the files whose bytes were asked for, in order."""
        return [
            path.split("/resolve/")[1].split("/", 1)[1]
            for verb, path, _ in self.asked
            if verb == "GET" and "/resolve/" in path
        ]

    def listing(self) -> dict[str, Any]:
        siblings = [
            {
                "rfilename": name,
                "size": self.claimed_bytes.get(name, len(content)),
                "blobId": "0" * 40,
                "lfs": {"sha256": digest(content), "size": len(content), "pointerSize": 1},
            }
            for name, content in self.files.items()
        ]
        return {"id": REPO, "modelId": REPO, "sha": self.commit, "siblings": siblings}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def handler_of(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else a small body waits 40 ms for its headers' acknowledgement

        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

        def answer(self, *, with_body: bool) -> None:
            path = self.path.partition("?")[0]
            hub.asked.append((self.command, path, self.headers.get("Range")))
            if hub.status:
                self.refuse(hub.status, None)
            elif path.startswith("/api/models/"):
                self.list_model(path.removeprefix("/api/models/"))
            else:
                repo, _, rest = path.lstrip("/").partition("/resolve/")
                revision, _, name = rest.partition("/")
                self.send_file(repo, revision, name, with_body)

        def list_model(self, path: str) -> None:
            repo, _, revision = path.partition("/revision/")
            if repo != REPO:
                self.refuse(404, "RepoNotFound")
            elif revision not in ("", "main", hub.commit):
                self.refuse(404, "RevisionNotFound")
            else:
                body = json.dumps(hub.listing()).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def send_file(self, repo: str, revision: str, name: str, with_body: bool) -> None:
            if repo != REPO:
                self.refuse(404, "RepoNotFound")
            elif revision not in ("main", hub.commit):
                self.refuse(404, "RevisionNotFound")
            elif name not in hub.files:
                self.refuse(404, "EntryNotFound")
            elif hub.gated and self.headers.get("Authorization") != "Bearer hf_good":
                self.refuse(403 if "Authorization" in self.headers else 401, "GatedRepo")
            elif with_body and name in hub.failing:
                self.refuse(500, None)
            else:
                self.send_content(name, hub.files[name], with_body)

        def send_content(self, name: str, content: bytes, with_body: bool) -> None:
            start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-") or 0)
            self.send_response(206 if start else 200)
            self.send_header("ETag", f'"{digest(content)}"')
            self.send_header("X-Repo-Commit", hub.commit)
            self.send_header("Accept-Ranges", "bytes")
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            if with_body and name in hub.cut:
                hub.cut.remove(name)
                self.wfile.write(content[start : start + (len(content) - start) // 2])
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
            elif with_body:
                self.wfile.write(content[start:])

        def refuse(self, status: int, code: str | None) -> None:
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
                self.send_header("X-Error-Message", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

    return Handler


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    state = FakeHub()
    with ThreadingHTTPServer(("127.0.0.1", 0), handler_of(state)) as server:
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield state
        server.shutdown()
        thread.join()


@dataclass(frozen=True)
class Machine:
    """A user's machine: where its cache is and which Hub it knows."""

    cache: Path
    endpoint: str

    def resolve(
        self, model: str = REPO, *, env: dict[str, str] | None = None, **arguments: object
    ) -> dict[str, Any]:
        kept = {
            k: v
            for k, v in os.environ.items()
            if not k.upper().startswith(("HF_", "HUGGING", "TRANSFORMERS_"))
        }
        kept = {k: v for k, v in kept.items() if not k.upper().endswith("_PROXY")}
        settings = {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(self.cache),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_ETAG_TIMEOUT": "5",
            "HF_HUB_DOWNLOAD_TIMEOUT": "5",
        }
        done = subprocess.run(
            [sys.executable, "-c", RESOLVE, json.dumps({"model": model, **arguments})],
            capture_output=True,
            text=True,
            timeout=120,
            env=kept | settings | (env or {}),
            cwd=Path(__file__).parents[1],
        )
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer


@pytest.fixture
def machine(hub: FakeHub, tmp_path: Path) -> Machine:
    return Machine(tmp_path / "hf", hub.url)


def nobody_listens() -> str:
    """A loopback address that refuses connections: a port that was just free."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def test_download_then_cache_then_offline(hub: FakeHub, machine: Machine) -> None:
    first = machine.resolve()

    assert set(first["files"]) == set(expected_names(PARTS, "fp16"))
    assert sorted(hub.downloads()) == sorted(first["files"])
    assert first["commit"] == COMMIT
    assert first["hub_id"] == REPO
    for name in first["files"]:
        assert (Path(first["folder"]) / name).read_bytes() == hub.files[name]

    hub.asked.clear()
    second = machine.resolve()
    assert second["folder"] == first["folder"]
    assert hub.downloads() == []
    assert any("in the cache" in line for line in second["said"])

    hub.asked.clear()
    for offline in ({"offline": True}, {"env": {"HF_HUB_OFFLINE": "1"}}):
        assert machine.resolve(**offline)["folder"] == first["folder"]
    assert hub.asked == []


def test_fp32_takes_the_plain_weights(hub: FakeHub, machine: Machine) -> None:
    answer = machine.resolve(precision="FLOAT32")

    assert set(hub.downloads()) == set(answer["files"]) == set(expected_names(PARTS, None))


def test_fp16_takes_the_plain_weights_where_there_is_no_variant(hub: FakeHub, machine: Machine) -> None:
    hub.files = {name: content for name, content in hub.files.items() if ".fp16." not in name}

    answer = machine.resolve()

    assert set(hub.downloads()) == set(answer["files"]) == set(expected_names(PARTS, None))


def test_a_cut_connection_is_resumed_where_it_broke(hub: FakeHub, machine: Machine) -> None:
    hub.files[UNET] = bytes(range(256)) * 100_000  # 26 MB: huggingface_hub keeps what came in steps of 10 MB
    hub.cut = {UNET}

    answer = machine.resolve()

    assert (Path(answer["folder"]) / UNET).read_bytes() == hub.files[UNET]
    ranges = [asked for verb, path, asked in hub.asked if verb == "GET" and path.endswith(UNET)]
    assert len(ranges) == 2
    resumed_at = int(ranges[1].removeprefix("bytes=").rstrip("-"))
    assert 0 < resumed_at <= len(hub.files[UNET]) // 2


def test_an_interrupted_download_goes_on_with_the_missing_file(hub: FakeHub, machine: Machine) -> None:
    hub.failing = {UNET}

    broken = machine.resolve()

    assert broken["error"] == "ResourceError"
    assert broken["exit_code"] == 6
    assert f"missing {UNET}" in broken["text"]
    assert "run the same command again to go on" in broken["text"]

    hub.failing = set()
    hub.asked.clear()
    assert (Path(machine.resolve()["folder"]) / UNET).read_bytes() == hub.files[UNET]
    assert hub.downloads() == [UNET]


def test_a_new_commit_with_the_same_weights_downloads_only_what_changed(
    hub: FakeHub, machine: Machine
) -> None:
    machine.resolve()
    hub.commit = NEXT_COMMIT
    hub.files["vae/config.json"] = b'{"changed": true}'
    hub.asked.clear()

    answer = machine.resolve()

    assert answer["commit"] == NEXT_COMMIT
    assert hub.downloads() == ["vae/config.json"]


def test_offline_without_cache_lists_what_to_copy(hub: FakeHub, machine: Machine) -> None:
    answer = machine.resolve("sdxl-refiner", offline=True)

    assert (answer["error"], answer["exit_code"]) == ("ResourceError", 6)
    assert "holds nothing of stabilityai/stable-diffusion-xl-refiner-1.0" in answer["text"]
    assert "--offline" in answer["text"]
    assert "onnxsd export FOLDER ./out" in answer["text"]
    for name in ("model_index.json", "text_encoder_2/model.fp16.safetensors", "tokenizer_2/vocab.json"):
        assert f"FOLDER/{name}" in answer["text"]
    assert "FOLDER/text_encoder/" not in answer["text"]
    assert hub.asked == []


def test_offline_with_half_a_cache_names_the_other_half(hub: FakeHub, machine: Machine) -> None:
    folder = Path(machine.resolve()["folder"])
    (folder / UNET).unlink()
    (folder / "tokenizer" / "merges.txt").unlink()

    answer = machine.resolve(offline=True)

    assert answer["exit_code"] == 6
    assert f"missing {UNET}" in answer["text"]
    assert "missing tokenizer/merges.txt" in answer["text"]
    assert "missing vae" not in answer["text"]


def test_no_network_says_what_to_copy_where(tmp_path: Path) -> None:
    nowhere = nobody_listens()

    answer = Machine(tmp_path / "hf", nowhere).resolve("sd15")

    assert (answer["error"], answer["exit_code"]) == ("ResourceError", 6)
    assert nowhere in answer["text"]
    assert "FOLDER/unet/diffusion_pytorch_model.fp16.safetensors" in answer["text"]
    assert "onnxsd export FOLDER ./out" in answer["text"]
    assert "Connect" in answer["text"]


def test_no_network_with_a_cache_takes_it_and_says_so(hub: FakeHub, machine: Machine) -> None:
    folder = machine.resolve()["folder"]

    answer = Machine(machine.cache, nobody_listens()).resolve()

    assert answer["folder"] == folder
    assert any("from the cache" in line and COMMIT[:12] in line for line in answer["said"])


def test_what_was_copied_by_hand_is_taken(hub: FakeHub, machine: Machine, tmp_path: Path) -> None:
    refused = Machine(tmp_path / "empty", nobody_listens()).resolve("sd15")["text"]
    names = [line.strip().removeprefix("FOLDER/") for line in refused.splitlines() if "  FOLDER/" in line]
    for name in names:
        path = tmp_path / "FOLDER" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(hub.files[name])

    answer = machine.resolve(str(tmp_path / "FOLDER"))

    assert answer["folder"] == str(tmp_path / "FOLDER")
    assert set(answer["files"]) == set(names)
    assert hub.asked == []


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_hub_that_is_down_is_a_resource_error(status: int, hub: FakeHub, machine: Machine) -> None:
    hub.status = status

    answer = machine.resolve()

    assert answer["exit_code"] == 6
    assert f"HTTP {status}" in answer["text"]


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("hf_bad", 403)])
def test_a_gated_model_needs_a_token(token: str | None, status: int, hub: FakeHub, machine: Machine) -> None:
    hub.gated = True

    answer = machine.resolve(env={"HF_TOKEN": token} if token else {})

    assert (answer["error"], answer["exit_code"]) == ("ResourceError", 6)
    assert f"HTTP {status}" in answer["text"]
    assert "HF_TOKEN" in answer["text"]


def test_a_gated_model_opens_to_a_token(hub: FakeHub, machine: Machine) -> None:
    hub.gated = True

    assert UNET in machine.resolve(env={"HF_TOKEN": "hf_good"})["files"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"model": "someone/else"}, "someone/else: no such model"),
        ({"revision": "v9"}, "someone/tiny at v9: no such revision"),
        ({"model": "some--one/tiny"}, "OWNER/NAME"),
        ({"variant": "ema"}, "asked for --variant ema, but no component of someone/tiny"),
    ],
)
def test_what_does_not_exist_is_bad_input(
    arguments: dict[str, str], said: str, hub: FakeHub, machine: Machine
) -> None:
    answer = machine.resolve(**arguments)

    assert (answer["error"], answer["exit_code"]) == ("BadInputError", 3)
    assert said in answer["text"]
    assert not [name for name in hub.downloads() if name.endswith(".safetensors")]


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("model_index.json", "has no model_index.json"),
        ("vae/config.json", "missing vae/config.json"),
        ("unet/.*safetensors", "only diffusion_pytorch_model.bin"),
    ],
)
def test_a_repository_that_cannot_be_exported_is_not_downloaded(
    gone: str, said: str, hub: FakeHub, machine: Machine
) -> None:
    start, _, end = gone.partition(".*")
    hub.files = {n: c for n, c in hub.files.items() if not (n.startswith(start) and n.endswith(end))}

    answer = machine.resolve()

    assert (answer["error"], answer["exit_code"]) == ("BadInputError", 3)
    assert said in answer["text"]
    assert not [name for name in hub.downloads() if name.endswith(".safetensors")]


def test_a_full_disk_is_foreseen(hub: FakeHub, machine: Machine) -> None:
    hub.claimed_bytes = {UNET: 10**18}

    answer = machine.resolve()

    assert (answer["error"], answer["exit_code"]) == ("ResourceError", 6)
    assert "needs 1000000000.0 GB more" in answer["text"]
    assert "are free there" in answer["text"]
    assert hub.downloads() == ["model_index.json"]


def test_a_cache_that_cannot_be_written(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")

    answer = Machine(tmp_path / "file", hub.url).resolve()

    assert (answer["error"], answer["exit_code"]) == ("ResourceError", 6)
    assert str(tmp_path / "file") in answer["text"]


def test_importing_asks_for_nothing() -> None:
    code = "import sys, onnxsd.export.source; print('huggingface_hub' in sys.modules)"

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )

    assert done.stdout.strip() == "False", done.stderr
