"""Saves checkpoints in the loop's own time, or in the background while training goes on.

In the background the loop waits for a copy of the tensors in host memory only; one thread writes it by the same steps
as ever (train/checkpoint.py), so a checkpoint counts once it is committed, and a process that dies before that resumes
from the one before. One is written at a time. Ranks exchange hashes and errors in a process group of their own.
"""

from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from train.checkpoint import save_checkpoint
from train.config import MachineConfig
from train.distributed import World
from train.state import TrainState, host_stager

LAST_WAIT_S = 60  # that a rank whose training failed gives the others to write the checkpoint that was begun


class Saver:
    """Saves the checkpoints of a run, one at a time. All ranks make one at the same point."""

    def __init__(self, machine: MachineConfig, world: World) -> None:
        self._world, self._writer = world, None
        self._running: Future[Any] | None = None
        if machine.background_saves:
            self._world, self._writer = world.beside(machine.timeout_minutes), ThreadPoolExecutor(1, "checkpoint")
            self._stager = host_stager(world.device)

    def save(self, state: TrainState, **wanted: Any) -> None:
        """Save, or begin to, when the checkpoint before is written; `wanted` is for `save_checkpoint`.

        Raises
        ------
        CheckpointError
            If this one or the one before cannot be written.
        """
        self.wait()
        if self._writer is None:
            save_checkpoint(state=state, world=self._world, **wanted)
        else:
            copy = state.copy_to_host(self._stager)
            self._running = self._writer.submit(save_checkpoint, state=copy, world=self._world, **wanted)

    @property
    def has_failed(self) -> bool:
        """Whether what was begun has ended with an error, which `wait` raises."""
        return self._running is not None and self._running.done() and self._running.exception() is not None

    def wait(self) -> None:
        """Wait until what was begun is written.

        Raises
        ------
        CheckpointError
            If it cannot be written.
        """
        running, self._running = self._running, None
        if running:
            running.result()

    def close(self) -> None:
        """Wait until what was begun has ended, well or not, but not for a rank that may be gone.

        Where something is left to wait for, the training has failed already: no error is raised.
        """
        if self._writer is None:
            return
        if self._running and wait([self._running], LAST_WAIT_S).not_done:
            self._world.abandon()
        self._writer.shutdown()
