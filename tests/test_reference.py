"""Comparison with diffusers: exports pass it, damaged ones and other checkpoints fail, and by how much."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from onnxsd.artifact import manifest as manifests
from onnxsd.artifact.manifest import CheckRecord, InitializerRecord
from onnxsd.cli import main
from onnxsd.errors import NotReadyError, VerificationError
from onnxsd.export import synthetic
from onnxsd.export.export import Silent, export
from onnxsd.export.source import resolve
from onnxsd.ops import Target
from onnxsd.session import Choice, Provider
from onnxsd.tensors import DType
from onnxsd.verify import reference
from onnxsd.verify.reference_image import psnr
from onnxsd.verify.torch_models import Checkpoint

if TYPE_CHECKING:
    from checkpoints import Workshop

SDXL, SD15 = "sdxl-base-1.0", "sd-1.5"
CPU = Choice(provider=Provider.CPU, device_id=0, reason="these tests run on a CPU")
against_diffusers = pytest.mark.reference
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)


def verify(folder: Path, source: Path, *options: str) -> Result:
    """`onnxsd verify --against diffusers` on a CPU."""
    arguments = (
        "verify",
        folder,
        "--against",
        "diffusers",
        "--source",
        source,
        "--provider",
        "cpu",
        *options,
    )
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="onnxsd")


def checks_of(result: Result) -> dict[tuple[str, str], dict[str, Any]]:
    """The checks that `--json` printed, by (check, subject or component)."""
    checks = json.loads(result.stdout)["checks"]
    return {
        (check["check"], check["subject"] if check["check"] == "hash" else check["component"]): check
        for check in checks
    }


def other_checkpoint(out: Path, name: str = SDXL, seed: int = 1) -> Path:
    """A twin whose weights are of another seed than the workshop's."""
    synthetic.write(synthetic.plan(name, tiny=True, seed=seed, dtype=DType.FLOAT32), out)
    return out


@against_diffusers
@pytest.mark.parametrize(
    ("name", "target", "precision"),
    [
        (SDXL, Target.PORTABLE, DType.FLOAT32),
        (SDXL, Target.PORTABLE, DType.FLOAT16),
        (SDXL, Target.CUDA, DType.FLOAT32),
        (SDXL, Target.CUDA, DType.FLOAT16),
        (SD15, Target.PORTABLE, DType.FLOAT32),
        (SD15, Target.CUDA, DType.FLOAT16),
    ],
)
def test_an_export_agrees_with_its_checkpoint(
    workshop: Workshop, name: str, target: Target, precision: DType
) -> None:
    from onnxsd.cli.against import checkpoint_of, checks

    folder = workshop.export(name, target, precision)
    checkpoint = checkpoint_of(resolve(str(workshop.checkpoint(name))), None)
    told: list[str] = []
    made = list(checks(folder, checkpoint, CPU, told.append))

    compared = [record.name for record in folder.manifest.components]
    assert [check.component for check in made] == [*compared, "pipeline"]
    assert all(check.passed for check in made), [check.detail for check in made if not check.passed]
    assert all(component in told[place] for place, component in enumerate(compared))


@against_diffusers
def test_a_pipeline_that_needs_an_image_is_compared_by_its_components(workshop: Workshop) -> None:
    from onnxsd.cli.against import checkpoint_of, checks

    folder = workshop.export("sdxl-refiner-1.0")
    checkpoint = checkpoint_of(resolve(str(workshop.checkpoint("sdxl-refiner-1.0"))), None)
    told: list[str] = []
    made = list(checks(folder, checkpoint, CPU, told.append))

    assert [check.component for check in made] == [record.name for record in folder.manifest.components]
    assert all(check.passed for check in made), [check.detail for check in made if not check.passed]
    assert "no image is compared" in told[-1]


@against_diffusers
def test_negated_weights_are_caught_by_hash_and_by_number(workshop: Workshop, tmp_path: Path) -> None:
    made = workshop.export(SD15)
    damaged = tmp_path / "damaged"
    shutil.copytree(made.path, damaged)
    (weight,) = (
        entry
        for entry in made.manifest.component("unet").initializers
        if entry.recipe.source == "mid_block.resnets.0.conv1.weight"
    )
    negate(damaged / "unet" / "model.onnx_data", weight)
    result = verify(damaged, workshop.checkpoint(SD15), "--json")

    assert result.exit_code == 1, result.stderr
    failed = {key for key, check in checks_of(result).items() if not check["passed"]}
    assert ("hash", "unet/model.onnx_data") in failed
    assert ("reference", "unet") in failed
    assert failed <= {("hash", "unet/model.onnx_data"), ("reference", "unet"), ("reference", "pipeline")}
    assert "relative error" in checks_of(result)["reference", "unet"]["detail"]


def negate(path: Path, weight: InitializerRecord) -> None:
    """Turn the sign of one float32 weight in a data file, whose size stays."""
    numbers = np.memmap(path, "<f4", "r+", weight.offset, (weight.recipe.elements,))
    numbers[:] = -numbers
    numbers.flush()


@against_diffusers
def test_weights_of_another_seed_fail_everywhere(workshop: Workshop, tmp_path: Path) -> None:
    made = workshop.export(SD15)
    result = verify(made.path, other_checkpoint(tmp_path / "other", SD15), "--json")

    assert result.exit_code == 1, result.stderr
    checks = checks_of(result)
    components = [record.name for record in made.manifest.components]
    assert [name for check, name in checks if check == "reference"] == [*components, "pipeline"]
    for (check, _), found in checks.items():
        assert found["passed"] is (check != "reference"), found


@against_diffusers
def test_a_checkpoint_of_another_pipeline_is_refused(workshop: Workshop) -> None:
    result = verify(workshop.export(SDXL).path, workshop.checkpoint(SD15))

    assert result.exit_code == 3
    assert "StableDiffusionPipeline" in result.stderr
    assert "StableDiffusionXLPipeline" in result.stderr


@against_diffusers
def test_models_of_other_sizes_are_refused(workshop: Workshop) -> None:
    result = verify(workshop.export(SD15).path, workshop.checkpoint("sd-2.1"))

    assert result.exit_code == 3
    assert "of other sizes" in result.stderr


@against_diffusers
def test_a_vae_from_elsewhere_is_the_one_that_is_compared(workshop: Workshop, tmp_path: Path) -> None:
    other = other_checkpoint(tmp_path / "other", SD15)
    out = tmp_path / "out"
    arguments = ("export", workshop.checkpoint(SD15), out, "--vae", other, "--precision", "fp32")
    made = CliRunner().invoke(
        main, [*map(str, arguments), "--target", "portable", "--check", "none"], prog_name="onnxsd"
    )
    assert made.exit_code == 0, made.stderr
    assert verify(out, workshop.checkpoint(SD15)).exit_code == 0

    moved = tmp_path / "moved"
    other.rename(moved)
    lost = verify(out, workshop.checkpoint(SD15))
    assert lost.exit_code == 3
    assert str(other) in lost.stderr
    assert "--vae" in lost.stderr
    assert verify(out, workshop.checkpoint(SD15), "--vae", str(moved)).exit_code == 0


@against_diffusers
def test_export_writes_what_the_comparison_said(workshop: Workshop, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = export_with_reference(workshop.checkpoint(SD15), out)

    assert result.exit_code == 0, result.stderr
    records = [check for check in manifests.load(out).checks if check.check == "reference"]
    components = [record.name for record in manifests.load(out).components]
    assert [record.component for record in records] == [*components, "pipeline"]
    assert all(record.passed for record in records)


@against_diffusers
def test_an_export_that_differs_leaves_nothing(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(reference.BOUNDS, DType.FLOAT32, 1e-12)  # type: ignore[attr-defined]
    result = export_with_reference(workshop.checkpoint(SD15), tmp_path / "out")

    assert result.exit_code == 1
    assert "check reference of the exported file failed: relative error" in result.stderr
    assert list(tmp_path.iterdir()) == []


def export_with_reference(checkpoint: Path, out: Path) -> Result:
    """`onnxsd export --check reference` in float32."""
    options = ("--target", "portable", "--precision", "fp32", "--check", "reference")
    return CliRunner().invoke(main, ["export", str(checkpoint), str(out), *options], prog_name="onnxsd")


def test_a_further_check_that_fails_leaves_nothing(workshop: Workshop, tmp_path: Path) -> None:
    seen: list[Path] = []

    def refuse(folder: Any) -> list[CheckRecord]:
        seen.extend(sorted(folder.path.iterdir()))
        return [
            CheckRecord(check="reference", component="unet", subject="file", passed=False, detail="2.0 off")
        ]

    with pytest.raises(VerificationError, match=r"unet: check reference of the file failed: 2\.0 off"):
        export(
            resolve(str(workshop.checkpoint(SD15))),
            tmp_path / "out",
            target=Target.PORTABLE,
            precision=DType.FLOAT32,
            choice=CPU,
            further=refuse,
            report=Silent(),
        )
    assert "unet" in {path.name for path in seen}
    assert list(tmp_path.iterdir()) == []


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from onnxsd.cli import main
main(sys.argv[1:], prog_name="onnxsd")
"""


@pytest.mark.parametrize("command", ["verify", "export"])
def test_without_the_reference_it_is_said_what_to_install(
    workshop: Workshop, tmp_path: Path, command: str
) -> None:
    checkpoint, out = workshop.checkpoint(SD15), tmp_path / "out"
    arguments = {
        "verify": (workshop.export(SD15).path, "--against", "diffusers", "--source", checkpoint),
        "export": (checkpoint, out, "--check", "reference"),
    }[command]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, command, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 1
    assert "pip install 'onnxsd[reference]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--against", "diffusers"), "--against and --source go together"),
        (("--source", "x"), "--against and --source go together"),
        (("--vae", "."), "--vae goes with --against"),
    ],
)
def test_options_that_belong_together(workshop: Workshop, options: tuple[str, ...], told: str) -> None:
    result = CliRunner().invoke(
        main, ["verify", str(workshop.export(SD15).path), *options], prog_name="onnxsd"
    )

    assert result.exit_code == 2
    assert told in result.stderr


def test_a_comparison_that_would_not_fit_is_refused_before_it_starts(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnxsd.cli.against import checkpoint_of

    checkpoint = checkpoint_of(resolve(str(workshop.checkpoint(SD15))), None)
    least = checkpoint.parameter_count * 8
    assert least > 8 * 1_000_000, "both text encoder, unet and vae are counted"

    monkeypatch.setattr(reference, "free_memory_bytes", lambda: least - 1)
    with pytest.raises(NotReadyError, match=r"needs about .* GB of memory"):
        reference.require_memory(checkpoint, CPU)
    for enough in (least, None):
        monkeypatch.setattr(reference, "free_memory_bytes", lambda free=enough: free)
        reference.require_memory(checkpoint, CPU)


def test_an_empty_checkpoint_needs_no_memory(tmp_path: Path) -> None:
    assert Checkpoint(folder=tmp_path, parts={}).parameter_count == 0


@pytest.mark.parametrize(
    ("found", "expected", "error"),
    [
        ([3.0, 4.0], [3.0, 4.0], 0.0),
        ([3.0, 4.5], [3.0, 4.0], 0.1),
        ([-3.0, -4.0], [3.0, 4.0], 2.0),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([0.0, 1.0], [0.0, 0.0], math.inf),
    ],
)
def test_relative_error(found: list[float], expected: list[float], error: float) -> None:
    pair = (np.array(numbers, np.float32) for numbers in (found, expected))

    assert reference.relative_error(*pair) == pytest.approx(error)


def test_psnr() -> None:
    picture = np.full((4, 6, 3), 0.5, np.float32)

    assert psnr(picture, picture) == math.inf
    assert psnr(picture + np.float32(0.01), picture) == pytest.approx(40, abs=1e-4)
    assert math.isnan(psnr(np.full_like(picture, np.nan), picture))
