// The limits of the question, each with whether a run keeps it: a mirror of mixlaw/advice/constraints.py.

const SLACK = 1e-6; // of weights
const LOSS_SLACK = 0.01; // per cent of a loss

// Return [{text, broken, domains, phase}] for every limit on the mixture; limits of the whole run have no phase.
function limitsOf(page, run) {
  const { available, max_epochs: most } = page.limits;
  const found = run.phases.flatMap((h, phase) => limitsOfPhase(page, h, run.phases.length > 1 ? phase : undefined));
  page.domains.forEach((name, i) => {
    if (most === null || available[i] === null) return;
    const passes = epochs(page, run, i);
    const text = `${name} at most ${most} epochs: ${Number(passes.toPrecision(3))}`;
    found.push({ text, broken: passes > most * (1 + SLACK), domains: [name] });
  });
  return found;
}

function limitsOfPhase(page, h, phase) {
  const { floors, caps, groups } = page.limits;
  const weight = (name) => h[page.domains.indexOf(name)];
  const found = [];
  for (const [name, low] of Object.entries(floors)) {
    found.push({ text: `${name} at least ${percent(low)}`, broken: weight(name) < low - SLACK, domains: [name] });
  }
  for (const [name, high] of Object.entries(caps)) {
    found.push({ text: `${name} at most ${percent(high)}`, broken: weight(name) > high + SLACK, domains: [name] });
  }
  for (const [name, members, low, high] of groups) {
    const sum = members.reduce((total, member) => total + weight(member), 0);
    const broken = sum < low - SLACK || sum > high + SLACK;
    const text = `${name} (${members.join(" + ")}) ${percent(low)} to ${percent(high)}: ${percent(sum)}`;
    found.push({ text, broken, domains: members });
  }
  const where = phase === undefined ? "" : `phase ${phase + 1}: `;
  return found.map((limit) => ({ ...limit, text: where + limit.text, phase }));
}

// Return the same for every limit on losses; `shown` has what the law says of the run and of the baseline in use.
function lossLimits(page, shown) {
  return shown.filter(({ target }) => target.name in page.limits.not_worse).map(({ target, chosen, inUse }) => {
    const most = page.limits.not_worse[target.name];
    const above = 100 * (chosen.centre / inUse.centre - 1);
    const text = `loss of ${target.name} at most ${most}\u00a0% above ${page.in_use}: ${signed(above, 2)}\u00a0%`;
    return { text, broken: above > most + LOSS_SLACK, domains: [] };
  });
}

// Return how often a run reads the tokens of domain i; null if their number is not known.
function epochs(page, run, i) {
  const tokens = page.limits.available[i];
  return tokens === null ? null : (exposure(run.phases, run.until)[i] * run.n_tokens) / tokens;
}
