"""Training loops that can be taken up again where they were stopped, with the very same result.

A loop of the tuning stages changes four things from step to step: the tensors that it trains, their optimiser's state
(Adam's moments and step counts), NumPy's and torch's random states. `Loop` saves and restores just these, bit for bit,
so a loop that was stopped after any step and resumed ends with the same numbers as one that ran through. All else (data,
options, the original networks) is the caller's and must be the same again. Where the bytes go is the checkpoint's
business: a stage knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_NOTE = "note."
State = Mapping[str, NDArray[Any]]


class Checkpoint(Protocol):
    """Keeps the last state of one loop."""

    def load(self) -> State | None:
        """The last state that was kept, None where there is none."""
        ...

    def offer(self, state: Callable[[], State]) -> None:
        """Called after every step. Keeps `state()`, whole or not at all, when it is time for it."""
        ...


class NoCheckpoint:
    """Keeps nothing."""

    def load(self) -> State | None:
        return None

    def offer(self, state: Callable[[], State]) -> None:
        pass


NO_CHECKPOINT = NoCheckpoint()


class Loop:
    """What a training loop changes, and how far it is.

    `tensors`: everything that the steps change and that is not in the optimiser's or the random state, in a fixed
    order; `random`: the loop's own generator. Use within the `fork_rng` of the loop, after it was seeded:

        loop = Loop([*trained, last], optimiser, random, checkpoint)
        for step in range(loop.resume(), options.steps):
            ...
            optimiser.step()
            loop.done(step)

    `notes`: numbers of the caller's that are kept along; those of the last state after `resume`.
    """

    def __init__(
        self,
        tensors: Sequence[Tensor],
        optimiser: torch.optim.Optimizer,
        random: np.random.RandomState,
        checkpoint: Checkpoint,
    ) -> None:
        self._tensors, self._optimiser, self._random, self._checkpoint = list(tensors), optimiser, random, checkpoint
        self._step = 0
        self.notes: Mapping[str, float] = {}

    def resume(self) -> int:
        """Restore the last state, if there is one that fits. Returns the first step that is to be done."""
        state = self._checkpoint.load()
        kept = [] if state is None else [state.get(f"tensor.{i}") for i in range(len(self._tensors))]
        if state is None or not all(
            found is not None and found.shape == tuple(tensor.shape)
            for found, tensor in zip(kept, self._tensors, strict=True)
        ):
            return 0
        self._restore(state)
        return self._step

    def done(self, step: int) -> None:
        """After the step of that number."""
        self._step = step + 1
        self._checkpoint.offer(self._state)

    def _optimised(self) -> list[Tensor]:
        return [p for group in self._optimiser.param_groups for p in group["params"]]

    def _state(self) -> State:
        state: dict[str, NDArray[Any]] = {"step": np.array(self._step)}
        state |= {f"{_NOTE}{name}": np.array(value, np.float64) for name, value in self.notes.items()}
        for i, tensor in enumerate(self._tensors):
            state[f"tensor.{i}"] = tensor.detach().cpu().numpy()
        for i, parameter in enumerate(self._optimised()):
            for name, value in self._optimiser.state.get(parameter, {}).items():
                state[f"optimiser.{i}.{name}"] = value.detach().cpu().numpy()
        _, keys, position, has_gauss, gauss = self._random.get_state(legacy=True)
        state["random.keys"] = np.asarray(keys)
        state["random.rest"] = np.array([position, has_gauss, gauss], np.float64)
        state["torch.cpu"] = torch.get_rng_state().numpy()
        return state

    def _restore(self, state: State) -> None:
        with torch.no_grad():
            for i, tensor in enumerate(self._tensors):
                tensor.copy_(torch.from_numpy(state[f"tensor.{i}"]))
        for i, parameter in enumerate(self._optimised()):
            own: dict[str, Tensor] = {}
            for name in ("step", "exp_avg", "exp_avg_sq"):
                if f"optimiser.{i}.{name}" in state:
                    kept = torch.from_numpy(state[f"optimiser.{i}.{name}"])
                    # The moments lie in memory as the parameter does, as Adam itself lays them out; its fused form wants
                    # the count of steps on the same device.
                    own[name] = kept.to(parameter.device) if name == "step" else torch.empty_like(parameter).copy_(kept)
            if own:
                self._optimiser.state[parameter] = own
        position, has_gauss, gauss = state["random.rest"].tolist()
        self._random.set_state(("MT19937", state["random.keys"], int(position), int(has_gauss), gauss))
        torch.set_rng_state(torch.from_numpy(state["torch.cpu"]))
        self.notes = {k.removeprefix(_NOTE): float(v) for k, v in state.items() if k.startswith(_NOTE)}
        self._step = int(state["step"])
