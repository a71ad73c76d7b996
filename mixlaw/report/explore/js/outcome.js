// What the law says of a run: losses by target and of their weighted sum, and gains over a baseline.

// Return what it says of a target; without a baseline {phases, until} there is no gain.
function outcome(page, target, run, baseline) {
  const of = ({ phases, until }) => losses(page, target, { ...run, phases, until });
  const chosen = of(run);
  const loss = lossOf(page, chosen);
  if (!baseline) return { target, chosen, loss };
  const other = of(baseline);
  const inUse = page.in_use === null ? null : of(page.mixtures.find(({ name }) => name === page.in_use));
  const sd = scatterSd(page, target, other, chosen);
  return { target, chosen, other, inUse, sd, loss, gain: gainOver(page, other, chosen, sd) };
}

// Return loss and gain of the weighted sum of the targets, whose resamples are drawn together.
function weightedOutcome(page, shown) {
  const chosen = weightedSum(page, shown, "chosen");
  const loss = lossOf(page, chosen);
  if (!shown[0].gain) return { loss };
  const sd = correlatedSd(page, shown.map(({ target, sd: own }) => target.importance * own));
  return { loss, gain: gainOver(page, weightedSum(page, shown, "other"), chosen, sd) };
}

function weightedSum(page, shown, which) {
  const add = (pick) => shown.reduce((sum, { target, [which]: own }) => sum + target.importance * pick(own), 0);
  const over = (name) => Array.from({ length: page.draws }, (_, b) => add((own) => own[name][b]));
  return { centre: add((own) => own.centre), raw: over("raw"), runs: over("runs") };
}

// Return [loss, low, high].
function lossOf(page, { centre, runs }) {
  return [centre, ...interval(runs, page.level, centre)];
}
