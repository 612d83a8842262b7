"""By how much ONNX Runtime's arena grows while a model runs, as it says itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

# Loads a model where the CPU's arena grows by what is requested, and prints by how much it grows in two runs.
IN_A_PROCESS = """
import json, os, re, sys, tempfile
import numpy as np
import onnxruntime as ort

ort.set_default_logger_severity(1)
native = tempfile.TemporaryFile()
os.dup2(native.fileno(), 2)
place = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
same_as_requested = 1
ort.create_and_register_allocator(place, ort.OrtArenaCfg(0, same_as_requested, -1, -1))
options = ort.SessionOptions()
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
if sys.argv[2] != "by default":
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    options.enable_mem_reuse = options.enable_mem_pattern = False
options.intra_op_num_threads = 1
options.log_severity_level = 1
options.add_session_config_entry("session.use_env_allocators", "1")
if sys.argv[3]:
    sys.path.insert(0, sys.argv[3])
    from emulator.device import emulated_device
    device = emulated_device()
    ort.set_default_logger_severity(1)
    options.add_session_config_entry("onnxsd.device", str(device.slot))
    options.register_custom_ops_library(str(device.library.path))
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
binding = session.io_binding()
types = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
for value in session.get_inputs():
    binding.bind_cpu_input(value.name, np.zeros(value.shape, types[value.type]))
for value in session.get_outputs():
    target = ort.OrtValue.ortvalue_from_shape_and_type(value.shape, types[value.type])
    binding.bind_ortvalue_output(value.name, target)
loaded = os.fstat(native.fileno()).st_size
for _ in range(2):
    session.run_with_iobinding(binding)
native.seek(loaded)
said = native.read().decode(errors="replace")
print(json.dumps([int(found) for found in re.findall(r"Extended allocation by ([0-9]+) bytes", said)]))
"""


def taken_bytes(model: Path, *, by_default: bool = False, own_operators: bool = False) -> int:
    """By how much the arena of a process grows in the first two runs of a model.

    Args:
        by_default: as ONNX Runtime runs it by itself, and not as `ops.arena` has it.
        own_operators: whether the model holds some; their kernels are emulated.
    """
    how = "by default" if by_default else "lean"
    emulator = str(Path(__file__).parent) if own_operators else ""
    done = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS, str(model), how, emulator],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return sum(json.loads(done.stdout))
