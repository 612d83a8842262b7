"""The exported folders that contenders run, each made once and only when somebody needs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from onnxsd.artifact.folder import open_folder
from onnxsd.bench.child import Failed
from onnxsd.bench.helpers import Helpers
from onnxsd.bench.prepare import Model, Say, target_for
from onnxsd.bench.roster import Entry
from onnxsd.ops import Target
from onnxsd.session import Provider


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """One exported folder, and what it took; nothing where it was there already."""

    folder: Path
    seconds: float | None = None
    peak_bytes: int | None = None


class Exports:
    """The exports of one model."""

    def __init__(self, helpers: Helpers, model: Model, given: Path | None, say: Say) -> None:
        self._helpers = helpers
        self._model = model
        self._say = say
        self._target, self._precision = target_for(Provider(helpers.provider))
        self._made: dict[Target, Exported | Failed] = {}
        if given is not None:
            # Whatever it was exported for, onnxsd runs it; others want the portable one.
            taken = Exported(folder=given)
            self._made = {self._target: taken, open_folder(given).target: taken}

    def own(self) -> Exported:
        """The folder that onnxsd runs.

        Raises:
            Failed: it could not be made.
        """
        return self._of(self._target)

    def folder(self, entry: Entry) -> Path:
        """The folder that a contender runs.

        Raises:
            Failed: it could not be made, or the contender is not installed.
        """
        if entry.needs:
            self._helpers.require(entry.name, entry.needs)
        return self._of(Target.PORTABLE if entry.portable else self._target).folder

    def _of(self, target: Target) -> Exported:
        if target not in self._made:
            try:
                self._made[target] = self._export(target)
            except Failed as failed:
                self._made[target] = Failed(f"the export failed: {failed.text}")
        found = self._made[target]
        if isinstance(found, Failed):
            raise found
        return found

    def _export(self, target: Target) -> Exported:
        out = self._helpers.work / f"{self._model.name}-{target.value}"
        self._say(f"exporting {self._model.name} for {target.value}")
        with self._helpers.start("export") as helper:
            answer = helper.ask(
                "export",
                model=str(self._model.folder),
                out=str(out),
                target=target.value,
                precision=self._precision,
                provider=self._helpers.provider,
            )
            return Exported(folder=out, seconds=answer["seconds"], peak_bytes=helper.child.peak_host_bytes)
