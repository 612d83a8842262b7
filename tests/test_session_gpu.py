"""Sessions on a GPU: what ONNX Runtime does there and nowhere else. Run with `--run gpu`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import session_models as models
from onnx import helper

from onnxsd import session as onnxsd_session
from onnxsd.errors import DeviceMemoryError, ProviderFallbackError, UsageError
from onnxsd.session import (
    DeviceArray,
    Optimization,
    Provider,
    Session,
    SessionSettings,
    empty,
    to_device,
    to_host,
    update,
)

pytestmark = pytest.mark.gpu

CUDA = Provider.CUDA
AUTHORED = SessionSettings(optimize=Optimization.DISABLED)
CAPTURED = SessionSettings(optimize=Optimization.DISABLED, cuda_graph=True)
WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)
ONES = np.ones((2, 3), np.float32)


def product_session(weight: DeviceArray, settings: SessionSettings = AUTHORED) -> Session:
    """x @ weight, over a weight that lies on the GPU."""
    return Session.create(
        models.matrix_product(WEIGHT), provider=CUDA, options=settings, initializers={"weight": weight}
    )


class TestProvider:
    def test_is_found(self) -> None:
        assert onnxsd_session.resolve("cuda").provider is CUDA
        assert onnxsd_session.resolve("auto").provider is CUDA

    def test_is_the_one_that_runs(self) -> None:
        session = Session.create(models.scaled(), provider=CUDA)

        assert session.native.get_providers()[0] == "CUDAExecutionProvider"
        assert session.run({"x": ONES})["y"].tolist() == [[2, 2, 2], [2, 2, 2]]

    def test_does_not_hand_nodes_to_the_cpu(self) -> None:
        """`Det` has no CUDA kernel: a session that may not use the CPU is an error, one that may runs."""
        determinant = models.model(
            [helper.make_node("Det", ["x"], ["y"])], [models.value("x", [2, 2])], [models.value("y", [])]
        )
        x = np.array([[2, 0], [0, 3]], np.float32)

        with pytest.raises(ProviderFallbackError, match="the model has nodes that would run on the CPU"):
            Session.create(determinant, provider=CUDA)

        allowed = Session.create(determinant, provider=CUDA, options=SessionSettings(cpu_nodes=True))
        assert float(allowed.run({"x": x})["y"]) == pytest.approx(6)

    def test_of_a_device_that_is_not_there_is_an_error(self) -> None:
        with pytest.raises(ProviderFallbackError) as raised:
            Session.create(models.scaled(), provider=CUDA, device_id=99)

        assert raised.value.exit_code == 4

    def test_runs_a_graph_with_symbolic_sizes(self) -> None:
        """Shape nodes run on the CPU beside CUDA, where that is allowed."""
        flatten = models.model(
            [
                helper.make_node("Shape", ["x"], ["shape"], start=0, end=1),
                helper.make_node("Concat", ["shape", "rest"], ["target"], axis=0),
                helper.make_node("Reshape", ["x", "target"], ["y"]),
            ],
            [models.value("x", ["batch", 2, 2])],
            [models.value("y", ["batch", 4])],
            [helper.make_tensor("rest", 7, [1], [-1])],
        )
        session = Session.create(flatten, provider=CUDA, options=SessionSettings(cpu_nodes=True))

        for batch in (1, 3):
            x = np.arange(batch * 4, dtype=np.float32).reshape(batch, 2, 2)
            np.testing.assert_array_equal(session.run({"x": x})["y"], x.reshape(batch, 4))


class TestDevice:
    @pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "int32", "bool"])
    @pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3, 4)])
    def test_holds_what_was_written(self, dtype: str, shape: tuple[int, ...]) -> None:
        source = np.asarray(np.arange(24)[: int(np.prod(shape))].reshape(shape) % 2, dtype)

        held = to_device(source, CUDA)

        assert held.value.device_name() == "cuda"
        np.testing.assert_array_equal(to_host(held), source)

    def test_keeps_its_address(self) -> None:
        held = to_device(np.ones(3, np.float32), CUDA)
        address = held.address

        update(held, np.full(3, 2, np.float32))

        assert held.address == address
        assert to_host(held).tolist() == [2, 2, 2]

    def test_says_when_memory_runs_out(self) -> None:
        with pytest.raises(DeviceMemoryError, match="the GPU is out of memory"):
            empty((1 << 40,), np.float32, CUDA)


class TestSharedWeights:
    def test_are_used_in_place_by_two_sessions(self) -> None:
        weight = to_device(WEIGHT, CUDA)
        sessions = [product_session(weight) for _ in range(2)]
        before = [session.run({"x": ONES})["y"][0].tolist() for session in sessions]

        update(weight, WEIGHT * 10)
        after = [session.run({"x": ONES})["y"][0].tolist() for session in sessions]

        assert before == [[12, 15, 18, 21]] * 2
        assert after == [[120, 150, 180, 210]] * 2

    def test_outlive_the_session_that_used_them_first(self) -> None:
        weight = to_device(WEIGHT, CUDA)
        first = product_session(weight)
        second = product_session(weight)
        del first

        assert second.run({"x": ONES})["y"][0].tolist() == [12, 15, 18, 21]
        np.testing.assert_array_equal(to_host(weight), WEIGHT)

    def test_on_the_host_are_an_error(self) -> None:
        with pytest.raises(UsageError, match="wants them on another device: weight"):
            product_session(to_device(WEIGHT, Provider.CPU))

    def test_written_in_place_are_seen_by_a_captured_graph(self) -> None:
        weight, x = to_device(WEIGHT, CUDA), to_device(ONES, CUDA)
        y = empty((2, 4), np.float32, CUDA)
        binding = product_session(weight, CAPTURED).binding()
        binding.bind({"x": x}, {"y": y})
        binding.run()
        captured = to_host(y)

        update(weight, WEIGHT * 10)
        binding.run()
        replayed = to_host(y)
        update(x, ONES * 2)
        binding.run()

        assert captured[0].tolist() == [12, 15, 18, 21]
        assert replayed[0].tolist() == [120, 150, 180, 210]
        assert to_host(y)[0].tolist() == [240, 300, 360, 420]

    def test_of_an_nhwc_convolution_are_read_as_ohwi(self) -> None:
        """The kernel learns the layout while it prepacks, and still reads the buffer that is written to."""
        random = np.random.default_rng(0)
        kernel = random.standard_normal((16, 3, 3, 8), np.float32)
        image = random.standard_normal((1, 6, 5, 8), np.float32)
        node = helper.make_node(
            "NhwcConv",
            ["image", "kernel"],
            ["y"],
            domain="com.microsoft",
            kernel_shape=[3, 3],
            pads=[1, 1, 1, 1],
        )
        convolution = models.model(
            [node],
            [models.value("image", image.shape)],
            [models.value("y", [1, 6, 5, 16])],
            [models.external("kernel", kernel)],
        )
        shared = to_device(kernel, CUDA)
        session = Session.create(
            convolution, provider=CUDA, options=AUTHORED, initializers={"kernel": shared}
        )
        before = session.run({"image": image})["y"]
        update(shared, kernel[::-1].copy())
        after = session.run({"image": image})["y"]

        np.testing.assert_allclose(before, same_convolution(image, kernel), rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(after, same_convolution(image, kernel[::-1]), rtol=1e-3, atol=1e-3)


class TestCapturedGraph:
    def test_moves_aliased_state_on_without_waiting(self) -> None:
        state = to_device(np.zeros(4, np.float32), CUDA)
        step = to_device(np.arange(4, dtype=np.float32), CUDA)
        binding = Session.create(models.counter(), provider=CUDA, options=CAPTURED).binding()
        binding.bind({"state": state, "step": step}, {"next": state})
        binding.run()
        # Warming up and capturing ran the graph more than once.
        update(state, np.zeros(4, np.float32))

        for _ in range(50):
            binding.run(synchronize=False)
        binding.synchronize()

        assert to_host(state).tolist() == [0, 50, 100, 150]

    def test_has_a_graph_for_each_id(self) -> None:
        session = Session.create(models.scaled(), provider=CUDA, options=CAPTURED)
        bindings = {}
        for batch in (1, 2):
            bindings[batch] = session.binding()
            x = to_device(np.full((batch, 3), batch, np.float32), CUDA)
            bindings[batch].bind({"x": x}, {"y": empty((batch, 3), np.float32, CUDA)})

        for _ in range(3):
            for batch, binding in bindings.items():
                binding.run(graph_id=batch)

        for batch, binding in bindings.items():
            assert to_host(binding.outputs()["y"]).tolist() == [[2 * batch] * 3] * batch

    def test_is_not_run_with_host_arrays(self) -> None:
        session = Session.create(models.scaled(), provider=CUDA, options=CAPTURED)

        with pytest.raises(UsageError, match="run through `binding"):
            session.run({"x": ONES})
        with pytest.raises(UsageError, match="and x is given as float32"):
            session.binding().bind_input("x", to_device(ONES, Provider.CPU))
        with pytest.raises(UsageError, match="needs a tensor for its output y"):
            session.binding().bind_output("y")


class TestBinding:
    def test_lets_the_runtime_place_an_output(self) -> None:
        session = Session.create(models.scaled(), provider=CUDA)
        binding = session.binding()
        binding.bind_input("x", to_device(ONES, CUDA))
        binding.bind_output("y")

        binding.run(synchronize=False)
        binding.synchronize()

        output = binding.outputs()["y"]
        assert output.value.device_name() == "cuda"
        assert to_host(output).tolist() == [[2, 2, 2], [2, 2, 2]]


def same_convolution(image: npt.NDArray[Any], kernel: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A 3×3 convolution of (B, H, W, I) by (O, 3, 3, I) with a border of one zero, by numpy."""
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return np.asarray(np.einsum("bhwiyx,oyxi->bhwo", windows, kernel))
