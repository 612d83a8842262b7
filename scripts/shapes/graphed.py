"""Training steps that cost one launch: captured as CUDA graphs on a GPU, run plainly on a CPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

WARM_UP_RUNS = 3  # before a capture: cuDNN picks its algorithms, the optimizer makes its state


class Weights:
    """Parameters in the precision that trains, their float32 masters, an average of these, and AdamW.

    On a GPU the modules are cast to bfloat16; every update happens in the masters. All of a step's work is
    in-place and free of host synchronisation, so that a CUDA graph can hold it.
    """

    def __init__(self, modules: Iterable[torch.nn.Module], *, peak_rate: float, average: float) -> None:
        self.modules = tuple(modules)
        self.trained = [w for module in self.modules for w in module.parameters() if w.requires_grad]
        self.masters = [weight.detach().float().clone() for weight in self.trained]
        self.averages = [weight.clone() for weight in self.masters]
        for master in self.masters:
            master.grad = torch.zeros_like(master)
        device = self.masters[0].device
        if device.type == "cuda":
            for module in self.modules:
                module.to(torch.bfloat16)
        self.rate = torch.zeros((), device=device)
        self._keep = average
        self.optimizer = torch.optim.AdamW(
            self.masters,
            lr=self.rate if device.type == "cuda" else peak_rate,
            betas=(0.9, 0.99),
            weight_decay=0.01,
            fused=True,
            capturable=device.type == "cuda",
        )

    def update(self, loss: torch.Tensor) -> None:
        """One AdamW step down the gradient of `loss`, its norm clipped to 1."""
        gradients = torch.autograd.grad(loss, self.trained, allow_unused=True)
        # What the loss does not reach, such as an encoder's last layer, keeps a gradient of zero.
        pairs = [(master.grad, one) for master, one in zip(self.masters, gradients, strict=True)]
        reached = [(target, one) for target, one in pairs if one is not None]
        with torch.no_grad():
            torch._foreach_copy_([target for target, _ in reached], [one for _, one in reached])
        torch.nn.utils.clip_grad_norm_(self.masters, 1.0)
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_copy_(self.trained, self.masters)
            torch._foreach_lerp_(self.averages, self.masters, 1 - self._keep)

    def set_rate(self, rate: float) -> None:
        """The learning rate of the steps that follow."""
        self.rate.fill_(rate)
        for group in self.optimizer.param_groups:
            if not isinstance(group["lr"], torch.Tensor):
                group["lr"] = rate

    def use_averages(self) -> None:
        """Put the averages into the modules, in float32: training ends here."""
        with torch.no_grad():
            for module in self.modules:
                module.float()
            for weight, average in zip(self.trained, self.averages, strict=True):
                weight.data.copy_(average)

    def state(self) -> dict[str, Any]:
        """Everything that a later run needs to go on."""
        moments = [self.optimizer.state[master] for master in self.masters]
        return {"masters": self.masters, "averages": self.averages, "moments": moments}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a saved state, in place: captured graphs keep their addresses."""
        with torch.no_grad():
            torch._foreach_copy_(self.masters, state["masters"])
            torch._foreach_copy_(self.averages, state["averages"])
            torch._foreach_copy_(self.trained, self.masters)
            for master, saved in zip(self.masters, state["moments"], strict=True):
                there = self.optimizer.state[master]
                for name, value in saved.items():
                    there[name].copy_(value) if name in there else there.update({name: value.clone()})


class Step:
    """A training step that is called again and again; its result is the loss, on the device."""

    def __init__(self, run: Callable[[], torch.Tensor], device: torch.device) -> None:
        self._run = run
        self._graph: torch.cuda.CUDAGraph | None = None
        if device.type == "cuda":
            self._capture()

    def __call__(self) -> torch.Tensor:
        """Take the step."""
        if self._graph is None:
            return self._run()
        self._graph.replay()
        return self._loss

    def _capture(self) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_RUNS):
                self._run()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._loss = self._run()


def rate_at(step: int, *, steps: int, peak: float, warm_up: int = 300) -> float:
    """A learning rate that rises linearly, then falls along a cosine to a hundredth."""
    rise = min(1.0, (step + 1) / warm_up)
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
    return peak * rise * (0.01 + 0.99 * fall)
