"""The emulator sees what a GPU would not forgive: each kernel here has one fault, or rightly has none."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from emulator.buffers import beginning_at_a_page, given, wanted
from emulator.launching import Emulator, LaunchError, Order, emulator

# out[i] = the neighbour's number, in blocks of `count` threads.
TEXT = """
#define KERNEL extern "C" __global__ void __launch_bounds__(512, 2)

__device__ __forceinline__ float exchanged(const float* in, float* cells, bool wait) {
  const int i = threadIdx.x, count = blockDim.x;
  cells[i] = in[blockIdx.x * count + i];
  if (wait) __syncthreads();
  return cells[(i + 1) % count];
}

KERNEL neighbour(const float* in, float* out) {
  __shared__ float cells[512];
  out[blockIdx.x * blockDim.x + threadIdx.x] = exchanged(in, cells, true);
}

KERNEL racing(const float* in, float* out) {
  __shared__ float cells[512];
  out[blockIdx.x * blockDim.x + threadIdx.x] = exchanged(in, cells, false);
}

KERNEL blocks_racing(float* in, float* out) {
  if (threadIdx.x == 0) in[blockIdx.x] += blockIdx.x == 0 ? 1.0f : in[blockIdx.x - 1];
  out[blockIdx.x * blockDim.x + threadIdx.x] = in[blockIdx.x];
}

KERNEL beyond(const float* in, float* out, int by) {
  out[static_cast<int>(threadIdx.x) + by] = in[threadIdx.x];
}

KERNEL from_beyond(const float* in, float* out, int by) {
  out[threadIdx.x] = in[static_cast<int>(threadIdx.x) + by];
}

KERNEL divided(const float* in, float* out, int by) {
  out[threadIdx.x] = in[static_cast<int>(threadIdx.x) / by];
}

// Needs more memory of its own than a thread has here.
__device__ __attribute__((noinline)) float deep(const float* in, int depth) {
  volatile float own[64] = {in[depth % 2]};
  return depth == 0 ? own[0] : deep(in, depth + 1) + own[1];
}

KERNEL endless(const float* in, float* out, int depth) { out[threadIdx.x] = deep(in, depth); }

KERNEL unwritten_cells(const float* in, float* out) {
  __shared__ float cells[512];
  if (threadIdx.x % 2) cells[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = cells[threadIdx.x];
}

KERNEL some_return(const float* in, float* out, int returning) {
  out[threadIdx.x] = 0.0f;
  if (static_cast<int>(threadIdx.x) >= returning) return;
  __syncthreads();
  out[threadIdx.x] = in[threadIdx.x];
}

KERNEL half_at_the_barrier(const float* in, float* out) {
  float x = in[threadIdx.x];
  if (threadIdx.x % 2) __syncthreads();
  out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, x, 1);
}

KERNEL half_shuffles(const float* in, float* out, int distance) {
  float x = in[threadIdx.x];
  if (threadIdx.x % 2) x = __shfl_xor_sync(0xffffffffu, x, distance);
  out[threadIdx.x] = x;
}

KERNEL sums(const float* in, float* out, int size) {
  float x = in[threadIdx.x];
  for (int distance = size / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
  out[threadIdx.x] = x;
}

KERNEL functions(const float* in, float* out) {
  const float x = in[threadIdx.x];
  out[2 * threadIdx.x] = power_of_two(x);
  out[2 * threadIdx.x + 1] = reciprocal(x);
}

KERNEL halves(const float* in, uint4* out, int pairs) {
  const float* own = in + 8 * threadIdx.x;
  out[threadIdx.x] = {narrow_pair(own[0], own[1]), narrow_pair(own[2], own[3]),
                      narrow_pair(own[4], own[5]), narrow_pair(own[6], own[7])};
}
"""
COUNT = 64


@pytest.fixture(scope="module")
def faulty() -> Emulator:
    return emulator(TEXT)


def _run(faulty: Emulator, kernel: str, *arguments: int, blocks: int = 1) -> npt.NDArray[np.float32]:
    numbers = np.arange(blocks * COUNT, dtype=np.float32)
    out = wanted((blocks * COUNT,), np.float32)
    faulty.launch(kernel, (blocks,), COUNT, given(numbers), out, *arguments)
    return out.array


ORDERS = [(Order.FORWARD, 0), (Order.BACKWARD, 0), (Order.SHUFFLED, 1), (Order.SHUFFLED, 2)]


def _bits(faulty: Emulator, kernel: str) -> set[bytes]:
    """The different results of a kernel in different orders of its threads and blocks."""
    found = set()
    for order, seed in ORDERS:
        numbers, out = wanted((3 * COUNT,), np.float32), wanted((3 * COUNT,), np.float32)
        numbers.array[...] = np.arange(3 * COUNT)
        with faulty.running(order, seed=seed):
            faulty.launch(kernel, (3,), COUNT, numbers, out)
        found.add(out.array.tobytes())
    return found


def test_threads_exchange_numbers_behind_a_barrier(faulty: Emulator) -> None:
    expected = (np.arange(3)[:, None] * COUNT + (np.arange(COUNT) + 1) % COUNT).ravel()

    assert (_run(faulty, "neighbour", blocks=3) == expected).all()
    assert len(_bits(faulty, "neighbour")) == 1


@pytest.mark.parametrize("kernel", ["racing", "blocks_racing"])
def test_a_race_gives_other_results_in_another_order(faulty: Emulator, kernel: str) -> None:
    assert len(_bits(faulty, kernel)) > 1


@pytest.mark.parametrize("kernel", ["beyond", "from_beyond"])
def test_what_lies_beside_a_buffer_cannot_be_touched(faulty: Emulator, kernel: str) -> None:
    with pytest.raises(LaunchError, match=r"thread 61 .* 0 bytes behind a buffer of shape \(64,\)"):
        _run(faulty, kernel, 3)
    with (
        beginning_at_a_page(),
        pytest.raises(LaunchError, match=r"thread 0 .* 12 bytes before a buffer of shape \(64,\)"),
    ):
        _run(faulty, kernel, -3)


def test_at_its_other_side_a_write_is_seen_and_what_is_read_is_no_number(faulty: Emulator) -> None:
    with pytest.raises(AssertionError, match="wrote before a buffer"):
        _run(faulty, "beyond", -3)
    assert np.isnan(_run(faulty, "from_beyond", -3)).sum() == 3
    with beginning_at_a_page():
        with pytest.raises(AssertionError, match="wrote behind a buffer"):
            _run(faulty, "beyond", 3)
        assert np.isnan(_run(faulty, "from_beyond", 3)).sum() == 3


def test_a_kernel_that_writes_into_its_input_is_seen(faulty: Emulator) -> None:
    with pytest.raises(AssertionError, match="wrote into its input"):
        _run(faulty, "blocks_racing")


@pytest.mark.parametrize(
    ("kernel", "argument", "says"),
    [("divided", 0, "thread 0 .* divides by zero"), ("endless", 1, "memory that is not its own")],
)
def test_a_thread_that_a_cpu_would_stop_is_named(
    faulty: Emulator, kernel: str, argument: int, says: str
) -> None:
    with pytest.raises(LaunchError, match=says):
        _run(faulty, kernel, argument)
    assert (_run(faulty, "sums", 1) == np.arange(COUNT)).all(), "the next launch starts from nothing"


def test_shared_memory_that_nobody_wrote_holds_no_numbers(faulty: Emulator) -> None:
    _run(faulty, "neighbour")  # leaves numbers there

    assert np.isnan(_run(faulty, "unwritten_cells")).tolist() == [True, False] * (COUNT // 2)


def test_a_barrier_does_not_wait_for_threads_that_returned(faulty: Emulator) -> None:
    found = _run(faulty, "some_return", 40)

    assert (found == np.where(np.arange(COUNT) < 40, np.arange(COUNT), 0)).all()


@pytest.mark.parametrize(
    ("kernel", "arguments", "says"),
    [
        ("half_at_the_barrier", (), "32 threads at a barrier, 32 at a shuffle, 0 returned"),
        ("half_shuffles", (1,), "shuffles with a lane that is not there"),
    ],
)
def test_a_block_that_gets_stuck_is_an_error(
    faulty: Emulator, kernel: str, arguments: tuple[int, ...], says: str
) -> None:
    with pytest.raises(LaunchError, match=says):
        _run(faulty, kernel, *arguments)
    assert (_run(faulty, "sums", 1) == np.arange(COUNT)).all(), "the next launch starts from nothing"


def test_lanes_that_shuffle_among_themselves_are_no_error(faulty: Emulator) -> None:
    lanes = np.arange(COUNT)

    assert (_run(faulty, "half_shuffles", 2) == np.where(lanes % 2, lanes ^ 2, lanes)).all()


@pytest.mark.parametrize("size", [1, 2, 16, 32])
def test_neighbours_are_summed_up(faulty: Emulator, size: int) -> None:
    sums = np.arange(COUNT).reshape(-1, size).sum(1).repeat(size)

    assert (_run(faulty, "sums", size) == sums).all()


def test_a_warp_without_all_its_lanes_cannot_sum_over_them(faulty: Emulator) -> None:
    buffers = given(np.ones(COUNT, np.float32)), wanted((COUNT,), np.float32)
    with pytest.raises(LaunchError, match="a lane that is not there"):
        faulty.launch("sums", (1,), 40, *buffers, 32)


@pytest.mark.parametrize(
    ("grid", "block", "says"),
    [((0,), 32, "a grid of"), ((1, 65536), 32, "a grid of"), ((1,), 513, "bound is 512")],
)
def test_a_launch_that_cuda_refuses_is_refused(
    faulty: Emulator, grid: tuple[int, ...], block: int, says: str
) -> None:
    buffers = given(np.ones(1024, np.float32)), wanted((1024,), np.float32)
    with pytest.raises(LaunchError, match=says):
        faulty.launch("sums", grid, block, *buffers, 1)


def _functions(faulty: Emulator, numbers: npt.NDArray[np.float32], seed: int) -> npt.NDArray[np.float32]:
    out = wanted((len(numbers), 2), np.float32)
    with faulty.running(approximation=seed):
        faulty.launch("functions", (1,), len(numbers), given(numbers), out)
    return out.array


def test_approximate_instructions_are_wrong_by_as_much_as_they_may_be(faulty: Emulator) -> None:
    numbers = np.random.default_rng(1).uniform(0.5, 20, 512).astype(np.float32)
    wide = numbers.astype(np.float64)
    exact = np.stack([np.exp2(wide), 1 / wide], axis=1)
    errors = _functions(faulty, numbers, 7) / exact - 1

    assert np.abs(_functions(faulty, numbers, 0) / exact - 1).max() < 2.0**-24 * 1.001
    assert np.abs(errors).min() > 2.0**-23
    assert np.abs(errors).max() < 2.0**-22 + 2.0**-24 * 1.001
    assert ((errors > 0).mean(axis=0) > 0.3).all()
    assert ((errors < 0).mean(axis=0) > 0.3).all()
    assert (_functions(faulty, numbers, 7) == _functions(faulty, numbers, 7)).all()
    assert (_functions(faulty, numbers, 7) != _functions(faulty, numbers, 8)).any()


def test_approximate_instructions_know_their_special_numbers(faulty: Emulator) -> None:
    inf, subnormal = np.inf, 1e-40
    numbers = np.array([0.0, -0.0, inf, subnormal, 200.0, -200.0], np.float32)
    expected = [(1, inf), (1, -inf), (inf, 0), (1, inf), (inf, 0.005), (0, -0.005)]

    np.testing.assert_allclose(_functions(faulty, numbers, 3), np.array(expected, np.float32), rtol=3e-7)


def test_numbers_are_rounded_to_float16_as_numpy_rounds_them(faulty: Emulator) -> None:
    rng = np.random.default_rng(2)
    exponents = rng.integers(-30, 18, 4096)
    numbers = (rng.uniform(-1, 1, 4096) * 2.0**exponents).astype(np.float32)
    ties = np.array([2049, 2051, 65519.99, 65520, -65520, 2.0**-25, 3 * 2.0**-25, 0], np.float32)
    numbers[:8] = ties
    out = wanted((4096,))
    faulty.launch("halves", (1,), 512, given(numbers), out, 0)
    with np.errstate(over="ignore"):
        expected = numbers.astype(np.float16)

    assert (out.array == expected).all()
