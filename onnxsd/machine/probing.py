"""All probes at once: each waits mostly for its own imports."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from onnxsd.machine.facts import Provider, SessionProbe, TorchProbe
from onnxsd.machine.probe import probe
from onnxsd.machine.torch_probe import probe_torch


class Probing:
    """Child processes at work from the start on, while the facts are being read."""

    def __init__(self, python: str | None) -> None:
        self._python = python
        self._threads = ThreadPoolExecutor(max_workers=3)
        self._torch = self._threads.submit(probe_torch, python=python)
        self._sessions = [self._session(Provider.CPU)]

    def __enter__(self) -> Probing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=kind is None, cancel_futures=True)

    def start_cuda(self) -> None:
        """Try CUDA too; whether there is any reason to is known later than the rest."""
        self._sessions.append(self._session(Provider.CUDA))

    def sessions(self) -> tuple[SessionProbe, ...]:
        """What came of the sessions, in the order in which they were started."""
        return tuple(found for session in self._sessions for found in session.result())

    def torch(self) -> TorchProbe:
        """What came of torch."""
        return self._torch.result()

    def _session(self, provider: Provider) -> Future[tuple[SessionProbe, ...]]:
        return self._threads.submit(probe, provider, python=self._python)
