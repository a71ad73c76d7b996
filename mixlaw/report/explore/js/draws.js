// Losses with intervals: a mirror of mixlaw/fitting/fitted.py and widening.py for one run.

const MOST_FACTOR = 30;
const LEAST = 1e-9;
const FLAT = 1e-6;

function bytesOf(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
}

// Replace the packed parameters of a target by theta and the draws, one array of parameters each.
function unpacked(target, count) {
  const theta = new Float64Array(bytesOf(target.theta));
  const scale = new Float64Array(bytesOf(target.scale));
  const steps = new Int16Array(bytesOf(target.steps));
  const draw = (_, b) => theta.map((centre, j) => centre + scale[j] * steps[b * theta.length + j]);
  return { ...target, theta, draws: Array.from({ length: count }, draw) };
}

// Return how far a run lies outside of ranges: n_params, n_tokens -> log ratio, 0 inside.
function distances(ranges, run) {
  const beyond = ([low, high], value) => Math.max(Math.log(value / high), Math.log(low / value), 0);
  return Object.fromEntries(Object.entries(ranges).map(([name, range]) => [name, beyond(range, run[name])]));
}

// Return what the law says of a run: its inputs, the loss to show, by the resamples, and by single runs of these.
function losses(page, target, run) {
  const x = inputs(page.law, run, page.limits.available);
  const fit = valueOf(page.law.term, target.theta, 0, x);
  const raw = target.draws.map((theta) => valueOf(page.law.term, theta, 0, x));
  const drawn = widened(target, fit, raw, distances(page.ranges, run));
  const runs = drawn.map((loss, b) =>
    withScatter(loss, page.law.logarithmic ? target.run_errors[b] * loss : target.run_errors[b]));
  return { x, centre: page.over.length ? mean(page.over.map((b) => raw[b])) : fit, raw, runs };
}

function widened(target, centre, drawn, beyond) {
  const deviations = drawn.map((loss) => Math.log(Math.max(loss, LEAST)) - Math.log(Math.max(centre, LEAST)));
  const shown = Math.hypot(...Object.entries(target.reach).map(([name, reach]) => reach * (beyond[name] ?? 0)));
  const spread = standardDeviation(deviations);
  const needed = spread > FLAT ? shown / spread : 1;
  const factor = Math.min(Math.max(needed, target.factor), Math.max(MOST_FACTOR, target.factor));
  return factor === 1 ? drawn : deviations.map((deviation) => centre * Math.exp(factor * deviation));
}

function withScatter(loss, scatter) {
  return scatter < 0 ? loss * Math.exp(scatter / Math.max(loss, LEAST)) : loss + scatter;
}

function mean(values) {
  return values.reduce((a, b) => a + b) / values.length;
}

function standardDeviation(values) {
  const middle = mean(values);
  return Math.sqrt(mean(values.map((value) => (value - middle) ** 2)));
}

// Return the central interval of values at a level, extended to contain a centre.
function interval(values, level, centre) {
  const sorted = [...values].sort((a, b) => a - b);
  const tail = (1 - level) / 2;
  return [Math.min(quantile(sorted, tail), centre), Math.max(quantile(sorted, 1 - tail), centre)];
}

function quantile(sorted, share) {
  const place = share * (sorted.length - 1);
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
}
