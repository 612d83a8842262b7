"""The one build step that setup.cfg cannot say: put the root's compat_matrix.yaml into the wheel."""

from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

MATRIX = "compat_matrix.yaml"


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


setup(cmdclass={"build_py": BuildWithMatrix})
