"""Sessions on the CPU: runs, weights, tensors on a device and bindings."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import session_models as models
from onnx import helper

from onnxsd.errors import (
    BadInputError,
    DeviceMemoryError,
    OnnxsdError,
    UsageError,
    WeightsError,
)
from onnxsd.session import (
    Optimization,
    Provider,
    Session,
    SessionSettings,
    empty,
    to_device,
    to_host,
    update,
)

CPU = Provider.CPU
IN_PLACE = SessionSettings(optimize=Optimization.DISABLED, prepack=False)
WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)


class TestRun:
    def test_gives_every_output_by_name(self) -> None:
        session = Session.create(models.scaled(), provider=CPU)

        outputs = session.run({"x": np.array([[1, 2, 3]], np.float32)})

        assert outputs["y"].tolist() == [[2, 4, 6]]
        assert [str(spec) for spec in session.inputs] == ["float32[batch, 3]"]

    def test_reads_a_file(self, tmp_path: Path) -> None:
        file = tmp_path / "model.onnx"
        file.write_bytes(models.scaled())

        outputs = Session.create(file, provider=CPU).run({"x": np.ones((2, 3), np.float32)})

        assert outputs["y"].tolist() == [[2, 2, 2], [2, 2, 2]]

    def test_takes_arrays_that_are_not_contiguous(self) -> None:
        turned = np.arange(6, dtype=np.float32).reshape(3, 2).T

        outputs = Session.create(models.scaled(), provider=CPU).run({"x": turned})

        np.testing.assert_array_equal(outputs["y"], turned * 2)

    @pytest.mark.parametrize(
        ("feeds", "error", "says"),
        [
            ({}, UsageError, "missing x"),
            ({"x": np.ones((1, 3), np.float32), "z": np.ones(1)}, UsageError, "unknown z"),
            ({"x": np.ones((1, 3))}, BadInputError, "x is float32[batch, 3], and float64[1, 3] was given"),
            ({"x": np.ones((1, 4), np.float32)}, BadInputError, "float32[1, 4] was given"),
            ({"x": np.ones(3, np.float32)}, BadInputError, "float32[3] was given"),
        ],
    )
    def test_refuses_other_inputs(self, feeds: dict[str, Any], error: type[OnnxsdError], says: str) -> None:
        session = Session.create(models.scaled(), provider=CPU, label="unet")

        with pytest.raises(error) as raised:
            session.run(feeds)

        assert says in str(raised.value)
        assert "unet" in str(raised.value)


class TestWeights:
    @pytest.fixture
    def weights(self) -> dict[str, Any]:
        random = np.random.default_rng(0)
        shapes = {"matrix": (16, 24), "kernel": (8, 4, 1, 1), "table": (50, 6)}
        return {name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()}

    @pytest.fixture
    def feeds(self) -> dict[str, Any]:
        random = np.random.default_rng(1)
        return {
            "x": random.standard_normal((2, 16), np.float32),
            "image": random.standard_normal((2, 4, 5, 7), np.float32),
            "ids": random.integers(0, 50, (2, 3)),
        }

    @pytest.mark.parametrize("optimize", list(Optimization))
    def test_external_ones_need_no_file(
        self, optimize: Optimization, weights: dict[str, Any], feeds: dict[str, Any]
    ) -> None:
        settings = SessionSettings(optimize=optimize)
        session = Session.create(
            models.three_weights(weights), provider=CPU, options=settings, external=weights
        )

        outputs = session.run(feeds)

        for name, expected in models.three_weights_answer(weights, feeds).items():
            np.testing.assert_allclose(outputs[name], expected, rtol=1e-5, atol=1e-4, err_msg=name)

    @pytest.mark.parametrize("optimize", list(Optimization))
    def test_external_ones_are_free_to_go(
        self, optimize: Optimization, weights: dict[str, Any], feeds: dict[str, Any]
    ) -> None:
        session = Session.create(
            models.three_weights(weights),
            provider=CPU,
            options=SessionSettings(optimize=optimize),
            external=weights,
        )
        expected = models.three_weights_answer(weights, feeds)
        alive = [weakref.ref(array) for array in weights.values()]
        for array in weights.values():
            array[...] = np.nan
        weights.clear()
        del array
        gc.collect()

        outputs = session.run(feeds)

        assert [reference() for reference in alive] == [None, None, None]
        for name, value in expected.items():
            np.testing.assert_allclose(outputs[name], value, rtol=1e-5, atol=1e-4, err_msg=name)

    def test_a_file_with_other_numbers_is_not_read(self, tmp_path: Path, weights: dict[str, Any]) -> None:
        file = tmp_path / "model.onnx"
        file.write_bytes(models.matrix_product(WEIGHT))
        (tmp_path / "no-such-file.data").write_bytes(bytes(WEIGHT.nbytes))

        outputs = Session.create(file, provider=CPU, external={"weight": WEIGHT}).run(
            {"x": np.ones((2, 3), np.float32)}
        )

        assert outputs["y"][0].tolist() == [12, 15, 18, 21]

    def test_shared_ones_are_used_in_place(self) -> None:
        shared = to_device(WEIGHT, CPU)
        session = Session.create(
            models.matrix_product(WEIGHT), provider=CPU, options=IN_PLACE, initializers={"weight": shared}
        )
        feeds = {"x": np.ones((2, 3), np.float32)}
        before = session.run(feeds)["y"]

        update(shared, WEIGHT * 10)
        after = session.run(feeds)["y"]

        assert before[0].tolist() == [12, 15, 18, 21]
        assert after[0].tolist() == [120, 150, 180, 210]

    def test_two_sessions_share_one_weight(self) -> None:
        shared = to_device(WEIGHT, CPU)
        sessions = [
            Session.create(
                models.matrix_product(WEIGHT), provider=CPU, options=IN_PLACE, initializers={"weight": shared}
            )
            for _ in range(2)
        ]

        update(shared, np.ones_like(WEIGHT))

        for session in sessions:
            assert session.run({"x": np.ones((2, 3), np.float32)})["y"].tolist() == [[3] * 4] * 2

    def test_shared_ones_outlive_the_callers_reference(self) -> None:
        session = Session.create(
            models.matrix_product(WEIGHT),
            provider=CPU,
            options=IN_PLACE,
            initializers={"weight": to_device(WEIGHT, CPU)},
        )
        gc.collect()
        ballast = [np.full(WEIGHT.shape, np.nan, np.float32) for _ in range(100)]

        assert session.run({"x": np.ones((2, 3), np.float32)})["y"][0].tolist() == [12, 15, 18, 21]
        assert len(ballast) == 100

    def test_shared_ones_need_optimisation_off(self) -> None:
        with pytest.raises(UsageError, match="optimisation is off"):
            Session.create(
                models.matrix_product(WEIGHT), provider=CPU, initializers={"weight": to_device(WEIGHT, CPU)}
            )

    @pytest.mark.parametrize(
        ("given", "says"),
        [
            ({"weight": WEIGHT, "wieght": WEIGHT}, "has no weight named wieght"),
            ({}, "no values were given for 1 of its weights: weight"),
            (
                {"weight": WEIGHT.T.copy()},
                "weight is float32[3, 4] in the model, and float32[4, 3] was given",
            ),
            ({"weight": WEIGHT.astype(np.float16)}, "float16[3, 4] was given"),
        ],
    )
    def test_have_to_fit(self, given: dict[str, Any], says: str) -> None:
        with pytest.raises(WeightsError) as copied:
            Session.create(models.matrix_product(WEIGHT), provider=CPU, external=given)
        with pytest.raises(WeightsError) as shared:
            Session.create(
                models.matrix_product(WEIGHT),
                provider=CPU,
                options=IN_PLACE,
                initializers={name: to_device(array, CPU) for name, array in given.items()},
            )

        assert says in str(copied.value)
        assert says in str(shared.value)

    def test_leave_no_temporary_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

        Session.create(models.matrix_product(WEIGHT), provider=CPU, external={"weight": WEIGHT})

        assert list(tmp_path.iterdir()) == []

    def test_outside_the_models_folder_are_refused(self) -> None:
        stray = models.model(
            [helper.make_node("Identity", ["weight"], ["y"])],
            [],
            [models.value("y", [3, 4])],
            [models.external("weight", WEIGHT, location="../elsewhere.data")],
        )

        with pytest.raises(BadInputError, match="outside its own folder"):
            Session.create(stray, provider=CPU, external={"weight": WEIGHT})


class TestDevice:
    @pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "int32", "uint8", "bool"])
    @pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3, 4)])
    def test_holds_what_was_written(self, dtype: str, shape: tuple[int, ...]) -> None:
        source = np.asarray(np.arange(24)[: int(np.prod(shape))].reshape(shape) % 2, dtype)

        held = to_device(source, CPU)

        assert to_host(held).dtype == source.dtype
        np.testing.assert_array_equal(to_host(held), source)
        assert held.size_bytes == source.nbytes

    def test_keeps_its_address_and_copies(self) -> None:
        source = np.ones(3, np.float32)
        held = to_device(source, CPU)
        address, first = held.address, to_host(held)

        source[:] = 7
        update(held, np.full(3, 2, np.float32))

        assert held.address == address
        assert first.tolist() == [1, 1, 1]
        assert to_host(held).tolist() == [2, 2, 2]

    @pytest.mark.parametrize("array", [np.zeros(3), np.zeros((1, 3), np.float32), np.zeros(4, np.float32)])
    def test_refuses_another_type_or_shape(self, array: Any) -> None:
        with pytest.raises(BadInputError, match=r"over float32\[3\] on cpu:0"):
            update(empty((3,), np.float32, CPU), array)

    def test_refuses_a_type_that_runtimes_lack(self) -> None:
        with pytest.raises(BadInputError, match="complex64"):
            empty((3,), np.complex64, CPU)

    def test_says_when_memory_runs_out(self) -> None:
        with pytest.raises(DeviceMemoryError, match="hold float32") as raised:
            empty((1 << 46,), np.float32, CPU)

        assert raised.value.exit_code == 5


class TestBinding:
    def test_equals_run(self) -> None:
        session = Session.create(models.scaled(), provider=CPU)
        x = np.random.default_rng(0).standard_normal((5, 3), np.float32)
        binding = session.binding()

        binding.bind({"x": to_device(x, CPU)}, {"y": empty((5, 3), np.float32, CPU)})
        binding.run()

        np.testing.assert_array_equal(to_host(binding.outputs()["y"]), session.run({"x": x})["y"])

    def test_lets_the_runtime_place_an_output(self) -> None:
        session = Session.create(models.scaled(), provider=CPU)
        binding = session.binding()
        binding.bind_input("x", to_device(np.ones((4, 3), np.float32), CPU))
        binding.bind_output("y")

        binding.run()

        output = binding.outputs()["y"]
        assert (output.shape, output.dtype.name, output.provider) == ((4, 3), "float32", CPU)
        assert to_host(output).tolist() == [[2, 2, 2]] * 4

    def test_moves_aliased_state_on(self) -> None:
        state = to_device(np.zeros(4, np.float32), CPU)
        step = to_device(np.arange(4, dtype=np.float32), CPU)
        binding = Session.create(models.counter(), provider=CPU).binding()
        binding.bind({"state": state, "step": step}, {"next": state})

        for _ in range(3):
            binding.run(synchronize=False)
        binding.synchronize()

        assert to_host(state).tolist() == [0, 3, 6, 9]

    def test_sees_an_input_written_in_place(self) -> None:
        x = to_device(np.ones((1, 3), np.float32), CPU)
        binding = Session.create(models.scaled(), provider=CPU).binding()
        binding.bind({"x": x}, {"y": empty((1, 3), np.float32, CPU)})
        binding.run()

        update(x, np.full((1, 3), 5, np.float32))
        binding.run()

        assert to_host(binding.outputs()["y"]).tolist() == [[10, 10, 10]]

    @pytest.mark.parametrize(
        ("name", "shape", "dtype", "error"),
        [
            ("nothing", (4, 3), np.float32, UsageError),
            ("x", (4, 2), np.float32, BadInputError),
            ("x", (4, 3), np.float16, BadInputError),
        ],
    )
    def test_refuses_what_does_not_fit(
        self, name: str, shape: tuple[int, ...], dtype: type, error: type[OnnxsdError]
    ) -> None:
        binding = Session.create(models.scaled(), provider=CPU).binding()

        with pytest.raises(error):
            binding.bind_input(name, empty(shape, dtype, CPU))

    def test_refuses_a_tensor_of_another_device(self) -> None:
        """ONNX Runtime would copy it once and never look at it again."""
        here = empty((1, 3), np.float32, CPU)
        elsewhere = dataclasses.replace(here, provider=Provider.CUDA, device_id=1)
        binding = Session.create(models.scaled(), provider=CPU).binding()

        for bind, name in ((binding.bind_input, "x"), (binding.bind_output, "y")):
            with pytest.raises(UsageError, match=rf"runs on cpu:0, and {name} is given as .* on cuda:1"):
                bind(name, elsewhere)

    def test_says_what_is_not_bound(self) -> None:
        binding = Session.create(models.scaled(), provider=CPU).binding()
        with pytest.raises(UsageError, match="not bound: x"):
            binding.run()

        binding.bind_input("x", empty((1, 3), np.float32, CPU))
        with pytest.raises(UsageError, match="not bound: any output"):
            binding.run()
