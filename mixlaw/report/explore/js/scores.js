// Scores of benchmarks at the losses that the law says of a run: a mirror of mixlaw/benchmarks/curve.py.

const MOST_CERTAIN = 1e-3;

// Return [score, low, high] of a run from its losses {centre, runs}.
function scoreOf(page, curve, { centre, runs }) {
  const drawn = runs.map((loss, b) => {
    const expected = scoreAt(curve, curve.draws[b], loss);
    const best = scoreAt(curve, curve.theta, loss);
    const p = clamped(expected, MOST_CERTAIN, 1 - MOST_CERTAIN);
    return clamped(best + curve.widening * (expected + curve.off[b] * Math.sqrt(p * (1 - p)) - best), 0, 1);
  });
  const score = scoreAt(curve, curve.theta, centre);
  return [score, ...interval(drawn, page.level, score)];
}

// Return why a score is not predictable; '' if it is.
function unpredictable(curve, { centre }, [, low, high]) {
  if (curve.reason) return curve.reason;
  if (centre < curve.lowest) return "its loss is far below those of the runs";
  return high - low > curve.widest ? "its interval holds most scores from chance to 1" : "";
}

function scoreAt({ chance }, [midpoint, slope, ceiling], loss) {
  const risen = 1 / (1 + Math.exp(Math.exp(slope) * (loss - Math.exp(midpoint))));
  return chance + ((1 - chance) * risen) / (1 + Math.exp(-ceiling));
}

function scoreText(score) {
  return `${(100 * score).toFixed(1)}\u00a0%`;
}

function clamped(value, low, high) {
  return Math.min(Math.max(value, low), high);
}
