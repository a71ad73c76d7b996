// The gain of one run over another: the difference of their losses, with an interval.

// Return [gain, low, high] of a target, or of a weighted sum of targets, from the losses of both runs.
function gainOver(baseline, chosen, level) {
  const gain = baseline.centre - chosen.centre;
  const drawn = baseline.drawn.map((loss, b) => loss - chosen.drawn[b]);
  return [gain, ...interval(drawn, level, gain)];
}
