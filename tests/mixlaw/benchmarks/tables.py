"""Tables of runs whose scores follow a known sigmoid of their loss."""

import numpy as np
import pandas as pd

SIZES, SHARES = (1e7, 4e7, 1.6e8), (4, 8, 16, 32)  # N, and tokens per parameter of the evaluations


def scored_runs(
    seed: int = 0, n_runs: int = 15, chance: float = 0.25, ceiling: float = 0.95, questions: int = 1000
) -> pd.DataFrame:
    """Return runs of three sizes on three domains, with loss_arc and score_arc; the midpoint is 0.95, the slope 6."""
    rng, rows = np.random.default_rng(seed), []
    for i in range(n_runs):
        n, h = SIZES[i % len(SIZES)], rng.dirichlet([2.0, 2.0, 2.0])
        for d in n * np.array(SHARES):
            loss = 0.55 + 0.6 * (1.2 - 0.5 * h[0]) * (n / 1e7) ** -0.25 + 0.3 * (d / 1e8) ** -0.3
            loss += rng.normal(0, 0.004)
            expected = chance + (ceiling - chance) / (1 + np.exp(6 * (loss - 0.95)))
            weights = dict(zip(("weight_web", "weight_code", "weight_wiki"), h, strict=True))
            row = {"run_id": f"run{i}", "n_params": n, "n_tokens": d, **weights, "loss_arc": loss}
            rows.append(row | {"score_arc": rng.binomial(questions, expected) / questions})
    return pd.DataFrame(rows)
