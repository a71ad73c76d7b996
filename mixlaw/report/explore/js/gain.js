// The gain of a run over one on another mixture, as two real runs would show: mixlaw/fitting/differences.py.

const SEED_LENGTH = 0.2;

// Return [gain, low, high] from the losses of both runs and the sd of their scatter.
function gainOver(page, baseline, chosen, sd) {
  const gain = baseline.centre - chosen.centre;
  const sorted = baseline.raw.map((loss, b) => loss - chosen.raw[b]).sort((a, b) => a - b);
  const [low, middle, high] = [0.25, 0.5, 0.75].map((share) => quantile(sorted, share));
  const { end, quartile } = page.normal;
  const below = Math.max(gain - middle + (end / quartile) * (middle - low), 0);
  const above = Math.max(middle - gain + (end / quartile) * (high - middle), 0);
  return [gain, gain - Math.hypot(below, end * sd), gain + Math.hypot(above, end * sd)];
}

// Return the sd of the difference between two runs around their law.
function scatterSd(page, target, baseline, chosen) {
  const loss = Math.max((baseline.centre + chosen.centre) / 2, 0);
  const { scatter } = target;
  if (!scatter) return target.noise * Math.SQRT2 * (page.law.logarithmic ? loss : 1);
  const [here, there] = [chosen, baseline].map(({ x }) => (page.law.phased ? halves(x) : x.h));
  const apart = 1 - Math.exp(-distance(here, there) / scatter.length);
  const seeds = seedVariance(scatter, here) + seedVariance(scatter, there);
  return Math.sqrt(seeds + 2 * scatter.lack ** 2 * apart) * loss;
}

// Return half of the mixture of the first half of a run's tokens, and half of that of the second half (2k numbers).
function halves({ phases, until }) {
  const mean = (ends) => exposure(phases, ends);
  const early = mean(until.map((end) => Math.min(end, 0.5)));
  return [...early, ...mean(until).map((w, i) => w - early[i])];
}

// Return the variance between seeds at a mixture, from the mixtures with a seed noise of their own.
function seedVariance({ seed, seeds, mixtures }, h) {
  if (!seeds.length) return seed ** 2;
  const near = mixtures.map((other) => Math.exp(-distance(h, other) / SEED_LENGTH));
  const sum = near.reduce((total, weight, i) => total + weight * seeds[i] ** 2, 0.1 * seed ** 2);
  return sum / (near.reduce((a, b) => a + b) + 0.1);
}

// Return the total variation distance of two mixtures, or of the mixtures of both halves of two runs.
function distance(one, other) {
  return other.reduce((sum, weight, i) => sum + Math.abs(one[i] - weight), 0) / 2;
}

// Return the sd of a weighted sum of targets from their sds, each times its importance.
function correlatedSd(page, sds) {
  const known = page.correlations.length > 0;
  const row = (i) => sds.reduce((sum, sd, j) => sum + (known ? page.correlations[i][j] : 1) * sd, 0);
  return Math.sqrt(Math.max(sds.reduce((sum, sd, i) => sum + sd * row(i), 0), 0));
}
