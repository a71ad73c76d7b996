// Evaluates fitted laws: a mirror of mixlaw/laws (terms.py, tree.py, multiplicative.py, exposure.py,
// published.py).
//
// A term is {kind, size, children, of}: `size` of the parameters are its own, those of its children in their order.
// theta holds the parameters of the whole law, `at` is where those of the term begin.

const FLOOR = 1e-4;
const TINY = 1e-300;
const MOST_POWER = 100;
const LOG_MOST_EPOCHS = 600;

// Return what a law sees of a run {n_params, n_tokens, phases, until}: phases are mixtures of k weights, and each ends
// at a share of the run's tokens. A run with one mixture has one phase.
function inputs(law, run, available) {
  return {
    logN: Math.log(run.n_params / law.units.n_params),
    logD: Math.log(run.n_tokens / law.units.n_tokens),
    ...seen(lifted(exposure(run.phases, run.until))),
    phases: run.phases.map(lifted),
    until: run.until,
    available: available && available.map((tokens) => tokens / law.units.n_tokens),
  };
}

function lifted(h) {
  return h.map((w) => Math.sqrt(Math.sqrt(w * w * (w * w) + FLOOR ** 4)));
}

function seen(h) {
  return { h, logH: h.map((w) => Math.log(w)) };
}

// Return the power mean, with power s, of phases' mixtures if the tokens up to the share t of a run count t^r; with both
// 1 it is the mixture of the whole run.
function exposure(phases, until, r = 1, s = 1) {
  const reached = until.map((end) => end ** r);
  const share = (p) => reached[p] - (p > 0 ? reached[p - 1] : 0);
  return phases[0].map((_, i) => phases.reduce((sum, phase, p) => sum + share(p) * phase[i] ** s, 0) ** (1 / s));
}

function valueOf(term, theta, at, x) {
  return TERMS[term.kind](term, theta, at, x);
}

function childValues(term, theta, at, x) {
  const values = [];
  for (const child of term.children) {
    values.push(valueOf(child, theta, at, x));
    at += child.size;
  }
  return values;
}

function logAddExp(a, b) {
  return Math.max(a, b) + Math.log1p(Math.exp(-Math.abs(a - b)));
}

const TERMS = {
  constant: (term, theta, at) => Math.exp(theta[at]),
  number: (term, theta, at) => theta[at],

  // 1 / sum_i C_i h_i^gamma_i, with one gamma per domain or one for all
  inverse_sum(term, theta, at, x) {
    const k = x.h.length;
    let sum = 0;
    for (let i = 0; i < k; i++) {
      const gamma = Math.exp(theta[at + k + (term.size === 2 * k ? i : 0)]);
      sum += Math.exp(gamma * x.logH[i] + theta[at + i]);
    }
    return 1 / Math.max(sum, TINY);
  },

  // (sum_i C_i h_i)^gamma as log value, gamma, log C_i / C_k
  power_of_sum(term, theta, at, x) {
    const last = x.h.length - 1;
    let total = x.h[last];
    for (let i = 0; i < last; i++) total += Math.exp(theta[at + 2 + i]) * x.h[i];
    return Math.exp(theta[at] + theta[at + 1] * Math.log(Math.max(total, TINY)));
  },

  // sum_i b_i h_i
  shares: (term, theta, at, x) => x.h.reduce((sum, w, i) => sum + Math.exp(theta[at + i]) * w, 0),

  sum: (term, theta, at, x) => childValues(term, theta, at, x).reduce((a, b) => a + b),
  product: (term, theta, at, x) => childValues(term, theta, at, x).reduce((a, b) => a * b),

  // N^-rate or D^-rate
  decay(term, theta, at, x) {
    const [rate] = childValues(term, theta, at, x);
    return Math.exp(Math.min(-rate * (term.of === "N" ? x.logN : x.logD), MOST_POWER));
  },

  // (x^q + y^q)^(1/q)
  coupled(term, theta, at, x) {
    const [q, ...parts] = childValues(term, theta, at, x);
    const logs = parts.map((part) => q * Math.log(Math.max(part, TINY)));
    return Math.exp(logs.reduce(logAddExp) / q);
  },

  // D~^-rate: D~ = D - D0, and D^2 / (4 D0) below D = 2 D0
  warm_decay(term, theta, at, x) {
    const [rate, lost] = childValues(term, theta, at, x);
    const share = lost * Math.exp(-x.logD);
    return Math.exp(-rate * (x.logD + (share < 0.5 ? Math.log(1 - share) : -Math.log(4 * share))));
  },

  // a term of the mixture that a run was exposed to, with or without powers r and s of its own
  exposed(term, theta, at, x) {
    const own = term.children.length - 1;
    const [r, s] = own ? [Math.exp(theta[at]), Math.exp(theta[at + 1])] : [1, 1];
    return valueOf(term.children[own], theta, at + own, { ...x, ...seen(exposure(x.phases, x.until, r, s)) });
  },

  // D / (D + D1)
  emergence(term, theta, at, x) {
    const [half] = childValues(term, theta, at, x);
    return 1 / (1 + half * Math.exp(-x.logD));
  },

  // exp(sum_i t_i h_i)
  exponential: (term, theta, at, x) => Math.exp(x.h.reduce((sum, w, i) => sum + theta[at + i] * w, 0)),

  // sum_i C_i exp(t_i h_i); without C_i there are k parameters
  sum_of_exponentials(term, theta, at, x) {
    const k = x.h.length;
    const free = term.size === 2 * k;
    const value = (w, i) => Math.exp(theta[at + (free ? k : 0) + i] * w + (free ? theta[at + i] : 0));
    return x.h.reduce((sum, w, i) => sum + value(w, i), 0);
  },

  // sum_i b_i h_i + sum_{i<j} b_ij h_i h_j; of degree 1 there are k parameters
  scheffe(term, theta, at, x) {
    const k = x.h.length;
    let sum = x.h.reduce((total, w, i) => total + theta[at + i] * w, 0);
    let next = at + k;
    for (let i = 0; i < k && term.size > k; i++) {
      for (let j = i + 1; j < k; j++) sum += theta[next++] * x.h[i] * x.h[j];
    }
    return sum;
  },

  // A / N'^alpha + B / D'^beta of Muennighoff et al.; parameters are logarithms
  data_constrained(term, theta, at, x) {
    const [A, alpha, B, beta, halfLifeD, halfLifeN] = theta.slice(at, at + 6).map(Math.exp);
    const d = Math.exp(x.logD);
    const unique = x.h.reduce((sum, w, i) => sum + Math.min(w * d, x.available[i]), 0);
    const logTotal = x.logD + Math.log(x.h.reduce((a, b) => a + b));
    const logUnique = Math.log(Math.max(unique, TINY));
    const logBest = (Math.log(alpha * A) - Math.log(beta * B) + beta * logUnique) / alpha;
    const byN = repeatedDecay(Math.min(logBest, x.logN), x.logN, halfLifeN, alpha);
    return A * byN + B * repeatedDecay(logUnique, logTotal, halfLifeD, beta);
  },
};

// The worth of `epochs` passes, as a multiple of what is unique, to the power of -rate.
function repeatedDecay(logUnique, logSeen, halfLife, rate) {
  const epochs = Math.exp(Math.min(logSeen - logUnique, LOG_MOST_EPOCHS));
  const worth = epochs > 1 ? 1 - halfLife * Math.expm1((1 - epochs) / halfLife) : epochs;
  return Math.exp(-rate * (logUnique + Math.log(worth)));
}
