// Mixtures and phases: the smallest step to a mixture with one weight given, links, and the trainer's override.

const DIGITS = 4;
const SHORTEST = 0.01; // phase that the sliders make, as a share of the run's tokens

// Return the mixture nearest to h (least squares) in which weight i is as given and locked weights stay.
function moved(h, i, weight, locked) {
  const free = h.map((_, j) => j !== i && !locked[j]);
  const kept = h.reduce((sum, w, j) => sum + (j !== i && locked[j] ? w : 0), 0);
  const room = Math.max(1 - kept, 0);
  const own = free.some((is) => is) ? Math.min(Math.max(weight, 0), room) : room;
  const rest = projected(h.filter((_, j) => free[j]), room - own);
  let next = 0;
  return h.map((w, j) => (j === i ? own : free[j] ? rest[next++] : w));
}

// Return the ends of phases with one of them moved, between those beside it.
function switched(until, p, end) {
  const least = (until[p - 1] ?? 0) + SHORTEST;
  return until.map((old, i) => (i === p ? Math.max(Math.min(end, until[p + 1] - SHORTEST), least) : old));
}

// Return a run with the phases of another; one mixture is that of all phases.
function withPhases(run, { phases, until }) {
  return phases.length > 1 ? { ...run, phases, until } : { ...run, phases: run.phases.map(() => phases[0]) };
}

// Return the point nearest to values whose entries are at least zero and sum to a total.
function projected(values, total) {
  const sorted = [...values].sort((a, b) => b - a);
  let sum = 0;
  let shift = 0;
  sorted.forEach((value, i) => {
    sum += value;
    const candidate = (total - sum) / (i + 1);
    if (i === 0 || value + candidate > 0) shift = candidate;
  });
  return values.map((value) => Math.max(value + shift, 0));
}

// Return integers near h * total that sum to total (largest remainders).
function rounded(h, total) {
  const sum = h.reduce((a, b) => a + b);
  const ideal = h.map((w) => (w / sum) * total);
  const units = ideal.map(Math.floor);
  const order = h.map((_, i) => i).sort((a, b) => units[a] - ideal[a] - (units[b] - ideal[b]));
  const missing = total - units.reduce((a, b) => a + b);
  order.slice(0, missing).forEach((i) => (units[i] += 1));
  return units;
}

// Return the Hydra override of the trainer; empty if Hydra cannot express a name.
function hydraOverride(domains, { phases, until }) {
  const weights = phases.map((h) => hydraWeights(domains, h));
  if (!weights.every(Boolean)) return "";
  if (phases.length === 1) return `mixture.weights=${weights[0]}`;
  const parts = weights.map((text, p) => `{until:${Number(until[p].toPrecision(12))},weights:${text}}`);
  return `mixture.phases=[${parts.join(",")}]`;
}

function hydraWeights(domains, h) {
  if (!domains.every((name) => /^[A-Za-z0-9_/\-+.$%*@?|\\()[\]{}:=, \t]+$/.test(name))) return "";
  const units = rounded(h, 10 ** DIGITS);
  const pair = (name, i) =>
    `${name.replace(/[\\()[\]{}:=, \t]/g, "\\$&")}:${(units[i] / 10 ** DIGITS).toFixed(DIGITS)}`;
  return `{${domains.map(pair).join(",")}}`;
}

// Return the end of a link that shows this run: n, d, and w.DOMAIN for every weight, or w.DOMAIN@PHASE and until@PHASE.
function fragmentOf(domains, { n_params: n, n_tokens: d, phases, until }) {
  const mark = marker(phases);
  const weights = phases.flatMap((h, p) => domains.map((name, i) => [`w.${name}${mark(p)}`, h[i]]));
  const ends = until.slice(0, -1).map((end, p) => [`until${mark(p)}`, end]);
  const parts = [["n", n], ["d", d], ...(domains.length > 1 ? [...weights, ...ends] : [])];
  return new URLSearchParams(parts.map(([name, value]) => [name, String(Number(value.toPrecision(6)))])).toString();
}

// Return what follows the names of a phase's values in a link.
function marker(phases) {
  return (p) => (phases.length > 1 ? `@${p + 1}` : "");
}

// Return the run of a link; {error} says what is wrong with it; null if the link shows no run.
function runOf(fragment, domains, otherwise) {
  const given = new URLSearchParams(fragment);
  if (![...given.keys()].some((key) => key === "n" || key === "d" || /^(w\.|until@)/.test(key))) return null;
  const run = { ...otherwise };
  for (const [key, name] of [["n", "n_params"], ["d", "n_tokens"]]) {
    if (!given.has(key)) continue;
    run[name] = Number(given.get(key));
    if (!(run[name] > 0 && run[name] < Infinity)) return { error: `${key}=${given.get(key)} is not a number above 0` };
  }
  return withEnds(given, withWeights(given, domains, run));
}

// Return a run with the weights of a link, of one mixture or of all phases, or {error}.
function withWeights(given, domains, run) {
  const named = [...given.keys()].filter((key) => key.startsWith("w.")).map((key) => key.slice(2));
  if (!named.length) return run;
  const single = named.every((name) => domains.includes(name));
  const marks = single ? [""] : run.phases.map((_, p) => marker(run.phases)(p));
  const unknown = named.find((name) => !marks.some((mark) => domains.some((domain) => name === domain + mark)));
  if (unknown !== undefined) return { error: `it has a domain '${unknown}', which these laws do not know` };
  const phases = marks.map((mark) => domains.map((name) => Number(given.get(`w.${name}${mark}`) ?? 0)));
  for (const h of phases) {
    const total = h.reduce((a, b) => a + b);
    if (h.every((w) => w >= 0 && w <= 1) && Math.abs(total - 1) <= 1e-3) continue;
    return { error: `its weights must lie between 0 and 1 and sum to 1, not ${Number(total.toPrecision(4))}` };
  }
  const scaled = phases.map((h) => h.map((w) => w / h.reduce((a, b) => a + b)));
  return { ...run, phases: single ? run.phases.map(() => scaled[0]) : scaled };
}

// Return a run with the ends of phases of a link, or {error}.
function withEnds(given, run) {
  if (run.error || run.phases.length === 1) return run;
  const until = run.until.map((end, p) => Number(given.get(`until@${p + 1}`) ?? end));
  const rising = until.every((end, p) => end > (until[p - 1] ?? 0)) && until[until.length - 1] === 1;
  return rising ? { ...run, until } : { error: `its phases must end at rising shares of the run, not at ${until.join(", ")}` };
}
