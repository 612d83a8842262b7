"""NVRTC: where it is found, what it compiles, and what is said where it cannot."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from kernel_cases import INSTALLED, FakeNvrtc, real_nvrtc

from onnxsd.errors import NotReadyError
from onnxsd.kernels import nvrtc_library
from onnxsd.kernels.nvrtc import Nvrtc, architecture_for, first_error
from onnxsd.kernels.nvrtc_library import find, library_name, majors_for
from onnxsd.machine.own_kernels import NVRTC_MAJORS

FILL = 'extern "C" __global__ void fill(float* to, float what) { to[threadIdx.x] = what; }'
# A major that no machine has, so that the loader finds nothing.
UNKNOWN = 77


@pytest.fixture(scope="module")
def real() -> Nvrtc:
    return real_nvrtc()


class TestCompile:
    @pytest.mark.parametrize("architecture", [75, 90, 120])
    def test_gives_machine_code_of_the_architecture(self, real: Nvrtc, architecture: int) -> None:
        options = ("--std=c++17", "--ptxas-options=-v")
        compiled = real.compile(FILL, name="fill.cu", architecture=architecture, options=options)

        assert compiled.cubin.startswith(b"\x7fELF")
        assert f"Compiling entry function 'fill' for 'sm_{architecture}'" in compiled.log
        assert "\0" not in compiled.log

    def test_gives_the_same_bytes_each_time(self, real: Nvrtc) -> None:
        first, second = (real.compile(FILL, name="fill.cu", architecture=90).cubin for _ in range(2))

        assert first == second

    def test_of_a_mistake_names_it_with_its_line(self, real: Nvrtc) -> None:
        wrong = FILL.replace("what;", "wat;")

        with pytest.raises(NotReadyError) as raised:
            real.compile(wrong, name="fill.cu", architecture=90)
        assert raised.value.message == (
            f'{real} cannot compile fill.cu for sm_90: fill.cu(1): error: identifier "wat" is undefined'
        )

    def test_of_an_unknown_option_names_it(self, real: Nvrtc) -> None:
        with pytest.raises(NotReadyError, match=r"for sm_90: .*--no-such"):
            real.compile(FILL, name="fill.cu", architecture=90, options=("--no-such",))

    def test_never_asks_for_code_that_a_driver_would_compile(self) -> None:
        fake = FakeNvrtc()

        assert Nvrtc(fake).compile("", name="x.cu", architecture=80).cubin == b"cu\0bi"
        assert fake.options == [b"--gpu-architecture=sm_80"]

    @pytest.mark.parametrize(
        ("status", "log", "said"),
        [
            (
                6,
                "x.cu(3): warning #1\nx.cu(4): error: first\nx.cu(5): error: second",
                "x.cu(4): error: first",
            ),
            (5, "", "NVRTC_ERROR_INVALID_OPTION"),
        ],
    )
    def test_that_fails_leaves_nothing_behind(self, status: int, log: str, said: str) -> None:
        fake = FakeNvrtc(status=status, log=log)

        with pytest.raises(NotReadyError) as raised:
            Nvrtc(fake).compile("", name="x.cu", architecture=80)
        assert raised.value.message == f"NVRTC 13.5 cannot compile x.cu for sm_80: {said}"
        assert fake.alive == 0


class TestVersion:
    def test_is_read_with_the_architectures(self, real: Nvrtc) -> None:
        assert real.version >= (12, 0)
        assert str(real) == f"NVRTC {real.version[0]}.{real.version[1]}"
        assert {75, 80, 86, 89, 90} <= set(real.architectures)
        assert list(real.architectures) == sorted(real.architectures)

    def test_that_cannot_be_read_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(FakeNvrtc, "_nvrtcVersion", lambda *_: 5)

        with pytest.raises(NotReadyError, match="nvrtcVersion failed: NVRTC_ERROR_INVALID_OPTION"):
            Nvrtc(FakeNvrtc())


class TestArchitecture:
    @pytest.mark.parametrize(
        ("capability", "expected"),
        [((9, 0), 90), ((8, 0), 80), ((8, 9), 87), ((8, 6), 86), ((7, 5), 75), ((12, 1), 120)],
    )
    def test_is_the_gpus_own_or_the_last_before_it(self, capability: tuple[int, int], expected: int) -> None:
        known = Nvrtc(FakeNvrtc(architectures=(120, 75, 80, 86, 87, 90)))

        assert architecture_for(capability, known) == expected

    @pytest.mark.parametrize("capability", [(10, 0), (7, 0), (11, 0)])
    def test_of_another_major_is_never_taken(self, capability: tuple[int, int]) -> None:
        with pytest.raises(NotReadyError) as raised:
            architecture_for(capability, Nvrtc(FakeNvrtc((12, 4), (75, 90))))
        assert raised.value.message == (
            f"NVRTC 12.4 compiles nothing for a GPU of compute capability {capability[0]}.{capability[1]}: "
            "it knows sm_75, sm_90"
        )


def c_library() -> Path:
    """The file of some library that is loaded: C's own."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    return next(Path(line.split()[-1]) for line in maps if "libc.so.6" in line or "libc-" in line)


class TestFind:
    def test_takes_pips_where_the_loader_has_none(self, tmp_path: Path, real: Nvrtc) -> None:
        installed = [Path(one) / "nvidia" for one in sys.path]
        name = next(library_name(major) for major in NVRTC_MAJORS if any_has(installed, library_name(major)))
        source = next(path for one in installed for path in one.glob(f"*/lib/{name}"))
        for place in ("cu77", "cuda_nvrtc"):
            folder = tmp_path / place / "nvidia" / place / "lib"
            folder.mkdir(parents=True)
            (folder / library_name(UNKNOWN)).symlink_to(source)

            found = find([UNKNOWN], [str(tmp_path / "no such folder"), str(tmp_path / place)])
            assert found.version == real.version

    @pytest.mark.skipif(not INSTALLED, reason="the environment need not have NVRTC's package")
    def test_takes_what_is_loaded_already_and_gives_it_what_it_asks_for(self) -> None:
        """ONNX Runtime loads NVRTC but not its builtins, which older packages do not find by themselves."""
        text = f"""
            import ctypes, sys
            from pathlib import Path
            from onnxsd.kernels.nvrtc_library import find
            path = next(p for one in sys.path for p in Path(one).glob("nvidia/*/lib/libnvrtc.so.13"))
            kept = ctypes.CDLL(str(path))
            print(len(find([13], []).compile({FILL!r}, name="fill.cu", architecture=90).cubin))
        """
        child = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(text)], capture_output=True, text=True, check=False
        )

        assert child.stderr == ""
        assert int(child.stdout) > 1000

    def test_asks_the_loader_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[str] = []

        def load(name: str) -> Any:
            asked.append(name)
            return FakeNvrtc((12, 9)) if name == library_name(12) else "not found"

        monkeypatch.setattr(nvrtc_library, "_load", load)

        assert str(find(majors_for("12.8"), [])) == "NVRTC 12.9"
        assert asked == [library_name(12)]
        assert str(find(majors_for("13.0"), [])) == "NVRTC 12.9"
        assert asked[1:] == [library_name(13), library_name(12)]

    def test_of_none_says_what_was_looked_for(self, tmp_path: Path) -> None:
        with pytest.raises(NotReadyError) as raised:
            find([UNKNOWN], [str(tmp_path)])
        assert raised.value.message == (
            f"NVRTC was not found: neither the loader nor pip's packages have {library_name(UNKNOWN)}"
        )
        assert raised.value.hint == f"pip install 'nvidia-cuda-nvrtc=={UNKNOWN}.*'"

    @pytest.mark.skipif(sys.platform == "win32", reason="the loader's words are others there")
    def test_of_a_damaged_one_says_why_it_does_not_load(self, tmp_path: Path) -> None:
        folder = tmp_path / "nvidia" / "cu77" / "lib"
        folder.mkdir(parents=True)
        (folder / library_name(UNKNOWN)).write_bytes(b"cut off")

        with pytest.raises(NotReadyError, match=r"^NVRTC cannot be loaded: .*libnvrtc\.so\.77: ") as raised:
            find([UNKNOWN], [str(tmp_path)])
        assert raised.value.hint == f"pip install --force-reinstall 'nvidia-cuda-nvrtc=={UNKNOWN}.*'"

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it takes a library of Linux for it")
    def test_of_another_library_under_its_name_says_so(self, tmp_path: Path) -> None:
        folder = tmp_path / "nvidia" / "cu77" / "lib"
        folder.mkdir(parents=True)
        (folder / library_name(UNKNOWN)).symlink_to(c_library())

        with pytest.raises(NotReadyError, match=r"libnvrtc\.so\.77 is a library, but not NVRTC \("):
            find([UNKNOWN], [str(tmp_path)])

    @pytest.mark.parametrize(
        ("cuda", "expected"),
        [("13.0", (13, 12)), ("12.8", (12, 13)), (None, (13, 12)), ("14.1", (14, 13, 12))],
    )
    def test_begins_with_the_major_of_the_runtime(self, cuda: str | None, expected: tuple[int, ...]) -> None:
        assert majors_for(cuda) == expected


def any_has(places: list[Path], name: str) -> bool:
    return any(any(place.glob(f"*/lib/{name}")) for place in places)


@pytest.mark.parametrize(
    ("log", "expected"), [("", None), ("\n a \n b error c", "b error c"), ("first\nsecond", "first")]
)
def test_the_first_error_of_a_log(log: str, expected: str | None) -> None:
    assert first_error(log) == expected


def test_the_package_of_the_extra_is_the_one_that_is_used() -> None:
    """Without it the tests of kernels would run against whatever CUDA the machine has."""
    if INSTALLED:
        assert any_has([Path(one) / "nvidia" for one in sys.path], library_name(13))
