"""Saves checkpoints synchronously, or in a background thread while training continues.

In the background, the loop waits only for a copy of the tensors in host memory. A thread then writes it in the same
steps (train/checkpoint.py); a process that dies before the rename resumes from the previous checkpoint. One checkpoint
is written at a time. Ranks exchange hashes and errors in a separate process group.
"""

from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from train.checkpoint import save_checkpoint
from train.config import MachineConfig
from train.distributed import World
from train.state import TrainState, host_stager

LAST_WAIT_S = 60  # time that a failed rank waits for the others to finish the current checkpoint


class Saver:
    """Saves the checkpoints of a run, one at a time. All ranks must construct it at the same point."""

    def __init__(self, machine: MachineConfig, world: World) -> None:
        self._world, self._writer = world, None
        self._running: Future[Any] | None = None
        if machine.background_saves:
            self._world, self._writer = world.beside(machine.timeout_minutes), ThreadPoolExecutor(1, "checkpoint")
            self._stager = host_stager(world.device)

    def save(self, state: TrainState, **wanted: Any) -> None:
        """Wait for the previous checkpoint, then save or start to save; `wanted` goes to `save_checkpoint`.

        Raises
        ------
        CheckpointError
            If this checkpoint or the previous one cannot be written.
        """
        self.wait()
        if self._writer is None:
            save_checkpoint(state=state, world=self._world, **wanted)
        else:
            copy = state.copy_to_host(self._stager)
            self._running = self._writer.submit(save_checkpoint, state=copy, world=self._world, **wanted)

    @property
    def has_failed(self) -> bool:
        """Whether the background save has failed; `wait` raises its error."""
        return self._running is not None and self._running.done() and self._running.exception() is not None

    def wait(self) -> None:
        """Wait until the background save has finished.

        Raises
        ------
        CheckpointError
            If it failed.
        """
        running, self._running = self._running, None
        if running:
            running.result()

    def close(self) -> None:
        """Wait until the background save has ended, but at most LAST_WAIT_S, because a rank may be gone.

        A save is still running only if training failed, so no error is raised here.
        """
        if self._writer is None:
            return
        if self._running and wait([self._running], LAST_WAIT_S).not_done:
            self._world.abandon()
        self._writer.shutdown()
