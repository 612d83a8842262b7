"""The phases of a bench: prepare, start each contender alone, compare with float32, measure in rounds."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from onnxsd import __version__
from onnxsd.bench import host
from onnxsd.bench.child import Failed
from onnxsd.bench.exports import Exports
from onnxsd.bench.gpu import Watch, look_at
from onnxsd.bench.helpers import Helpers
from onnxsd.bench.inputs import unet_inputs, vae_inputs
from onnxsd.bench.prepare import Model, Say, Wanted, find, random_checkpoint
from onnxsd.bench.report import SCHEMA, Case, Ceiling, ModelReport, Report, Settings
from onnxsd.bench.roster import entry
from onnxsd.bench.runner import Compared, Course, Runner
from onnxsd.session import Provider

Keep = Callable[[Report], None]
# Rows, type, products a block and blocks of the ceiling.
CEILINGS: Mapping[Provider, tuple[int, str, int, int]] = {
    Provider.CUDA: (8192, "float16", 100, 10),
    Provider.CPU: (1024, "float32", 5, 5),
}
# Memory that all contenders together may need, over the first one's need times their number.
ROOM = 1.25


class Bench:
    """One run; `report` is what is known so far, and is given to `keep` whenever it grows."""

    def __init__(
        self,
        settings: Settings,
        *,
        command: str,
        work: Path,
        pythons: Mapping[str, str],
        say: Say,
        keep: Keep,
    ) -> None:
        self._settings = settings
        self._provider = Provider(settings.provider)
        self._helpers = Helpers(
            provider=settings.provider,
            device_id=settings.device_id,
            work=work,
            pythons=pythons,
            timeout_s=settings.timeout_s,
        )
        self._say, self._keep = say, keep
        self._started = time.perf_counter()
        self._gpu, unseen = look_at(settings.device_id) if self._provider is Provider.CUDA else (None, "")
        self._watch: Watch | None = None
        self._runners: list[Runner] = []
        self._done: tuple[ModelReport, ...] = ()
        self.report = Report(
            schema=SCHEMA,
            onnxsd=__version__,
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            command=command,
            seconds=0.0,
            settings=settings,
            machine=host.machine(None if self._gpu is None else self._gpu.record()),
            ceiling=None,
            models=(),
            notes=(f"GPU memory, energy and clocks are unknown: {unseen}",) if unseen else (),
        )

    def run(self, wanted: Sequence[Wanted]) -> Report:
        """Measure every model; Ctrl-C ends it with what was measured so far, marked as interrupted."""
        self._watch = None if self._gpu is None else Watch(self._gpu)
        try:
            self._measure_ceiling()
            for model in wanted:
                self._measure(self._prepared(model), model.export)
        except KeyboardInterrupt:
            self._change(interrupted=True)
        finally:
            for runner in self._runners:
                runner.kill()
            if self._watch is not None:
                self._watch.stop()
        return self.report

    def _measure_ceiling(self) -> None:
        rows, dtype, calls, blocks = CEILINGS[self._provider]
        self._say(f"multiplying matrices of {rows} rows")
        try:
            with self._helpers.start("matmul") as helper:
                rates = helper.ask("rates", rows=rows, dtype=dtype, calls=calls, blocks=blocks)["rates"]
        except Failed as failed:
            self._note(f"no ceiling was measured, so no floor is known: {failed.text}")
            return
        self._change(ceiling=Ceiling(rows=rows, dtype=dtype, rates=tuple(rates)))

    def _prepared(self, wanted: Wanted) -> Model:
        if not wanted.random:
            return find(wanted, self._say)
        return random_checkpoint(wanted.name, self._helpers.work, self._initialise, self._say)

    def _initialise(self, checkpoint: Path) -> str | None:
        """Give a checkpoint the weights that diffusers' classes start with; None without torch."""
        try:
            with self._helpers.start("weights") as helper:
                helper.ask("initialise", checkpoint=str(checkpoint))
        except Failed as failed:
            self._note(f"diffusers' classes could not make the weights: {failed.text}")
            return None
        return "those that diffusers' classes start with, seed 0"

    def _measure(self, model: Model, export: Path | None) -> None:
        """All contenders with one model."""
        settings, cases = self._settings, model.cases(self._settings)
        exports = Exports(self._helpers, model, export, self._say)
        course = Course(
            model=model,
            settings=settings,
            provider=self._provider,
            cases=cases,
            compared=self._references(model, cases),
            work=self._helpers.work,
            gpu=self._gpu,
            watch=self._watch,
            say=self._say,
        )
        self._begin(model, cases, exports)
        self._runners = [
            Runner(found, course, python=self._helpers.python(found.name), export=exports.folder)
            for found in map(entry, settings.contenders)
        ]
        if settings.in_turn or not self._start_all():
            self._in_turn(cases)
        else:
            self._rounds(self._runners, cases)
        for runner in self._runners:
            runner.end()
        self._grown()
        self._done, self._runners = self.report.models, []

    def _begin(self, model: Model, cases: Sequence[Case], exports: Exports) -> None:
        """Add the model to the report, with its export, which is made now: nobody is timed yet."""
        seconds = peak_bytes = None
        with contextlib.suppress(Failed):  # said in the row of each contender that needs it
            exported = exports.own()
            seconds, peak_bytes = exported.seconds, exported.peak_bytes
        settings = self._settings
        begun = ModelReport(
            name=model.name,
            pipeline=model.pipeline,
            weights=model.weights,
            steps=model.steps(settings),
            guidance_scale=model.guidance_scale(settings),
            in_turn=settings.in_turn,
            checkpoint_s=model.checkpoint_s,
            export_s=seconds,
            export_peak_bytes=peak_bytes,
            workloads=tuple(model.workload(case, settings) for case in cases),
        )
        self._change(models=(*self._done, begun))

    def _start_all(self) -> bool:
        """Start every contender, one after another; False where the GPU cannot hold all of them at once."""
        free = None if self._gpu is None else self._gpu.free_bytes()
        for at, runner in enumerate(self._runners):
            self._start(runner)
            peak = max(case.peak_gpu_bytes or 0 for case in runner.report.cases)
            if at == 0 and free is not None and ROOM * peak * len(self._runners) > free:
                self._note("the contenders do not fit the GPU together: they were measured in turn")
                return False
        return True

    def _start(self, runner: Runner) -> None:
        self._say(f"starting {runner.entry.name}")
        runner.start()
        self._grown()

    def _in_turn(self, cases: Sequence[Case]) -> None:
        """Each contender from its start to its end, with the GPU to itself."""
        self._grown(in_turn=True)
        for runner in self._runners:
            if not runner.started:
                self._start(runner)
            self._rounds([runner], cases)
            runner.end()

    def _rounds(self, runners: Sequence[Runner], cases: Sequence[Case]) -> None:
        """Every case by every contender, again and again, each round in another order."""
        for index in range(self._settings.rounds):
            self._say(f"round {index + 1} of {self._settings.rounds}")
            turn = index % len(runners)
            with contextlib.nullcontext() if self._watch is None else self._watch.counting():
                for case in cases:
                    for runner in (*runners[turn:], *runners[:turn]):
                        runner.round(case)
            self._grown()
        if self._gpu is not None and self._watch is not None:
            gpu = self._gpu.record(self._watch.clocks_mhz())
            self._change(machine=replace(self.report.machine, gpu=gpu))

    def _references(self, model: Model, cases: Sequence[Case]) -> dict[tuple[str, Case], Compared]:
        """Inputs of every case, and what diffusers gives for them in float32, as files."""
        found = {
            (component, case): self._inputs(model, component, case)
            for case in cases
            for component in ("unet", "vae")
        }
        self._say("computing the float32 reference")
        try:
            with self._helpers.start("reference", model=str(model.folder)) as helper:
                for component in ("unet", "vae"):
                    files = [pair for (name, _), pair in found.items() if name == component]
                    helper.ask(f"{component}_outputs", pairs=[[str(f.inputs), str(f.exact)] for f in files])
        except Failed as failed:
            self._note(f"no errors were measured, for there is no float32 reference: {failed.text}")
            return {}
        return found

    def _inputs(self, model: Model, component: str, case: Case) -> Compared:
        """Write the inputs of a component in a case."""
        if component == "unet":
            rows = model.rows(case, self._settings)
            inputs = unet_inputs(model.folder, size=case.size_px, rows=rows)
        else:
            inputs = vae_inputs(model.folder, size=case.size_px, rows=case.batch)
        stem = f"{model.name}-{component}-{case.size_px}-{case.batch}"
        work = self._helpers.work
        files = Compared(inputs=work / f"{stem}.npz", exact=work / f"{stem}-exact.npy")
        with files.inputs.open("wb") as file:
            np.savez(file, **inputs)  # type: ignore[arg-type]  # its last keyword is a bool
        return files

    def _note(self, text: str) -> None:
        self._say(text)
        self._change(notes=(*self.report.notes, text))

    def _grown(self, **changes: Any) -> None:
        """Put what the contenders have so far into the report."""
        contenders = tuple(runner.report for runner in self._runners)
        current = replace(self.report.models[-1], contenders=contenders, **changes)
        self._change(models=(*self._done, current))

    def _change(self, **changes: Any) -> None:
        seconds = time.perf_counter() - self._started
        self.report = replace(self.report, seconds=seconds, **changes)
        self._keep(self.report)
