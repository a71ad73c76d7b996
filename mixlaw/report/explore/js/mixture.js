// Mixtures: the smallest step to a mixture with one weight given, links, and the trainer's override.

const DIGITS = 4;

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
function hydraOverride(domains, h) {
  if (!domains.every((name) => /^[A-Za-z0-9_/\-+.$%*@?|\\()[\]{}:=, \t]+$/.test(name))) return "";
  const units = rounded(h, 10 ** DIGITS);
  const pair = (name, i) =>
    `${name.replace(/[\\()[\]{}:=, \t]/g, "\\$&")}:${(units[i] / 10 ** DIGITS).toFixed(DIGITS)}`;
  return `mixture.weights={${domains.map(pair).join(",")}}`;
}

// Return the end of a link that shows this run: n, d, and w.DOMAIN for every weight.
function fragmentOf(domains, run) {
  const parts = [["n", run.n_params], ["d", run.n_tokens]];
  if (domains.length > 1) domains.forEach((name, i) => parts.push([`w.${name}`, run.h[i]]));
  return new URLSearchParams(parts.map(([name, value]) => [name, String(Number(value.toPrecision(6)))])).toString();
}

// Return the run of a link; {error} says what is wrong with it; null if the link shows no run.
function runOf(fragment, domains, otherwise) {
  const given = new URLSearchParams(fragment);
  if (![...given.keys()].some((key) => key === "n" || key === "d" || key.startsWith("w."))) return null;
  const run = { ...otherwise };
  for (const [key, name] of [["n", "n_params"], ["d", "n_tokens"]]) {
    if (!given.has(key)) continue;
    run[name] = Number(given.get(key));
    if (!(run[name] > 0 && run[name] < Infinity)) return { error: `${key}=${given.get(key)} is not a number above 0` };
  }
  const named = [...given.keys()].filter((key) => key.startsWith("w.")).map((key) => key.slice(2));
  if (!named.length) return run;
  const unknown = named.find((name) => !domains.includes(name));
  if (unknown !== undefined) return { error: `it has a domain '${unknown}', which these laws do not know` };
  const h = domains.map((name) => Number(given.get(`w.${name}`) ?? 0));
  const total = h.reduce((a, b) => a + b);
  if (!h.every((w) => w >= 0 && w <= 1) || Math.abs(total - 1) > 1e-3) {
    return { error: `its weights must lie between 0 and 1 and sum to 1, not ${Number(total.toPrecision(4))}` };
  }
  return { ...run, h: h.map((w) => w / total) };
}
