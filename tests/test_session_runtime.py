"""The installed ONNX Runtime, and what it writes to standard error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import session_models as models
from packaging.version import Version

from onnxsd import session as onnxsd_session
from onnxsd.errors import (
    NotReadyError,
)
from onnxsd.session import (
    Package,
    Provider,
    Runtime,
    Session,
    cuda,
    native_log,
    runtime,
)

CPU = Provider.CPU


class TestInstalledRuntime:
    def test_is_described(self) -> None:
        installed = onnxsd_session.available()

        assert installed.version >= runtime.MINIMUM
        assert [package.version for package in installed.packages] == [str(installed.version)]
        assert "CPUExecutionProvider" in installed.providers

    def test_two_owners_are_an_error_that_names_both(self, tmp_path: Path) -> None:
        for name, folder, version in (
            ("onnxruntime", "onnxruntime", "1.31.1"),
            ("onnxruntime-gpu", "onnxruntime_gpu", "1.28.0"),
            ("onnxruntime-extensions", "onnxruntime_extensions", "0.14.0"),
        ):
            info = tmp_path / f"{folder}-{version}.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            imported = "onnxruntime_extensions" if "extensions" in name else "onnxruntime"
            (info / "RECORD").write_text(f"{imported}/__init__.py,,\n")

        packages = runtime.owners([str(tmp_path)])

        assert [str(package) for package in packages] == ["onnxruntime 1.31.1", "onnxruntime-gpu 1.28.0"]
        with pytest.raises(NotReadyError) as raised:
            runtime.require_one_owner(packages)
        assert "onnxruntime 1.31.1, onnxruntime-gpu 1.28.0" in str(raised.value)
        assert "pip uninstall -y onnxruntime onnxruntime-gpu" in str(raised.value)

    def test_two_owners_stop_every_session(self, monkeypatch: pytest.MonkeyPatch) -> None:
        installed = runtime.available()
        second = Package(name="onnxruntime-gpu", version="1.28.0")
        both = Runtime(
            version=installed.version,
            packages=(*installed.packages, second),
            cuda=installed.cuda,
            providers=installed.providers,
        )
        monkeypatch.setattr(runtime, "available", lambda: both)

        with pytest.raises(NotReadyError, match="2 packages provide onnxruntime"):
            Session.create(models.scaled(), provider=CPU)
        for requested in ("cpu", "cuda", "auto"):
            with pytest.raises(NotReadyError, match="2 packages provide onnxruntime"):
                onnxsd_session.resolve(requested)

    @pytest.mark.parametrize(
        ("version", "cuda_version", "says"),
        [
            ("1.22.0", None, "needs onnxruntime >= 1.23.2"),
            ("1.23.2", None, None),
            ("1.23.2", "12.2", "CUDA needs onnxruntime-gpu >= 1.28, or >= 1.24 built for CUDA 12"),
            ("1.27.0", "13.0", "CUDA needs onnxruntime-gpu >= 1.28, or >= 1.24 built for CUDA 12"),
            ("1.24.1", None, None),
            ("1.26.0", "12.8", None),
            ("1.28.0", "13.0", None),
        ],
    )
    def test_floors(self, version: str, cuda_version: str | None, says: str | None) -> None:
        package = Package(name="onnxruntime-gpu" if cuda_version else "onnxruntime", version=version)
        old = Runtime(version=Version(version), packages=(package,), cuda=cuda_version, providers=())

        def check() -> None:
            runtime.require_floor(old)
            runtime.require_cuda_floor(old)

        if says is None:
            check()
            return
        with pytest.raises(NotReadyError) as raised:
            check()
        assert says in str(raised.value)
        assert str(package) in str(raised.value)

    @pytest.mark.parametrize(
        ("broken", "says"),
        [
            (None, "onnxruntime is not installed"),
            ("", "onnxruntime is installed incompletely"),
            ("raise ImportError('libcudart.so.13: cannot open')", "cannot be imported: libcudart.so.13"),
            ("import a_package_that_is_missing", "onnxruntime needs a_package_that_is_missing"),
        ],
    )
    def test_missing_or_broken_is_an_error_with_a_hint(
        self, broken: str | None, says: str, tmp_path: Path
    ) -> None:
        blocked = "sys.modules['onnxruntime'] = None"
        if broken is not None:
            (tmp_path / "onnxruntime").mkdir()
            (tmp_path / "onnxruntime" / "__init__.py").write_text(broken)
            blocked = f"sys.path.insert(0, {str(tmp_path)!r})"
        script = (
            f"import sys; {blocked}\n"
            "from onnxsd.errors import NotReadyError\n"
            "from onnxsd.session import Provider, Session\n"
            "try: Session.create(b'', provider=Provider.CPU)\n"
            "except NotReadyError as error: print(error)\n"
        )

        ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

        assert says in ran.stdout
        assert "onnxsd doctor" in ran.stdout

    def test_is_not_imported_with_the_package(self) -> None:
        script = "import sys, onnxsd.session; print('onnxruntime' in sys.modules, 'onnx' in sys.modules)"

        ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

        assert ran.stdout.split() == ["False", "False"]


class TestNativeLog:
    def test_collects_what_native_code_writes(self, capfd: pytest.CaptureFixture[str]) -> None:
        with native_log.capture() as log:
            os.write(2, b"\x1b[1;31mfrom native code\x1b[m\n")
            print("from Python", file=sys.__stderr__, flush=True)
        os.write(2, b"afterwards\n")

        assert log.text == "from native code\nfrom Python\n"
        # What ONNX Runtime did not write is handed on: it was somebody else's.
        assert capfd.readouterr().err == "from native code\nfrom Python\nafterwards\n"

    def test_keeps_the_runtimes_own_lines(self, capfd: pytest.CaptureFixture[str]) -> None:
        line = "2026-11-21 10:00:00.0 [W:onnxruntime:Default, a.cc:1 F] something\n"

        with native_log.capture() as log:
            os.write(2, line.encode())

        assert log.text == line
        assert capfd.readouterr().err == ""

    def test_restores_after_an_exception(self, capfd: pytest.CaptureFixture[str]) -> None:
        def fail() -> None:
            with native_log.capture() as log:
                captured.append(log)
                os.write(2, b"before\n")
                raise KeyError

        captured: list[native_log.NativeLog] = []
        with pytest.raises(KeyError):
            fail()

        os.write(2, b"after\n")
        assert captured[0].text == "before\n"
        assert capfd.readouterr().err == "before\nafter\n"

    def test_nests(self) -> None:
        with native_log.capture() as outer:
            with native_log.capture() as inner:
                os.write(2, b"inner\n")
            os.write(2, b"outer\n")

        assert inner.text == "inner\n"
        assert outer.text == "inner\nouter\n"

    @pytest.mark.parametrize("closed", [(2,), (0, 2), (0, 1, 2)])
    def test_works_where_standard_error_is_closed(self, closed: tuple[int, ...], tmp_path: Path) -> None:
        """A service may run without descriptor 2; the temporary file can then become it."""
        result = tmp_path / "result"
        script = (
            "import os\n"
            "from onnxsd.session import native_log\n"
            f"for number in {closed}: os.close(number)\n"
            "for _ in range(2):\n"
            "    with native_log.capture() as log: os.write(2, b'heard')\n"
            "try: os.fstat(2); state = 'open'\n"
            "except OSError: state = 'closed'\n"
            f"open({str(result)!r}, 'w').write(log.text + ' ' + state)\n"
        )

        subprocess.run([sys.executable, "-c", script], check=True)

        assert result.read_text() == "heard closed"

    @pytest.mark.parametrize(
        ("lines", "reason"),
        [
            (
                [
                    "20:15 [E:onnxruntime:Default, provider_bridge_ort.cc:2251 TryGetProviderInfo_CUDA]"
                    " [ONNXRuntimeError] : 1 : FAIL : Failed to load library libonnxruntime_providers_cuda.so"
                    " with error: libcublasLt.so.13: cannot open shared object file: No such file",
                    "20:15 [W:onnxruntime:Default, onnxruntime_pybind_state.cc:1013] Failed to create"
                    " CUDAExecutionProvider. Require cuDNN 9.* and CUDA 13.*",
                ],
                "libcublasLt.so.13: cannot open shared object file: No such file",
            ),
            (
                [
                    "20:15 [W:onnxruntime:Default, d.cc:164 DiscoverDevicesForPlatform] GPU"
                    " device discovery failed: Failed to open file: /sys/class/drm/card0/device/vendor",
                    "20:15 [E:onnxruntime:, x.cc:1 f] CUDA failure 35: CUDA driver version is insufficient"
                    " for CUDA runtime version ; GPU=-1",
                ],
                "CUDA driver version is insufficient for CUDA runtime version ; GPU=-1",
            ),
            (
                [
                    "20:15 [E:onnxruntime:Default, p.cc:1 f] Error loading"
                    ' "C:\\providers_cuda.dll" which depends on "cublasLt64_12.dll" which is missing.'
                ],
                'which depends on "cublasLt64_12.dll" which is missing.',
            ),
            (
                ["x [W:onnxruntime:, a.cc:1 f] a warning", "x [E:onnxruntime:, a.cc:1 f] an error"],
                "an error",
            ),
            ([], None),
        ],
    )
    def test_finds_the_telling_line(self, lines: list[str], reason: str | None) -> None:
        text = "\n".join(lines)

        assert native_log.first_reason(text) == reason

    @pytest.mark.parametrize(
        ("text", "is_so"),
        [
            ("Failed to load library x with error: libcudnn.so.9: cannot open shared object file", True),
            ("CUDA failure 100: no CUDA-capable device is detected ; GPU=0", True),
            ("CUDA failure 101: invalid device ordinal ; GPU=7", True),
            ("Could not find an implementation for NhwcConv(1) node with name ''", False),
            ("CUDA failure 700: an illegal memory access was encountered", False),
        ],
    )
    def test_tells_a_provider_that_did_not_start(self, text: str, is_so: bool) -> None:
        assert cuda.says_not_started(text) is is_so
