"""One contender through the phases: started alone, compared with the reference, measured round by round."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from onnxsd.bench.child import Child, Command, Failed
from onnxsd.bench.gpu import ENVIRONMENT, Gpu, Watch
from onnxsd.bench.prepare import Model, Say
from onnxsd.bench.report import Case, CaseReport, ContenderReport, PackageVersion, Settings
from onnxsd.bench.roster import Entry
from onnxsd.session import Provider
from onnxsd.verify.reference import relative_error


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is measured in a round: calls are waited for block by block, each block is one sample."""

    unet_calls: int
    vae_calls: int
    blocks: int
    images: int
    # After a case's first image: torch captures its graphs in the second and third run.
    warm_images: int


EFFORTS: Mapping[Provider, Effort] = {
    Provider.CUDA: Effort(unet_calls=10, vae_calls=5, blocks=4, images=2, warm_images=2),
    Provider.CPU: Effort(unet_calls=2, vae_calls=1, blocks=3, images=1, warm_images=1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The inputs of a case and what the float32 reference gives for them, as files."""

    inputs: Path
    exact: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What is the same for every contender of a model."""

    model: Model
    settings: Settings
    provider: Provider
    cases: tuple[Case, ...]
    # By component and case; empty where there is no reference.
    compared: Mapping[tuple[str, Case], Compared]
    work: Path
    gpu: Gpu | None
    watch: Watch | None
    say: Say

    @property
    def effort(self) -> Effort:
        """How much is measured in a round."""
        return EFFORTS[self.provider]


class Runner:
    """One contender and its process; whatever it cannot do is written into its report."""

    def __init__(self, entry: Entry, course: Course, *, python: str, export: Callable[[Entry], Path]) -> None:
        self.entry = entry
        self._course = course
        self._python = python
        self._export = export
        self._child: Child | None = None
        self._base_bytes = 0
        self._cases = {case: CaseReport(case=case) for case in course.cases}
        self._report = ContenderReport(name=entry.name, title=entry.title)

    @property
    def report(self) -> ContenderReport:
        """What is known so far."""
        return replace(self._report, cases=tuple(self._cases.values()))

    @property
    def started(self) -> bool:
        """Whether it was started, or could not be."""
        return self._child is not None or self._report.failure is not None

    @property
    def running(self) -> bool:
        """Whether it can still be asked for something."""
        return self._child is not None and self._report.failure is None

    def start(self) -> None:
        """Start the process, load the model and make the first images of every case; then the errors."""
        try:
            export = self._export(self.entry)
            self._begin()
            self._load(export)
        except Failed as failed:
            self._fail(self._told(failed))
            return
        for case in self._course.cases:
            self._in_case(case, self._first_images)
        for case in self._course.cases:
            self._in_case(case, self._compare)

    def round(self, case: Case) -> None:
        """One round of a case: denoiser, decoder, whole images."""
        self._in_case(case, self._measure)

    def end(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def kill(self) -> None:
        """End the process at once."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def _begin(self) -> None:
        course = self._course
        if course.gpu is not None and course.watch is not None:
            self._base_bytes = course.gpu.used_bytes()
            course.watch.reset()
        environment = dict(ENVIRONMENT)
        if self.entry.compiles:
            environment["TORCHINDUCTOR_CACHE_DIR"] = str(course.work / f"{self.entry.name}-cache")
            environment["TRITON_CACHE_DIR"] = str(course.work / f"{self.entry.name}-triton")
        self._child = Child(
            Command(
                module=self.entry.module,
                log=course.work / f"{self.entry.name}.log",
                python=self._python,
                environment=environment,
            )
        )

    def _load(self, export: Path) -> None:
        answer = self._ask(
            "load",
            name=self.entry.name,
            model=str(self._course.model.folder),
            export=str(export),
            provider=self._course.provider.value,
            device_id=self._course.settings.device_id,
        )
        versions = tuple(PackageVersion(name=n, version=v) for n, v in answer["versions"].items())
        self._report = replace(
            self._report, load_s=answer["seconds"], versions=versions, kernels=answer.get("kernels")
        )

    def _first_images(self, case: Case) -> None:
        assert self._child is not None
        first = self._image(case)
        if self._report.cold_start_s is None:
            cold = time.perf_counter() - self._child.started
            self._report = replace(self._report, cold_start_s=cold)
        self._update(case, first_image_s=first)
        for _ in range(self._course.effort.warm_images):
            self._image(case)
        watch = self._course.watch
        self._update(
            case,
            peak_gpu_bytes=None if watch is None else watch.peak_bytes - self._base_bytes,
            peak_host_bytes=self._child.peak_host_bytes,
        )

    def _compare(self, case: Case) -> None:
        for component, command in (("unet", "unet_output"), ("vae", "vae_output")):
            compared = self._course.compared.get((component, case))
            if compared is not None:
                first, second = (self._output(command, compared.inputs, run) for run in ("first", "second"))
                error, repeat = _error(first, compared.exact), _error(second, first)
                self._update(case, **{f"{component}_error": error, f"{component}_repeat": repeat})

    def _output(self, command: str, inputs: Path, run: str) -> Path:
        """What a component gives for these inputs, as a file."""
        out = self._course.work / f"{self.entry.name}-{run}.npy"
        self._ask(command, inputs=str(inputs), out=str(out))
        return out

    def _measure(self, case: Case) -> None:
        effort, course = self._course.effort, self._course
        guidance = course.model.guidance_scale(course.settings)
        unet = self._ask(
            "denoise",
            size=case.size_px,
            batch=case.batch,
            guidance=guidance,
            calls=effort.unet_calls,
            blocks=effort.blocks,
        )
        vae = self._ask(
            "decode", size=case.size_px, batch=case.batch, calls=effort.vae_calls, blocks=effort.blocks
        )
        known = self._cases[case]
        self._update(
            case,
            unet_s=(*known.unet_s, *unet["seconds"]),
            vae_s=(*known.vae_s, *vae["seconds"]),
        )
        for _ in range(effort.images):
            self._measured_image(case)

    def _measured_image(self, case: Case) -> None:
        gpu = self._course.gpu
        before = None if gpu is None else gpu.joules()
        seconds = self._image(case)
        known = self._cases[case]
        joules = known.image_joules
        after = None if gpu is None else gpu.joules()
        if before is not None and after is not None:
            joules = (*joules, after - before)
        self._update(case, image_s=(*known.image_s, seconds), image_joules=joules)

    def _image(self, case: Case) -> float:
        course = self._course
        answer = self._ask(
            "image",
            size=case.size_px,
            batch=case.batch,
            steps=course.model.steps(course.settings),
            guidance=course.model.guidance_scale(course.settings),
            prompt=course.settings.prompt,
            seed=course.settings.seed,
            save=None,
        )
        return float(answer["seconds"])

    def _ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        assert self._child is not None
        return self._child.ask(command, timeout_s=self._course.settings.timeout_s, **arguments)

    def _in_case(self, case: Case, work: Callable[[Case], None]) -> None:
        """Do a part of a case; what fails ends the case, and the contender where its process has ended."""
        if not self.running or self._cases[case].failure is not None:
            return
        try:
            work(case)
        except Failed as failed:
            self._update(case, failure=self._told(failed))
            self._course.say(f"{self.entry.name}, {case}: {failed.text}")
            if self._child is not None and not self._child.alive:
                self._fail(failed.text)

    def _told(self, failed: Failed) -> str:
        """A failure as the report has it."""
        if failed.missing:
            return f"not installed: {failed.text}"
        if failed.out_of_memory and not self._course.settings.in_turn:
            return f"{failed.text} (with --in-turn each contender has the memory to itself)"
        return failed.text

    def _fail(self, text: str) -> None:
        self._report = replace(self._report, failure=text)
        self._course.say(f"{self.entry.name}: {text}")
        self.kill()

    def _update(self, case: Case, **changes: Any) -> None:
        self._cases[case] = replace(self._cases[case], **changes)


def _error(found: Path, exact: Path) -> float | None:
    """The relative error of an array in a file; None where a value is not finite."""
    error = relative_error(np.load(found), np.load(exact))
    return error if np.isfinite(error) else None
