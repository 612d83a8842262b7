"""What setup.cfg cannot say: the root's compat_matrix.yaml goes into the wheel, native/ becomes a library.

The library (own operators on CUDA, loaded by ONNX Runtime) is no Python module. Without a compiler, or where
compiling fails, the package is installed without it and computes with ONNX Runtime's operators;
ONNXSD_REQUIRE_NATIVE=1 makes that an error.
"""

from __future__ import annotations

import os
import runpy
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path
from subprocess import CalledProcessError

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import PlatformError

MATRIX = "compat_matrix.yaml"

LIBRARY = "onnxsd.kernels._operators"
EXPORTS = [
    "RegisterCustomOps",
    "onnxsd_api_version",
    "onnxsd_built_from",
    "onnxsd_function",
    "onnxsd_provide",
]
PACKAGE = Path("onnxsd")
REQUIRE = "ONNXSD_REQUIRE_NATIVE"
WINDOWS = sys.platform == "win32"
# ONNX Runtime has a CUDA provider for these alone.
SYSTEMS = ("linux", "win32")
SUFFIX = ".dll" if WINDOWS else ".so"
# /utf-8: MSVC reads a source in the system's code page, in which a comment may swallow the end of its line.
COMPILE = (
    ["/std:c++17", "/EHsc", "/utf-8"] if WINDOWS else ["-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden"]
)
# Linked with the system's libstdc++: a static one asks for the compiler's own glibc (2.36 on Debian 12),
# where the library by itself asks for 2.2.5.
LINK = [] if WINDOWS else ["-Wl,-z,defs", "-Wl,-s"]


class BuildWithMatrix(build_py):
    """Copies the matrix beside the package; an editable install reads the root's file itself."""

    def run(self) -> None:
        """Build the package, then copy the matrix into it."""
        super().run()
        if not self.editable_mode:
            self.copy_file(MATRIX, self._target())

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Every file that was built, the matrix among them."""
        outputs: list[str] = super().get_outputs(include_bytecode)
        return outputs if self.editable_mode else [*outputs, self._target()]

    def _target(self) -> str:
        return str(Path(self.build_lib) / "onnxsd" / MATRIX)


class BuildOperators(build_ext):
    """Compiles native/ where that works, and says in one line where it does not."""

    def run(self) -> None:
        """Compile and link; on failure leave no library, not even an older one."""
        in_place = self.inplace
        # What it is built from is more than its sources, and no date says whether one of these has changed.
        self.force = True
        try:
            if sys.platform not in SYSTEMS:
                raise PlatformError(f"ONNX Runtime has no CUDA provider for {sys.platform}")
            super().run()
        except Exception as error:  # however a toolchain is broken, the package installs
            self._remove_library(in_place=in_place)
            if os.environ.get(REQUIRE) == "1":
                raise
            self.warn(
                f"own operators were not built ({_reason(error)}): onnxsd installs without them and computes "
                f"with ONNX Runtime's; they need a C++ compiler, and {REQUIRE}=1 makes this an error"
            )

    def build_extension(self, ext: Extension) -> None:
        """Compile with flags of its own: Python's are for modules, and for the machine that compiled it."""
        if not WINDOWS:
            compiler = _compiler()
            compile_ = [*compiler, *_flags("CPPFLAGS"), *_flags("CXXFLAGS")]
            link = [*compiler, "-shared", *_flags("LDFLAGS")]
            self.compiler.set_executables(
                compiler_cxx=compiler,
                compiler_so=compile_,
                compiler_so_cxx=compile_,
                linker_exe=compiler,
                linker_exe_cxx=compiler,
                linker_so=link,
                linker_so_cxx=link,
            )
            ext.extra_link_args = [*LINK, f"-Wl,--version-script={self._exports()}"]
        ext.define_macros = [("ONNXSD_BUILT_FROM", _mark())]
        super().build_extension(ext)

    def _exports(self) -> Path:
        """A script for the linker that hides all but the exported symbols, those of std's templates too."""
        script = Path(self.build_temp, "exports.map")
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(f"{{ global: {'; '.join(EXPORTS)}; local: *; }};\n", encoding="utf-8")
        return script

    def get_ext_filename(self, fullname: str) -> str:
        """Where the library lies: without Python's ABI in its name, which it does not depend on."""
        return str(Path(*fullname.split(".")).with_suffix(SUFFIX))

    def get_export_symbols(self, ext: Extension) -> list[str]:
        """What Windows exports: no PyInit, which the library has not."""
        return list(ext.export_symbols)

    def get_libraries(self, ext: Extension) -> list[str]:
        """What it is linked with: not Python."""
        return list(ext.libraries)

    def get_outputs(self) -> list[str]:
        """The library, if it was built."""
        return [path for path in super().get_outputs() if Path(path).exists()]

    def get_output_mapping(self) -> dict[str, str]:
        """The built library and its place in the source tree, if it was built."""
        return {built: place for built, place in super().get_output_mapping().items() if Path(built).exists()}

    def _remove_library(self, *, in_place: bool) -> None:
        Path(self.get_ext_fullpath(LIBRARY)).unlink(missing_ok=True)
        if in_place:
            Path(self.get_ext_filename(LIBRARY)).unlink(missing_ok=True)


class TaggedWheel(bdist_wheel):
    """Names a wheel for every Python: of this platform with the library inside, of any without."""

    def get_tag(self) -> tuple[str, str, str]:
        """Python, ABI and platform; the library calls nothing of Python, so no version of it is named."""
        self.root_is_pure = not self.get_finalized_command("build_ext").get_outputs()
        return "py3", "none", super().get_tag()[2]


def _compiler() -> list[str]:
    """The C++ compiler as a command: $CXX, else the one that compiled Python, else one that is there."""
    if named := _flags("CXX"):
        return named
    of_python = shlex.split(sysconfig.get_config_var("CXX") or "c++")
    for command in (of_python, ["c++"], ["g++"], ["clang++"]):
        if shutil.which(command[0]):
            return command
    raise PlatformError(f"there is no C++ compiler: neither {of_python[0]}, c++, g++ nor clang++")


def _flags(variable: str) -> list[str]:
    return shlex.split(os.environ.get(variable, ""))


def _reason(error: Exception) -> str:
    """One line of what failed; a compiler's own messages stand above it in the log."""
    cause = error.args[0] if error.args else error
    if isinstance(cause, CalledProcessError):
        return f"{Path(cause.cmd[0]).name} ended with {cause.returncode}"
    return " ".join(str(error).split()) or type(error).__name__


def _mark() -> str:
    """What the library says that it was built from; that file needs nothing else of the package."""
    return str(runpy.run_path(str(PACKAGE / "machine" / "built_from.py"))["mark"](PACKAGE))


setup(
    cmdclass={"build_py": BuildWithMatrix, "build_ext": BuildOperators, "bdist_wheel": TaggedWheel},
    ext_modules=[
        Extension(
            LIBRARY,
            sources=sorted(path.as_posix() for path in Path("native").glob("*.cpp")),
            language="c++",
            extra_compile_args=COMPILE,
            export_symbols=EXPORTS,
        )
    ],
)
