"""The folder of compiled kernels: what is found again, what is refused, many processes, no room."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onnxsd.kernels import cubin_cache
from onnxsd.kernels.cubin_cache import CubinCache, Entry, Key, cache_folder

KEY = Key(source="text", options=("-a", "-b"), nvrtc=(13, 5), architecture=90)
CUBIN = bytes(range(256)) * 40


@pytest.fixture
def cache(tmp_path: Path) -> CubinCache:
    return CubinCache(tmp_path / "cache" / "kernels")


def file_of(cache: CubinCache, key: Key = KEY) -> Path:
    """The one file that was written for a key."""
    return next(cache.folder.glob(f"{key.digest}*"))


class TestKeeping:
    def test_finds_nothing_where_nothing_was_kept(self, cache: CubinCache) -> None:
        assert cache.read(KEY) == Entry()
        assert not cache.folder.exists()

    def test_finds_what_was_kept(self, cache: CubinCache) -> None:
        assert cache.write(KEY, CUBIN) is None

        assert cache.read(KEY) == Entry(content=CUBIN)
        assert list(cache.folder.iterdir()) == [file_of(cache)]

    @pytest.mark.parametrize(
        "other",
        [
            {"source": "texts"},
            {"options": ("-b", "-a")},
            {"options": ("-a-b",)},
            {"nvrtc": (13, 4)},
            {"nvrtc": (1, 35)},
            {"architecture": 89},
        ],
    )
    def test_finds_it_for_its_own_key_alone(self, cache: CubinCache, other: dict[str, Any]) -> None:
        cache.write(KEY, CUBIN)

        assert cache.read(replace(KEY, **other)) == Entry()

    def test_lies_in_the_users_cache_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

        assert cache_folder().parts[-2:] == ("onnxsd", "kernels")
        if sys.platform == "linux":
            assert cache_folder() == tmp_path / "onnxsd" / "kernels"

    @pytest.mark.skipif(sys.platform == "win32", reason="files have no such permissions there")
    @pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
    def test_whom_the_umask_allows_may_read_it(self, cache: CubinCache, umask: int, mode: int) -> None:
        before = os.umask(umask)
        try:
            cache.write(KEY, CUBIN)
        finally:
            os.umask(before)

        assert file_of(cache).stat().st_mode & 0o777 == mode


class TestDamage:
    @pytest.mark.parametrize("length", [0, 1, 14, 15, 46, 47, 48, 500, -1])
    def test_a_file_that_is_cut_off_is_refused_and_replaced(self, cache: CubinCache, length: int) -> None:
        cache.write(KEY, CUBIN)
        path = file_of(cache)
        path.write_bytes(path.read_bytes()[:length])

        assert cache.read(KEY) == Entry(fault=f"{path} is damaged")
        assert cache.write(KEY, CUBIN) is None
        assert cache.read(KEY) == Entry(content=CUBIN)

    @pytest.mark.parametrize("place", [0, 14, 15, 46, 47, 5000, -1])
    def test_one_changed_byte_is_seen(self, cache: CubinCache, place: int) -> None:
        cache.write(KEY, CUBIN)
        path = file_of(cache)
        content = bytearray(path.read_bytes())
        content[place] ^= 1
        path.write_bytes(content)

        assert cache.read(KEY).content is None

    @pytest.mark.parametrize("content", [b"\x7fELF" + CUBIN, CUBIN])
    def test_a_file_of_somebody_else_is_refused(self, cache: CubinCache, content: bytes) -> None:
        cache.write(KEY, CUBIN)
        file_of(cache).write_bytes(content)

        assert cache.read(KEY) == Entry(fault=f"{file_of(cache)} is damaged")

    def test_a_file_under_another_keys_name_is_refused(self, cache: CubinCache) -> None:
        other = replace(KEY, architecture=120)
        cache.write(KEY, CUBIN)
        file_of(cache).rename(cache.folder / file_of(cache).name.replace(KEY.digest, other.digest))

        assert cache.read(other).content is None


class TestNoRoom:
    def test_a_file_where_the_folder_should_be_is_a_word(self, tmp_path: Path) -> None:
        (tmp_path / "taken").write_text("")
        cache = CubinCache(tmp_path / "taken" / "kernels")

        fault = cache.write(KEY, CUBIN)
        assert fault is not None
        assert fault.startswith(f"{cache.folder}: ")
        assert cache.read(KEY).content is None

    @pytest.mark.skipif(sys.platform == "win32", reason="folders have no such permission there")
    def test_a_folder_that_is_not_ours_is_a_word(self, cache: CubinCache) -> None:
        cache.folder.mkdir(parents=True)
        cache.folder.chmod(0o555)
        if not os.access(cache.folder, os.W_OK):
            assert cache.write(KEY, CUBIN) == f"{cache.folder}: {os.strerror(errno.EACCES)}"
            return
        # To root every folder is open, to a child without its rights none of these is.
        text = f"""
            import os
            from pathlib import Path
            from onnxsd.kernels.cubin_cache import CubinCache, Key
            os.setgid(65534), os.setuid(65534)
            key = Key(source="", options=(), nvrtc=(13, 5), architecture=90)
            print(CubinCache(Path({str(cache.folder)!r})).write(key, b"cubin"))
        """
        assert run(text) == f"{cache.folder}: {os.strerror(errno.EACCES)}\n"

    def test_a_full_disk_is_a_word_and_leaves_nothing(
        self, cache: CubinCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(Path, "replace", full)

        assert cache.write(KEY, CUBIN) == f"{cache.folder}: {os.strerror(errno.ENOSPC)}"
        assert list(cache.folder.iterdir()) == []
        assert cache.read(KEY) == Entry()

    def test_a_file_that_cannot_be_read_is_a_word(self, cache: CubinCache) -> None:
        path = cache.folder / f"{KEY.digest}.cubin"
        path.mkdir(parents=True)

        found = cache.read(KEY)
        assert found.content is None
        assert found.fault is not None
        assert str(path) in found.fault


class TestOldEntries:
    def test_go_beyond_sixteen_those_not_used_for_longest_first(self, cache: CubinCache) -> None:
        keys = [replace(KEY, source=str(number)) for number in range(20)]
        for age, key in enumerate(reversed(keys[:16])):
            cache.write(key, CUBIN)
            os.utime(file_of(cache, key), times=(1e9 - age, 1e9 - age))
        assert cache.read(keys[0]).content == CUBIN
        for key in keys[16:]:
            cache.write(key, CUBIN)

        kept = [number for number, key in enumerate(keys) if cache.read(key).content]
        assert kept == [0, *range(5, 20)]

    def test_that_a_dead_process_left_go_and_those_that_are_being_written_stay(
        self, cache: CubinCache
    ) -> None:
        cache.folder.mkdir(parents=True)
        left, written = cache.folder / "a.tmp", cache.folder / "b.tmp"
        for path in (left, written):
            path.write_bytes(b"part")
        os.utime(left, times=(time.time() - 7200,) * 2)
        cache.write(KEY, CUBIN)

        assert (left.exists(), written.exists()) == (False, True)

    def test_that_cannot_be_removed_stay(self, cache: CubinCache, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(errno.EACCES, "in use")

        monkeypatch.setattr(cubin_cache, "_MOST_FILES", 0)
        monkeypatch.setattr(Path, "unlink", refuse)

        assert cache.write(KEY, CUBIN) is None
        assert cache.read(KEY).content == CUBIN


def run(text: str) -> str:
    """What a process of its own prints."""
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)], capture_output=True, text=True, check=False
    )
    assert child.stderr == ""
    return child.stdout


def test_many_processes_write_read_and_damage_one_entry(cache: CubinCache) -> None:
    """What is read is whole and the right one at every moment, and at the end nothing else is left."""
    text = f"""
        import random, sys
        from pathlib import Path
        from onnxsd.kernels.cubin_cache import CubinCache, Key
        cache, me = CubinCache(Path({str(cache.folder)!r})), int(sys.argv[1])
        found = 0
        for turn in range(150):
            key = Key(source=str(turn % 3), options=(), nvrtc=(13, 5), architecture=90)
            content = str(turn % 3).encode() * 200_000
            entry = cache.read(key)
            assert entry.content in (None, content)
            found += entry.content is not None
            if me == 0 and turn % 10 == 5:
                for path in cache.folder.glob("*.cubin"):
                    path.write_bytes(b"foreign")
            fault = cache.write(key, content)
            assert fault is None, fault
        print(found)
    """
    children = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(text), str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    answers = [child.communicate() for child in children]

    assert [said for _, said in answers] == [""] * 4
    assert all(int(found) > 0 for found, _ in answers)
    assert len(list(cache.folder.iterdir())) == 3
    for source in range(3):
        key = Key(source=str(source), options=(), nvrtc=(13, 5), architecture=90)
        cache.write(key, b"last")
        assert cache.read(key).content == b"last"
