"""What may lie on a GPU at once: what leaves, when, and what is tried again. The GPU is host memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from typing import Any

import pytest
from fake_cuda import FakeCuda

from onnxsd.engine.memory import RUNTIME_BYTES, DeviceMemory
from onnxsd.errors import DeviceMemoryError, NotReadyError
from onnxsd.session.block import Block
from onnxsd.session.driver import Driver

UNIT = 1 << 16
GIB = 1 << 30


class Shelf:
    """Blocks by name under one `DeviceMemory`, on a device of so many units, with a limit of so many."""

    def __init__(self, *, device: int = 1000, limit: int | None = None) -> None:
        self.cuda = FakeCuda(total_bytes=device * UNIT)
        self.driver = Driver(self.cuda, 0)
        limit_bytes = None if limit is None else RUNTIME_BYTES + limit * UNIT
        self.memory = DeviceMemory(self.driver, limit_bytes)
        self.things: dict[Hashable, Any] = {}

    def block(self, units: int) -> Block:
        return Block(self.driver, units * UNIT)

    def put(
        self,
        name: str,
        units: int,
        *,
        estimate: int | None = None,
        keep: tuple[str, ...] = (),
        make: Callable[[], Any] | None = None,
    ) -> None:
        """Hold something of this many units, or whatever `make` makes."""
        self.things[name] = self.memory.add(
            name,
            make or (lambda: self.block(units)),
            what=f"the {name}",
            need_bytes=(units if estimate is None else estimate) * UNIT,
            let_go=lambda: self.things.pop(name),
            keep=keep,
        )

    @property
    def used(self) -> int:
        """Units that are alive on the device."""
        return self.cuda.used_bytes // UNIT

    @property
    def counted(self) -> int:
        """Units that the books say."""
        return (self.memory.used_bytes - RUNTIME_BYTES) // UNIT


class TestWithALimit:
    def test_what_was_used_longest_ago_leaves(self) -> None:
        shelf = Shelf(limit=9)
        for name in ("a", "b", "c"):
            shelf.put(name, 3)

        shelf.put("d", 3)

        assert sorted(shelf.things, key=str) == ["b", "c", "d"]
        assert shelf.memory.evicted == ["the a"]
        assert (shelf.used, shelf.counted) == (9, 9)

    def test_to_use_something_is_to_keep_it_longer(self) -> None:
        shelf = Shelf(limit=9)
        for name in ("a", "b", "c"):
            shelf.put(name, 3)
        shelf.memory.touch("a")
        shelf.memory.touch("b")

        for name in ("d", "e", "f"):
            shelf.put(name, 3)

        assert shelf.memory.evicted == ["the c", "the a", "the b"]

    def test_as_many_leave_as_have_to(self) -> None:
        shelf = Shelf(limit=9)
        for name in ("a", "b", "c"):
            shelf.put(name, 3)

        shelf.put("d", 4)

        assert shelf.memory.evicted == ["the a", "the b"]
        assert sorted(shelf.things, key=str) == ["c", "d"]

    def test_nothing_leaves_while_there_is_room(self) -> None:
        shelf = Shelf(limit=9)
        for name in ("a", "b", "c"):
            shelf.put(name, 3)

        assert not shelf.memory.evicted
        assert shelf.used == 9

    def test_what_is_to_be_kept_stays_though_it_is_the_oldest(self) -> None:
        shelf = Shelf(limit=9)
        for name in ("a", "b", "c"):
            shelf.put(name, 3)

        shelf.put("d", 5, keep=("a",))

        assert sorted(shelf.things, key=str) == ["a", "d"]
        assert shelf.memory.evicted == ["the b", "the c"]

    def test_room_is_made_before_anything_is_taken(self) -> None:
        """The device has no more than the limit: what was there must be gone first."""
        shelf = Shelf(device=9, limit=9)
        shelf.put("a", 9)

        shelf.put("b", 9)

        assert list(shelf.things) == ["b"]
        assert shelf.memory.evicted == ["the a"]

    def test_what_was_taken_counts_and_not_what_was_expected(self) -> None:
        shelf = Shelf(limit=9)
        shelf.put("a", 5, estimate=1)
        assert shelf.counted == 5

        shelf.put("b", 5, estimate=5)
        assert shelf.memory.evicted == ["the a"]

    def test_an_error_says_what_was_needed_and_what_the_limit_is(self) -> None:
        shelf = Shelf(limit=9)
        shelf.put("a", 3)

        with pytest.raises(DeviceMemoryError) as raised:
            shelf.put("b", 3 * GIB // UNIT)

        words = raised.value.message
        assert "cannot hold the b" in words
        found = [float(size) for size in re.findall(r"(\d+\.\d) Gi?B", words)]
        # What it needs, the limit, and what would be beside it: CUDA's own. Nothing leaves for it.
        own = RUNTIME_BYTES / 1e9
        assert found == pytest.approx([3 * GIB / 1e9, own, own], rel=0.1)
        assert shelf.memory.evicted == []

    def test_what_is_kept_is_no_room(self) -> None:
        shelf = Shelf(limit=9)
        shelf.put("a", 6)

        with pytest.raises(DeviceMemoryError, match="cannot hold the b"):
            shelf.put("b", 4, keep=("a",))

        assert list(shelf.things) == ["a"]
        shelf.put("c", 3)
        assert sorted(shelf.things, key=str) == ["a", "c"]

    def test_what_can_be_had_is_the_limit_if_all_left(self) -> None:
        shelf = Shelf(device=100, limit=9)
        shelf.put("a", 4)

        assert shelf.memory.attainable_bytes() == 9 * UNIT

    def test_what_can_be_had_is_no_more_than_the_device_has(self) -> None:
        shelf = Shelf(device=8, limit=20)
        shelf.put("a", 4)

        assert shelf.memory.attainable_bytes() == 8 * UNIT


class TestWithoutALimit:
    def test_nothing_leaves_before_memory_runs_out(self) -> None:
        shelf = Shelf(device=9)
        for name in ("a", "b", "c"):
            shelf.put(name, 3, estimate=1000)

        assert not shelf.memory.evicted
        assert shelf.memory.used_bytes == RUNTIME_BYTES + 9 * UNIT
        assert shelf.memory.attainable_bytes() == 9 * UNIT

    def test_everything_leaves_for_another_try(self) -> None:
        shelf = Shelf(device=9)
        for name in ("a", "b", "c"):
            shelf.put(name, 3)

        shelf.put("d", 4, keep=("b",))

        assert sorted(shelf.things, key=str) == ["b", "d"]
        assert shelf.memory.evicted == ["the a", "the c"]
        assert (shelf.used, shelf.counted) == (7, 7)

    def test_the_first_try_is_gone_before_the_second(self) -> None:
        """3 + 4 units fit on 9; with 3 of a first try still there they would not."""
        shelf = Shelf(device=9)
        shelf.put("a", 4)
        tries: list[int] = []

        def make() -> tuple[Block, Block]:
            tries.append(shelf.used)
            return shelf.block(3), shelf.block(4)

        shelf.put("b", 7, make=make)

        assert tries == [4, 0]
        assert (list(shelf.things), shelf.used, shelf.counted) == (["b"], 7, 7)

    def test_so_it_is_when_the_error_holds_itself(self) -> None:
        """As where a frame keeps in a variable what it caught: only a search for cycles finds that."""
        shelf = Shelf(device=9)
        shelf.put("a", 4)

        def make() -> tuple[Block, Block]:
            first, failure = shelf.block(3), None
            try:
                return first, shelf.block(4)
            except DeviceMemoryError as error:
                failure = error
            raise DeviceMemoryError("there is no room") from failure

        shelf.put("b", 7, make=make)

        assert (list(shelf.things), shelf.used) == (["b"], 7)

    def test_what_finalizers_give_back_is_gone_as_well(self) -> None:
        shelf = Shelf(device=9)
        shelf.put("a", 4)

        class Pair:
            """Takes two pieces one after another, and gives them back itself."""

            def __init__(self) -> None:
                self.taken: list[int] = []
                for units in (3, 4):
                    self.taken.append(shelf.driver.allocate(units * UNIT))

            def __del__(self) -> None:
                for address in self.taken:
                    shelf.driver.free(address)

        shelf.put("b", 7, make=Pair)

        assert shelf.used == 7
        shelf.memory.drop("b")
        assert shelf.used == 0

    def test_what_does_not_fit_alone_is_an_error_after_all_have_left(self) -> None:
        shelf = Shelf(device=9)
        shelf.put("a", 3)
        shelf.put("b", 3)

        with pytest.raises(DeviceMemoryError, match="the GPU is out of memory"):
            shelf.put("c", 10)

        assert (shelf.things, shelf.used, shelf.counted) == ({}, 0, 0)
        shelf.put("d", 9)
        assert shelf.used == 9

    def test_it_is_tried_once_more_where_nothing_could_leave(self) -> None:
        """There may be garbage that holds memory: what a pipeline that nobody has any more left behind."""
        shelf = Shelf(device=9)
        shelf.put("a", 3)
        tries: list[str] = []

        def make() -> Block:
            tries.append("try")
            return shelf.block(10)

        with pytest.raises(DeviceMemoryError):
            shelf.put("b", 10, keep=("a",), make=make)

        assert tries == ["try", "try"]
        assert list(shelf.things) == ["a"]

    @pytest.mark.parametrize("error", [NotReadyError("lost"), ValueError("wrong"), KeyboardInterrupt()])
    def test_no_other_error_is_tried_again(self, error: BaseException) -> None:
        shelf = Shelf(device=9)
        shelf.put("a", 3)
        tries: list[str] = []

        def make() -> None:
            tries.append("try")
            raise error

        with pytest.raises(type(error)):
            shelf.put("b", 1, make=make)

        assert tries == ["try"]
        assert (list(shelf.things), shelf.memory.evicted) == (["a"], [])
        assert shelf.counted == 3


class TestBooks:
    def test_the_peak_is_what_was_held_at_one_time(self) -> None:
        shelf = Shelf()
        shelf.put("a", 3)
        shelf.put("b", 4)
        shelf.memory.drop("a")
        shelf.put("c", 1)

        assert shelf.memory.peak_bytes == RUNTIME_BYTES + 7 * UNIT
        assert shelf.counted == shelf.used == 5

    def test_what_is_dropped_is_not_evicted(self) -> None:
        shelf = Shelf()
        shelf.put("a", 3)
        shelf.memory.drop("a")

        assert (shelf.memory.evicted, shelf.used, shelf.counted) == ([], 0, 0)

    def test_what_is_not_there_may_be_dropped(self) -> None:
        shelf = Shelf()
        shelf.memory.drop("a")

        assert shelf.counted == 0

    def test_something_may_take_others_with_it(self) -> None:
        """As weights take the sessions over them."""
        shelf = Shelf(limit=9)
        shelf.put("weights", 3)
        weights_go = shelf.things.pop
        shelf.memory.drop("weights")

        def let_go() -> None:
            shelf.memory.drop("session")
            weights_go("weights")

        shelf.things["weights"] = shelf.memory.add(
            "weights", lambda: shelf.block(3), what="the weights", need_bytes=3 * UNIT, let_go=let_go
        )
        shelf.put("session", 3, keep=("weights",))
        shelf.put("other", 6)

        assert list(shelf.things) == ["other"]
        assert (shelf.used, shelf.counted) == (6, 6)
