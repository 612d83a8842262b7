"""TensorRT's engines: what each is kept by, and which exported folders they are made from."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from checkpoints import Workshop, run

from onnxsd.artifact.folder import open_folder
from onnxsd.engine import tensorrt as engines
from onnxsd.errors import BadInputError, ProviderFallbackError, UsageError
from onnxsd.ops import Target
from onnxsd.session import Provider, TensorrtOptions, runtime
from onnxsd.session.engine_cache import DESCRIPTION, Builder, EngineKey, kept

HAS_BUILD = Provider.TENSORRT.runtime_name in runtime.available().providers
BUILDER = Builder(
    onnxruntime="onnxruntime-gpu 1.31.1, CUDA 13.0",
    tensorrt="10.16.1.11",
    driver="580.95.05",
    gpu="NVIDIA H200",
    compute_capability=(9, 0),
)
KEY = EngineKey(
    component="unet",
    model_sha256="a" * 64,
    data_sha256="b" * 64,
    options=(("trt_fp16_enable", "True"), ("trt_profile_opt_shapes", "sample:2x4x64x64")),
    builder=BUILDER,
)


def changed() -> list[Any]:
    """The key with one of its parts changed, each part once."""
    parts: dict[str, Any] = {
        "component": "vae_decoder",
        "model_sha256": "c" * 64,
        "data_sha256": "c" * 64,
        "options": (("trt_fp16_enable", "False"), KEY.options[1]),
    }
    other_size = (KEY.options[0], ("trt_profile_opt_shapes", "sample:2x4x64x96"))
    built: dict[str, Any] = {
        "onnxruntime": "onnxruntime-gpu 1.31.0, CUDA 13.0",
        "tensorrt": "10.16.1.12",
        "driver": "580.95.06",
        "gpu": "NVIDIA H100",
        "compute_capability": (9, 1),
    }
    keys = {name: dataclasses.replace(KEY, **{name: value}) for name, value in parts.items()}
    keys["shapes"] = dataclasses.replace(KEY, options=other_size)
    for name, value in built.items():
        keys[f"built-{name}"] = dataclasses.replace(
            KEY, builder=dataclasses.replace(BUILDER, **{name: value})
        )
    return [pytest.param(key, id=name) for name, key in keys.items()]


class TestKeptEngines:
    @pytest.mark.parametrize("other", changed())
    def test_that_differ_in_anything_share_no_folder(self, other: EngineKey) -> None:
        assert other.folder_name != KEY.folder_name
        assert (other.timing_name == KEY.timing_name) == (other.builder == KEY.builder)

    def test_are_tried_in_every_part(self) -> None:
        tried = {case.id for case in changed()}
        parts = {field.name for field in dataclasses.fields(EngineKey)} - {"builder"}
        built = {f"built-{field.name}" for field in dataclasses.fields(Builder)}

        assert tried == parts | built | {"shapes"}

    def test_are_found_again(self, tmp_path: Path) -> None:
        with kept(tmp_path, KEY) as folder:
            (folder / "x.engine").write_text("built")
        with kept(tmp_path, dataclasses.replace(KEY)) as again:
            assert (again / "x.engine").read_text() == "built"

        assert [path.name for path in tmp_path.iterdir()] == [KEY.folder_name]
        described = json.loads((tmp_path / KEY.folder_name / DESCRIPTION).read_text(encoding="utf-8"))
        assert described["builder"]["gpu"] == "NVIDIA H200"

    def test_that_were_interrupted_are_not(self, tmp_path: Path) -> None:
        def interrupted() -> None:
            with kept(tmp_path, KEY) as folder:
                (folder / "x.engine").write_text("half")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert list(tmp_path.iterdir()) == []

    def test_of_two_processes_at_once_are_one(self, tmp_path: Path) -> None:
        with kept(tmp_path, KEY) as slow:
            (slow / "x.engine").write_text("slow")
            with kept(tmp_path, KEY) as fast:
                assert fast != slow
                (fast / "x.engine").write_text("fast")

        assert [path.name for path in tmp_path.iterdir()] == [KEY.folder_name]
        assert (tmp_path / KEY.folder_name / "x.engine").read_text() == "fast"


class TestFolders:
    def test_for_cuda_are_refused(self, workshop: Workshop) -> None:
        folder = workshop.export(target=Target.CUDA)

        with pytest.raises(BadInputError, match="was exported for cuda") as raised:
            engines.tensorrt_session(folder, "unet", {})
        assert "--target portable" in str(raised.value.hint)

    @pytest.mark.skipif(HAS_BUILD, reason="this runtime was built for TensorRT")
    def test_that_would_do_need_the_provider(self, workshop: Workshop) -> None:
        sizes = {"batch": 1, "sequence": 77}

        with pytest.raises(ProviderFallbackError, match=r"asked for tensorrt, but .* was built without it"):
            engines.tensorrt_session(workshop.export(), "text_encoder", sizes)

    def test_give_the_profile_of_every_symbolic_input(self, workshop: Workshop) -> None:
        manifest = workshop.export().manifest
        sizes = {"batch": 2, "height": 9, "width": 13, "sequence": 77}

        shapes = dict(engines.profile(manifest.component("unet"), sizes))

        assert shapes["sample"] == (2, 4, 9, 13)
        assert shapes["encoder_hidden_states"][:2] == (2, 77)
        assert shapes["time_ids"] == (2, 6)
        assert "timestep" not in shapes
        assert dict(engines.profile(manifest.component("text_encoder"), sizes)) == {"input_ids": (2, 77)}

    def test_want_every_size(self, workshop: Workshop) -> None:
        record = workshop.export().manifest.component("unet")

        with pytest.raises(UsageError, match="unet: no value was given for width of sample"):
            engines.profile(record, {"batch": 2, "height": 9, "sequence": 77})

    def test_whose_weights_changed_have_another_key(self, workshop: Workshop, tmp_path: Path) -> None:
        root = tmp_path / "copy"
        shutil.copytree(workshop.export("sd-1.5").path, root)
        record = open_folder(root).manifest.component("unet")
        before = engines.engine_key(root, record, TensorrtOptions(), BUILDER)
        weights = root / record.data.path
        content = bytearray(weights.read_bytes())
        content[0] ^= 1
        weights.write_bytes(bytes(content))
        later = (root / "onnxsd.json").stat().st_mtime_ns + 10**9
        os.utime(weights, ns=(later, later))

        after = engines.engine_key(root, record, TensorrtOptions(), BUILDER)

        assert before.data_sha256 == record.data.sha256
        assert after.data_sha256 != before.data_sha256
        assert after.folder_name != before.folder_name

    def test_keep_engines_in_the_users_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        if sys.platform != "linux":
            pytest.skip("the variable of Linux")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

        assert engines.cache_folder() == tmp_path / "onnxsd" / "tensorrt"


@pytest.mark.skipif(HAS_BUILD, reason="this runtime was built for TensorRT")
def test_generate_says_why_it_does_not_run(workshop: Workshop, tmp_path: Path) -> None:
    options = ("--steps", "1", "--size", "64x64", "--provider", "tensorrt", "-o", tmp_path / "new" / "x.png")

    result = run("generate", "a cat", "--model", workshop.export().path, *options)

    assert result.exit_code == 4
    assert result.stderr.startswith(
        f"error: asked for tensorrt, but {runtime.available()} was built without it"
    )
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []
