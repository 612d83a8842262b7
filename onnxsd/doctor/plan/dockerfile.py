"""A container recipe in which the recommended runtime runs on this machine's driver and GPUs."""

from __future__ import annotations

from collections.abc import Iterator

from onnxsd.doctor.finding import Diagnosis
from onnxsd.doctor.recommend import recommend
from onnxsd.doctor.shells import Shell, line
from onnxsd.doctor.ways import Container, container_for, inside_of
from onnxsd.errors import NotReadyError
from onnxsd.machine import OperatingSystem, with_settings
from onnxsd.matrix import Image, Matrix

_VENV = "/opt/venv"


def dockerfile(diagnosis: Diagnosis, matrix: Matrix) -> str:
    """The text of a Dockerfile for this machine: on its GPU, or on the CPU where it has none.

    Raises:
        NotReadyError: no image brings a runtime that serves the goal on this driver and these GPUs.
    """
    seen = diagnosis.machine
    if not seen.gpus:
        image = matrix.images[0]
        return "\n".join(_lines(image, ("onnxsd[cpu]",), gpu=False)) + "\n"
    if seen.os is OperatingSystem.WINDOWS:
        raise NotReadyError(
            "asked for a container with a GPU on a machine that runs Windows: containers are Linux, in WSL 2",
            hint="judge that Linux, with the driver's number for Linux: --set os=linux --set glibc=2.39",
        )
    container = container_for(seen, matrix, diagnosis.goal)
    if container is None or not container.suffices:
        raise _refusal(container, diagnosis)
    inside = with_settings(seen, inside_of(container.image))
    best = recommend(inside, matrix, diagnosis.goal, feeds=False, ways=False)
    assert best is not None, "container_for found a release that fits inside"
    return "\n".join(_lines(container.image, best.remedy.install, gpu=True)) + "\n"


def _refusal(container: Container | None, diagnosis: Diagnosis) -> NotReadyError:
    fits = f"{container.version} is the newest that fits in one" if container else "none fits in any"
    ways = diagnosis.recommendation.ways if diagnosis.recommendation else ()
    helps = "; ".join(way.change for way in ways if way.suffices)
    return NotReadyError(
        f"asked for a container that can {diagnosis.goal.value} on this machine: {fits}",
        hint=f"what would help: {helps}" if helps else "use the CPU: leave the GPU out with --set gpu=none",
    )


def _lines(image: Image, requirements: tuple[str, ...], *, gpu: bool) -> Iterator[str]:
    run = "docker run --rm --gpus all onnxsd doctor" if gpu else "docker run --rm onnxsd doctor"
    yield "# docker build -t onnxsd ."
    yield f"# {run}"
    yield f"FROM {image.name}"
    yield ""
    python = "python"
    if image.cuda is not None:  # NVIDIA's images hold no Python of their own
        python = f"{_VENV}/bin/python"
        yield "RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv \\"
        yield f"    && rm -rf /var/lib/apt/lists/* && python3 -m venv {_VENV}"
        yield f'ENV PATH="{_VENV}/bin:$PATH"'
    if gpu:
        # What the host's container toolkit brings in: the driver's CUDA and nvidia-smi.
        yield "ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility"
    install = (python, "-m", "pip", "install", "--no-cache-dir", *requirements)
    yield f"RUN {line(install, Shell.BASH)}"
    yield 'ENTRYPOINT ["onnxsd"]'
