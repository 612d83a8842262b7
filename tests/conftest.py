"""Which tests run: `--run MARK` asks for those that need a GPU, the network, weights or another venv."""

from __future__ import annotations

import gc
import importlib.util
import os
from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from checkpoints import Workshop

# Skipped unless asked for by name; once asked for, one that cannot run fails instead of skipping.
ON_REQUEST = ("gpu", "network", "weights", "optimum", "tensorrt")
REFERENCE = "reference"
REFERENCE_PACKAGES = ("torch", "diffusers", "transformers")

_NOT_ASKED = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Makes tiny checkpoints and their exports, each once; they are read, never written."""
    from checkpoints import Workshop  # here: collecting tests must not import all that an export needs

    return Workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture(scope="session", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Generator[None, None, None]:
    """What a test exports is not the last export of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--run MARK`, repeatable."""
    parser.addoption(
        "--run",
        action="append",
        default=[],
        choices=[*ON_REQUEST, REFERENCE],
        metavar="MARK",
        help=f"also run the tests marked so ({', '.join(ON_REQUEST)}), or insist on the {REFERENCE} tests",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Give each of several workers one thread; refuse `--run reference` where there is no reference."""
    # Graphs are many small objects that stay: looking for cycles after every 700 takes a fifth of the time.
    gc.set_threshold(100_000, 20, 20)
    if hasattr(config, "workerinput"):
        _compute_on_one_thread()
    missing = missing_reference()
    if missing and REFERENCE in config.getoption("--run"):
        raise pytest.UsageError(
            f"--run {REFERENCE} was asked for, and there is no {', '.join(missing)}: "
            "pip install -c constraints.txt '.[reference]'"
        )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what was not asked for; leave out the reference tests where there is no reference."""
    asked = config.getoption("--run")
    for item in items:
        for mark in ON_REQUEST:
            if item.get_closest_marker(mark) and mark not in asked:
                item.stash[_NOT_ASKED] = True
                item.add_marker(pytest.mark.skip(reason=f"asked for by --run {mark}"))
    if missing_reference():
        left_out = [item for item in items if item.get_closest_marker(REFERENCE)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of a test that was asked for into a failure."""
    report = yield
    asked = [mark for mark in item.config.getoption("--run") if item.get_closest_marker(mark)]
    if report.skipped and asked and not item.stash.get(_NOT_ASKED, False) and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"--run {asked[0]} asked for this test, and it could not run: {_reason(report)}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say that the comparison with the reference was not made."""
    missing = missing_reference()
    if missing:
        terminalreporter.write_line(
            f"reference tests were left out for want of {', '.join(missing)} "
            "(pip install -c constraints.txt '.[reference]')",
            yellow=True,
        )


def _compute_on_one_thread() -> None:
    """Keep workers that share the processors from waiting for each other's threads.

    A thread pool for all processors in each of them costs more than it gives: threads without work spin,
    and ONNX Runtime binds those of every process to the same processors. It takes no environment variable.
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # read by numpy and torch, which nothing has imported yet
    if importlib.util.find_spec("onnxruntime") is None:
        return
    import onnxruntime

    class OnOneThread(onnxruntime.SessionOptions):  # type: ignore[misc]  # onnxruntime is not typed here
        def __init__(self) -> None:
            super().__init__()
            self.intra_op_num_threads = 1

    onnxruntime.SessionOptions = OnOneThread


def missing_reference() -> tuple[str, ...]:
    """The reference's packages that are not installed."""
    return tuple(name for name in REFERENCE_PACKAGES if importlib.util.find_spec(name) is None)


def _reason(report: pytest.TestReport) -> str:
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
