"""The rate of one large matrix product through ONNX Runtime: the ceiling that floors are computed from."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxsd.bench.contenders.contender import Answer, timed_blocks

WARM_UP = 3


def load(*, provider: str, device_id: int, **_: Any) -> tuple[MatMul, Answer]:
    """What multiplies."""
    return MatMul(provider, device_id), {}


class MatMul:
    """Products of two random square matrices that stay on the device."""

    def __init__(self, provider: str, device_id: int) -> None:
        self._provider, self._device_id = provider, device_id

    def rates(self, *, rows: int, dtype: str, calls: int, blocks: int) -> Answer:
        """`rates`: floating-point operations a second of each block of products."""
        binding = self._binding(rows, np.dtype(dtype))
        for _ in range(WARM_UP):
            binding.run()
        seconds = timed_blocks(
            lambda: binding.run(synchronize=False), binding.synchronize, calls=calls, blocks=blocks
        )
        return {"rates": [2 * rows**3 / passed for passed in seconds]}

    def forget(self) -> None:
        """Nothing stays after a failure."""

    def _binding(self, rows: int, dtype: np.dtype[Any]) -> Any:
        from onnxsd.session import Session, empty, resolve, to_device

        choice = resolve(self._provider, self._device_id)
        place = (choice.provider, choice.device_id)
        session = Session.create(
            _model(rows, dtype),
            provider=choice.provider,
            device_id=choice.device_id,
            label="a matrix product",
        )
        # Random numbers: a product of zeros takes less power, and runs at a higher clock.
        numbers = np.random.default_rng(0)
        inputs = {
            name: to_device(numbers.standard_normal((rows, rows), np.float32).astype(dtype), *place)
            for name in ("a", "b")
        }
        binding = session.binding()
        binding.bind(inputs, {"c": empty((rows, rows), dtype, *place)})
        return binding


def _model(rows: int, dtype: np.dtype[Any]) -> bytes:
    from onnx import helper

    kind = helper.np_dtype_to_tensor_dtype(dtype)
    a, b, c = (helper.make_tensor_value_info(name, kind, (rows, rows)) for name in "abc")
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["c"])], "product", [a, b], [c])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    content: bytes = model.SerializeToString()
    return content
