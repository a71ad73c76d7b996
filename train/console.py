"""Progress of one run: a bar on a terminal, else a line every few seconds."""

import sys
import time
from types import TracebackType

from tqdm import tqdm

from train.plan import Plan

LINE_EVERY_S = 10.0


class RunBar:
    """Shows tokens, loss and speed of a run while it trains."""

    def __init__(self, plan: Plan) -> None:
        self._total = plan.n_tokens
        self._bar = tqdm(
            total=self._total, unit="tok", unit_scale=True, desc=plan.run_id, disable=not sys.stderr.isatty()
        )
        self._last_line = self._started = time.monotonic()
        self._first = -1

    def __enter__(self) -> "RunBar":
        return self

    def update(self, n_tokens: int, loss: float) -> None:
        """Show the progress; cheap enough for every step."""
        if self._first < 0:
            self._first = n_tokens
        self._bar.n = n_tokens
        self._bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        self._bar.update(0)
        now = time.monotonic()
        if self._bar.disable and now - self._last_line > LINE_EVERY_S:
            speed = (n_tokens - self._first) / (now - self._started)
            print(f"{n_tokens:,} of {self._total:,} tokens, loss {loss:.3f}, {speed:,.0f} tok/s", flush=True)  # noqa: T201
            self._last_line = now

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
