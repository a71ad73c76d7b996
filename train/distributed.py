"""Ranks: the position of this process, and how ranks synchronise; all by torch.distributed."""

import os
import re
import time
from collections import Counter
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta

import torch
import torch.distributed as dist

from mixlaw.errors import ConfigError, MixlawError

TIMEOUT_MINUTES, WAIT_MINUTES = 30.0, 720.0  # defaults of machine.timeout_minutes and machine.wait_minutes
_POLL_S = (0.001, 0.25)  # shortest and longest pause between polls
_LINGER_S = 2.0  # time that the first rank waits for the others at the end
_LEFT = "left"  # key in the store: number of ranks that have left


@dataclass(frozen=True)
class World:
    """This process among the ranks that train one model together.

    Attributes
    ----------
    wait_s : maximum waiting time outside of collectives, for work that other ranks do alone, such as hashing [s]
    group : process group of its collectives; None: the default one
    """

    rank: int
    size: int
    device: torch.device
    wait_s: float = 60 * WAIT_MINUTES
    group: dist.ProcessGroup | None = field(default=None, compare=False, repr=False)
    _prefix: str = field(default="", compare=False, repr=False)  # of the names of its meetings
    _meetings: Counter[str] = field(default_factory=Counter, compare=False, repr=False)

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, the only one that writes."""
        return self.rank == 0

    def maximum(self, value: int) -> int:
        """Return the maximum over ranks (all-reduce), so that all ranks decide alike."""
        if self.size == 1:
            return value
        flag = torch.tensor(value, device=self.device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=self.group)
        return int(flag.item())

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over ranks (all-reduce)."""
        if self.size > 1:
            dist.all_reduce(value, op=dist.ReduceOp.SUM, group=self.group)
        return value

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            dist.barrier(self.group)

    def beside(self, timeout_minutes: float = TIMEOUT_MINUTES) -> "World":
        """Return the same ranks for a second thread, with separate collectives and meetings.

        All ranks must call it at the same point. Its collectives are small and use gloo on the CPU.
        """
        if self.size == 1:
            return self
        group = dist.new_group(backend="gloo", timeout=timedelta(minutes=timeout_minutes))
        cpu, prefix = torch.device("cpu"), f"{self._prefix}beside/"
        return replace(self, device=cpu, group=group, _prefix=prefix, _meetings=Counter())

    def meet(self, what: str) -> None:
        """Wait until every rank arrives; other ranks may take hours, so this polls the store and uses no collective.

        A collective that waits longer than the time-out of its process group ends the run, and keeps the GPU busy.

        Parameters
        ----------
        what : name of the meeting, the same on all ranks; names can be reused

        Raises
        ------
        MixlawError
            If another rank has left, or has not arrived after `wait_s`.
        """
        if self.size == 1:
            return
        self._meetings[what] += 1
        key, end, pause = f"{self._prefix}{what}/{self._meetings[what]}", time.monotonic() + self.wait_s, _POLL_S[0]
        with _store() as store:
            store.add(key, 1)
            while (n_here := store.add(key, 0)) < self.size:
                if store.add(_LEFT, 0) and store.add(key, 0) < self.size:  # one that was here may have left since
                    raise MixlawError("stopped, because another rank of this run has left: see what it says")
                if time.monotonic() > end:
                    raise MixlawError(
                        f"{what}: {self.size - n_here} of {self.size} ranks are not done after {self.wait_s / 60:g} "
                        "minutes: see what they say, or raise machine.wait_minutes"
                    )
                time.sleep(pause)
                pause = min(2 * pause, _POLL_S[1])

    def abandon(self) -> None:
        """End all meetings with an error, on other ranks and in other threads of this rank."""
        if self.size > 1:
            with suppress(MixlawError), _store() as store:
                store.add(_LEFT, 1)

    def gather(self, what: str, text: str) -> list[str]:
        """Return the texts of all ranks in order on the first rank, [] on the others; waits as `meet` does."""
        if self.size == 1:
            return [text]
        key = f"{self._prefix}{what}/said/{self._meetings[what] + 1}"
        with _store() as store:
            store.set(f"{key}/{self.rank}", text)
            self.meet(what)
            keys = [f"{key}/{rank}" for rank in range(self.size)] if self.is_first else []
            said = [store.get(k).decode() for k in keys]
            for k in keys:
                store.delete_key(k)
        return said

    @contextmanager
    def together(self, what: str = "together") -> Iterator[None]:
        """A context that all ranks leave in the same way: an error of one rank stops the others too.

        Ranks may take as long as `meet` allows, because they meet before they use a collective.

        Raises
        ------
        MixlawError, OSError
            The error of this rank, or one that refers to the other ranks.
        """
        failure: MixlawError | OSError | None = None
        try:
            yield
        except (MixlawError, OSError) as error:
            failure = error
        self.meet(what)
        if self.maximum(int(failure is not None)):
            raise failure or MixlawError("stopped, because another rank of this run failed: see what it says")


ALONE = World(0, 1, torch.device("cpu"))


@contextmanager
def _store() -> Iterator[dist.Store]:
    """Yield the key-value store of the default process group; its host is the first rank, or torchrun."""
    try:
        yield dist.distributed_c10d._get_default_store()
    except RuntimeError as error:  # includes torch's network and store errors
        words = str(error).splitlines()[0][:200]
        raise MixlawError(f"stopped, because the first rank of this run is gone: see what it says ({words})") from None


def join_world(device: str, timeout_minutes: float = TIMEOUT_MINUTES, wait_minutes: float = WAIT_MINUTES) -> World:
    """Return the position of this process: alone, or among the ranks started by torchrun or srun.

    Parameters
    ----------
    device : auto, cpu or cuda
    timeout_minutes : time-out of collectives
    wait_minutes : maximum waiting time outside of collectives

    Raises
    ------
    ConfigError
        If there is no GPU for this rank.
    """
    use_cuda = device != "cpu" and torch.cuda.is_available()
    if device == "cuda" and not use_cuda:
        raise ConfigError("machine.device is cuda, but torch sees no GPU: use machine.device=auto")
    adopt_slurm(os.environ)
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local = int(os.environ.get("LOCAL_RANK", 0))
    chosen = torch.device("cuda", gpu_of(local, torch.cuda.device_count())) if use_cuda else torch.device("cpu")
    if use_cuda:
        torch.cuda.set_device(chosen)
    if size > 1 and not dist.is_initialized():
        backend, limit = "nccl" if use_cuda else "gloo", timedelta(minutes=timeout_minutes)
        dist.init_process_group(backend, timeout=limit, device_id=chosen if use_cuda else None)
    return World(rank, size, chosen, 60 * wait_minutes)


def gpu_of(local_rank: int, n_seen: int) -> int:
    """Return the index of this rank's GPU among those visible to the process.

    Raises
    ------
    ConfigError
        If a node has more ranks than GPUs: two ranks of a run cannot share one.
    """
    if n_seen == 1:  # with --gpus-per-task, each task sees only its own GPU
        return 0
    if local_rank >= n_seen:
        raise ConfigError(
            f"rank {local_rank} of this node finds {n_seen} GPUs: start one process per GPU "
            f"(torchrun --nproc-per-node={n_seen}, or sbatch --ntasks-per-node={n_seen}), or make more GPUs visible"
        )
    return local_rank


def adopt_slurm(environment: MutableMapping[str, str]) -> None:
    """Set the environment variables of torchrun from those of `srun`, unless torchrun has set them."""
    step = environment.get("SLURM_STEP_NUM_TASKS", "1")  # of the srun step, not of the allocation
    if "RANK" in environment or step == "1":
        return
    environment["RANK"] = environment["SLURM_PROCID"]
    environment["WORLD_SIZE"] = step
    environment["LOCAL_RANK"] = environment["SLURM_LOCALID"]
    environment.setdefault("MASTER_ADDR", first_host(environment["SLURM_STEP_NODELIST"]))
    environment.setdefault("MASTER_PORT", str(20_000 + int(environment["SLURM_JOB_ID"]) % 20_000))


def first_host(nodes: str) -> str:
    """Return the first host of a Slurm host list: gpu[03-05,9],x -> gpu03."""
    match = re.match(r"([^,\[]+)(?:\[([^,\-\]]+))?", nodes)
    if not match:
        raise ConfigError(f"SLURM_STEP_NODELIST is {nodes!r}; it names no host: set MASTER_ADDR")
    return match[1] + (match[2] or "")


def leave_world() -> None:
    """Leave the process group, and end the waiting of other ranks for this one."""
    if dist.is_initialized():
        with suppress(MixlawError), _store() as store:
            n_left, end = store.add(_LEFT, 1), time.monotonic() + _LINGER_S
            while dist.get_rank() == 0 and n_left < dist.get_world_size() and time.monotonic() < end:
                time.sleep(_POLL_S[0])  # the first rank may host the store, which the others still need
                n_left = store.add(_LEFT, 0)
        dist.destroy_process_group()
