"""Which provider `auto` means here, found in a process of its own: the bench itself never touches the GPU."""

from __future__ import annotations

from typing import Any

from onnxsd.bench.contenders.contender import Answer


def load(*, provider: str, device_id: int, **_: Any) -> tuple[None, Answer]:
    """The provider that is meant, and why."""
    from onnxsd.session import resolve

    choice = resolve(provider, device_id)
    return None, {"provider": choice.provider.value, "reason": choice.reason}
