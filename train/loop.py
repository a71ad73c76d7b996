"""Trains one run from start to end: the training loop, top to bottom.

All inputs are a pure function of (configuration, step). Resuming therefore means: load weights and optimizer, truncate
the run log to its length at the checkpoint, continue with the next step.
"""

import gc
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data.store.verified import verify_touched
from data.stream.loader import Batch
from mixlaw.runs.log import read_status
from train.average import WeightAverage
from train.branch import find_trunk
from train.checkpoint import load_checkpoint, newest_checkpoint, require_space, step_of
from train.config import TrainConfig
from train.distributed import World, join_world, leave_world
from train.evaluate import Evaluator, Losses, inputs_of
from train.journal import Journal, only_process, run_facts
from train.models.attention import kernels_for
from train.models.build import shape_model
from train.models.initial import initialise
from train.optim import build_optimizer, schedule_factor, set_learning_rate
from train.parallel import clip_gradients, micro_batch_of, place, summing_gradients, trainable
from train.plan import Plan
from train.precision import autocast, set_matrix_products
from train.preempt import StopRequest
from train.preflight import check_machine
from train.process import let_segments_grow, no_garbage_collection, on_device
from train.readings import STEPS_LATE, Reading
from train.saving import Saver
from train.start import load_origin
from train.state import TrainState

log = logging.getLogger(__name__)
ProgressCallback = Callable[[int, float], None]  # (tokens so far, latest training loss)
_OVER = ("", "finished", "diverged")


def no_progress(n_tokens: int, loss: float) -> None:
    """Show nothing."""


def run(plan: Plan, progress: ProgressCallback = no_progress) -> str:
    """Train one run to its end, from its newest checkpoint if there is one.

    Returns
    -------
    'finished', 'diverged' (a loss or gradient was not finite), or 'again' (stopped by a signal, saved, to be resumed)

    Raises
    ------
    MixlawError
        If data, run directory or checkpoint cannot be used.
    """
    machine = plan.config.machine
    folder = plan.folder
    torch.set_num_threads(machine.threads)
    set_matrix_products(plan.config.precision)
    let_segments_grow()
    world = join_world(machine.device, machine.timeout_minutes, machine.wait_minutes)
    try:
        if over := _over(folder, world):
            return over
        with StopRequest() as stop, ExitStack() as at_end:
            verified = True
            with world.together():
                check_machine(plan.config, world)
            with world.together("verifying data"):
                if world.is_first:
                    at_end.enter_context(only_process(folder))
                    verified = verify_touched(plan.manifest, log.warning, lambda: bool(stop.signal))
            if world.maximum(int(not verified)):
                return "again"
            at_end.enter_context(kernels_for(world.device))
            at_end.enter_context(no_garbage_collection())
            return _over(folder, world) or _Training(plan, folder, world, stop, at_end).train(progress)
    except OSError as error:
        error.filename = error.filename or folder  # errors of a full disk have no file name
        raise
    finally:
        leave_world()


def _over(folder: Path, world: World) -> str:
    """Return the status of a run that is over, as read by the first rank; '' if it is not over."""
    status = read_status(folder) if world.is_first else ""
    return _OVER[world.maximum(_OVER.index(status) if status in _OVER else 0)]


class _Training:
    """One process's part in training a run."""

    def __init__(self, plan: Plan, folder: Path, world: World, stop: StopRequest, at_end: ExitStack) -> None:
        config = plan.config
        self.plan, self.config, self.folder, self.world, self.stop = plan, config, folder, world, stop
        layout, batch_size = config.layout(), config.stream.batch_size
        micro_batch = micro_batch_of(batch_size, config.machine, world.size)
        self.model = self._model()
        self.state = TrainState(self.model, build_optimizer(self.model, config.optim, config.model.width))
        if config.evaluation.average:
            self.state.average = WeightAverage(self._model(), config.evaluation.average)
        self.stream = plan.stream(world.rank, world.size)
        groups = config.data.task_groups
        self.evaluator = Evaluator(plan.manifest, config.evaluation, layout, micro_batch, groups)
        self.saver = Saver(config.machine, world)
        at_end.callback(self.saver.close)
        self.journal: Journal | None = None
        self.at_end = at_end
        self.resumed, self.step, self.evaluation_pending = -1, 0, False
        self.evaluation_steps, self.unread, self.told = set(plan.evaluation_steps()), deque[Reading](), False
        self.data_wait_s = 0.0

    def _model(self) -> nn.Module:
        config = self.config
        tokenizer = self.plan.manifest.facts["tokenizer"]
        model = shape_model(config.model, tokenizer["vocab_size"], config.layout(), tokenizer["end_id"])
        return place(model, config.machine, config.precision, self.world)

    def train(self, progress: ProgressCallback) -> str:
        """Train from the current step to the end of the run, or until a signal stops it."""
        plan, config, world, optimizer = self.plan, self.config, self.world, self.state.optimizer
        if not self._open_journal():
            return "again"
        self._resume()
        replica = trainable(self.model, config.machine, world)
        started, late = time.perf_counter(), STEPS_LATE[world.device.type]
        n_tokens = plan.n_steps * plan.tokens_per_step
        batches = self.stream.batches(self.step, plan.n_steps, config.machine.workers)
        batches = on_device(batches, self.model.inputs, world.device)  # type: ignore[arg-type]
        batch = self._next(batches)

        while self.step < plan.n_steps or self.evaluation_pending:
            if not self.evaluation_pending:
                part = plan.part_of(self.step + 1)
                n_before = part.tokens_after(self.step)
                factor = schedule_factor(config.schedule, n_before, part.per_step, n_tokens)
                lr = set_learning_rate(optimizer, config.optim, factor)
                loss = backward(replica, batch, config, world)
                batch = self._next(batches)  # while the GPU is still computing
                grad_norm = clip_gradients(self.model, config.optim.clip)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                self.step += 1
                if self.state.average:
                    self.state.average.update(self.model, self.step)
                self.evaluation_pending = self.step in self.evaluation_steps
                told = torch.full_like(loss, float(self._should_stop()))
                numbers = torch.cat([world.total(torch.stack([loss, told])), grad_norm[None]])
                self.unread.append(Reading(self.step, round(n_before + part.per_step), lr, numbers))
            if not self._read(progress, 0 if self.evaluation_pending else late):
                return self._end("diverged", started)
            if self.evaluation_pending and (diverged := self._evaluate()):
                return self._end(diverged, started)
            stop_now = self._told_to_stop() and (self.step < plan.n_steps or self.evaluation_pending)
            if stop_now or plan.saves_after(self.step):
                if not self._read(progress, late=0):
                    return self._end("diverged", started)
                self._save()
                gc.collect()
            if stop_now:
                self.saver.wait()
                return "again"
        return self._end("finished", started)

    def _open_journal(self) -> bool:
        """Open the run directory; return False if a signal stopped the evaluation of the weights to start from."""
        before: Losses | None = {}
        begun = self.world.maximum(int(self.world.is_first and (self.folder / "run.json").exists()))
        if self.plan.origin and not begun:
            load_origin(self.plan.origin, self.model, self.world)
            before = self.evaluator.measure(self.model, self.world, self.config.precision, self.stop)
        if before is None:
            return False
        with self.world.together():
            if self.world.is_first:
                facts = run_facts(self.plan, self.model, self.stream, self.world.size, before)
                self.journal = Journal(self.folder, facts, self.config)
                self.at_end.callback(self.journal.close)
        return True

    def _next(self, batches: Iterator[Batch]) -> Batch:
        """Return the next batch, or an empty one after the last; add the waiting time to data_wait_s."""
        started = time.perf_counter()
        batch = next(batches, {})
        self.data_wait_s += time.perf_counter() - started
        return batch

    def _read(self, progress: ProgressCallback, late: int) -> bool:
        """Log and show the losses of all steps but the last `late`; return False at the first that is not finite.

        The step count then goes back to before that step. All ranks read the same numbers and act alike.
        """
        while len(self.unread) > late:
            reading = self.unread.popleft()
            loss, told, grad_norm = reading.read()
            if not (math.isfinite(loss) and math.isfinite(grad_norm)):
                self.step = reading.step - 1
                return False
            self.told |= told
            if self.journal and (reading.step in self.evaluation_steps or self._logs_after(reading.step)):
                self.journal.train_row(reading.step, loss, grad_norm, reading.lr, self.stream)
            progress(reading.n_tokens, loss)
        return True

    def _logs_after(self, step: int) -> bool:
        return step % self.config.logging.every_steps == 0

    def _told_to_stop(self) -> bool:
        """Return whether any rank should stop; several ranks exchange this together with the loss of a step."""
        return self.told or (self.world.size == 1 and self._should_stop())

    def _should_stop(self) -> bool:
        """Return whether this rank received a signal, or a background save failed; the next save raises the error."""
        return self.stop.signal > 0 or self.saver.has_failed

    def _evaluate(self) -> str:
        """Evaluate and log all domains unless a signal arrives; return 'diverged' if a loss is not finite, else ''."""
        model = self.state.average.model if self.state.average else self.model
        losses = self.evaluator.measure(model, self.world, self.config.precision, self.stop)
        if losses is None:
            self.told = True
            return ""
        if not all(math.isfinite(measured["loss"]) for measured in losses.values()):
            return "diverged"
        if self.journal:
            self.journal.eval_rows(self.step, self.stream.totals(self.step)["n_tokens"], losses)
        self.evaluation_pending = False
        return ""

    def _save(self) -> None:
        """Save a checkpoint, unless this step was loaded from one; then only its evaluation was missing."""
        if self.step == self.resumed:
            return
        facts: dict[str, Any] = {"evaluation_pending": self.evaluation_pending}
        if self.journal:
            facts["log_bytes"] = self.journal.position()
        self.saver.save(
            self.state,
            folder=self.folder / "checkpoints",
            step=self.step,
            facts=facts,
            keep=self.config.checkpoint.keep,
            permanent=self.plan.permanent_steps(),
        )

    def _resume(self) -> None:
        """Load the newest checkpoint that is valid on all ranks, else one of the trunk, else initialise."""
        own = self.folder / "checkpoints"
        with self.world.together():
            if self.world.is_first:
                require_space(own, self.state)
        newest, trunk = newest_checkpoint(own, world=self.world), None
        if newest is None and self.config.checkpoint.branch_from:
            trunk = find_trunk(self.plan, self.world)
        chosen, borrowed = newest or trunk, trunk is not None
        step = step_of(chosen.name) if chosen else 0
        facts: dict[str, Any] = {}
        if chosen:
            with self.world.together("loading a checkpoint"):
                facts = load_checkpoint(chosen, self.state, self.world)
            log.info("%s goes on after step %d of %s", self.folder, step, chosen.parent.parent)
        elif self.plan.origin:
            load_origin(self.plan.origin, self.model, self.world)
        else:
            initialise(self.model, self.config.model, self.config.seed)
        self.step = step
        if not borrowed and step:
            self.resumed, self.evaluation_pending = step, bool(facts.get("evaluation_pending", False))
        if self.journal:
            self.journal.begin(0 if borrowed else int(facts.get("log_bytes", 0)))

    def _end(self, status: str, started: float) -> str:
        self.saver.wait()
        if self.journal:
            self.journal.seal(status, self.step, time.perf_counter() - started, self.data_wait_s)
        return status


def backward(model: nn.Module, batch: Batch, config: TrainConfig, world: World) -> Tensor:
    """Accumulate the gradient of the mean loss over all valid tokens of the global batch.

    Returns this rank's part of the loss; the sum over ranks is the loss. Each token with loss has the same weight,
    whatever micro-batch or rank it is in. With several kinds of losses, the result is the weighted sum of their means.
    """
    family: Any = getattr(model, "module", model)  # beneath DDP
    batch = inputs_of(family, batch, world.device)
    counts = family.predicted(batch)
    n_valid = dict(zip(counts, world.total(torch.stack([n.sum() for n in counts.values()])), strict=True))
    loss = torch.zeros((), device=world.device)
    n_sequences = len(next(iter(batch.values())))
    firsts = range(0, n_sequences, config.machine.micro_batch or n_sequences)
    for first in firsts:
        part = {name: values[first : first + firsts.step] for name, values in batch.items()}
        with summing_gradients(model, enabled=first == firsts[-1]):
            with autocast(world.device, config.precision):
                losses = model(part)
                means = [w * losses[kind].sum() / n_valid[kind].clamp(min=1) for kind, w in family.loss_weights.items()]
                part_loss = torch.stack(means).sum()
            (part_loss * world.size).backward()  # DDP and FSDP average over ranks, but the loss is a sum
        loss += part_loss.detach()
    return loss
