// The explorer: sliders, losses, gains, limits and links. The page's HTML is templates/explore.html.j2.

const SLIDER_STEPS = 200;
const QUIET_MS = 600; // without a change before a screen reader says the result

// Start the explorer of a page; `drawGains` gets {target, gain, low, high} after every change.
function explore(page, drawGains) {
  const root = document.getElementById("explore");
  const find = (selector) => root.querySelector(selector);
  const all = (selector) => [...root.querySelectorAll(selector)];
  const targets = page.targets.map((target) => unpacked(target, page.draws));
  const mixed = all(".domain").length > 0;
  const { asked } = page;
  let run = asked;
  let anchor = asked; // the run when the present movement of a slider began
  let timer = 0;

  const phases = all(".phase").map((part) => ({
    title: part.querySelector("legend span"),
    rows: [...part.querySelectorAll(".domain")].map((row, i) => ({
      ...inputsOf(row),
      row,
      lock: row.querySelector("[type=checkbox]"),
      mark: row.querySelector(".mark"),
      name: page.domains[i],
    })),
  }));
  const ends = all(".end").map(inputsOf);

  // Show a run when a movement has ended; the link of the page is then that of the run.
  function go(next, note = "") {
    run = next;
    anchor = next;
    show(note);
    remember();
  }

  function scale(name, count) {
    run = { ...run, [name]: count };
    show();
  }

  function move(phase, i, weight) {
    const locked = phases[phase].rows.map(({ lock }) => lock.checked);
    const h = moved(anchor.phases[phase], i, weight, locked);
    run = { ...run, phases: run.phases.map((old, p) => (p === phase ? h : old)) };
    show();
  }

  function turn(phase, end) {
    run = { ...run, until: switched(run.until, phase, end) };
    show();
  }

  function show(note = "") {
    const baseline = mixed ? page.mixtures[find("#baseline").value] : null;
    const shown = targets.map((target) => outcome(page, target, run, baseline));
    const sum = weightedOutcome(page, shown);
    const limits = mixed ? [...limitsOf(page, run), ...lossLimits(page, shown)] : [];
    ["n_params", "n_tokens"].forEach(showScale);
    phases.forEach((phase, p) => showPhase(phase, p, limits));
    ends.forEach(showEnd);
    showLimits(limits);
    showLosses(shown, sum);
    showScores(shown);
    if (mixed) find("#override").textContent = hydraOverride(page.domains, run) || "Hydra cannot express these names";
    clearTimeout(timer);
    const said = () => (find("#explore-said").textContent = note + sentence(sum, limits));
    timer = setTimeout(said, note ? 0 : QUIET_MS);
  }

  function showScale(name) {
    const slider = find(`#${name}`);
    if (!slider) return;
    const [low, high] = page.scales[name];
    slider.value = (SLIDER_STEPS * Math.log(run[name] / low)) / Math.log(high / low);
    slider.setAttribute("aria-valuetext", countText(run[name]));
    const text = find(`#${name}-text`);
    if (document.activeElement !== text) {
      text.value = countText(run[name]);
      text.setAttribute("aria-invalid", "false");
    }
    find(`#${name}-mark`).textContent = beyondText(page.seen[name], run[name]);
  }

  function showPhase({ title, rows }, p, limits) {
    if (title) title.textContent = `${Number((100 * (run.until[p - 1] ?? 0)).toFixed(2))} to ${percent(run.until[p])} of D`;
    rows.forEach((row, i) => showDomain(row, p, i, limits.filter(({ phase }) => phase === undefined || phase === p)));
  }

  function showEnd({ slider, number }, p) {
    slider.value = 100 * run.until[p];
    slider.setAttribute("aria-valuetext", percent(run.until[p]));
    if (document.activeElement !== number) number.value = Number((100 * run.until[p]).toFixed(2));
  }

  function showDomain({ row, slider, number, mark, name }, p, i, limits) {
    const weight = run.phases[p][i];
    if (100 * weight > slider.max) slider.max = 100;
    slider.value = 100 * weight;
    slider.setAttribute("aria-valuetext", percent(weight));
    if (document.activeElement !== number) number.value = Number((100 * weight).toFixed(2));
    const broken = limits.filter((limit) => limit.broken && limit.domains.includes(name));
    row.classList.toggle("broken", broken.length > 0);
    const passes = epochs(page, run, i);
    const { low, high, far } = page.trained[p];
    const outside = weight < low[i] - far || weight > high[i] + far;
    mark.textContent = [
      ...broken.map(() => "limit broken"),
      ...(passes === null ? [] : [`${Number(passes.toPrecision(2))} epochs${phases.length > 1 ? " in all" : ""}`]),
      ...(outside ? [`runs had ${percent(low[i])} to ${percent(high[i])}`] : []),
    ].join(", ");
  }

  function showLimits(limits) {
    const list = find("#limits");
    if (!list) return;
    list.replaceChildren(...limits.map(({ text, broken }) => {
      const item = document.createElement("li");
      item.textContent = `${broken ? "broken: " : "kept: "}${text}`;
      item.classList.toggle("broken", broken);
      return item;
    }));
  }

  function showLosses(shown, sum) {
    all("#losses tbody tr").forEach((row, t) => {
      const { target, loss, gain } = shown[t] ?? sum;
      const cells = [...row.querySelectorAll("td")];
      fill(cells[0], loss, (value) => value.toFixed(4));
      if (gain) fill(cells[1], gain, signed);
      row.classList.toggle("worse", Boolean(gain) && gain[0] < 0);
      row.querySelector(".mark").textContent = target ? beyondOf(target) : "";
    });
    const gains = shown.map(({ gain }) => gain ?? [0, 0, 0]);
    drawGains({
      target: targets.map(({ name }) => name),
      gain: gains.map(([gain]) => gain),
      low: gains.map(([, low]) => low),
      high: gains.map(([, , high]) => high),
    });
  }

  function showScores(shown) {
    all("#scores tbody tr").forEach((row, i) => {
      const curve = page.benchmarks[i];
      const { chosen, other } = shown[curve.target];
      const reasons = [chosen, ...(other ? [other] : [])].map((losses, c) => {
        const score = scoreOf(page, curve, losses);
        const reason = unpredictable(curve, losses, score);
        const cell = row.querySelectorAll("td")[c];
        fill(cell, score, scoreText);
        if (reason) [cell.firstChild.textContent, cell.lastChild.textContent] = ["–", ""];
        return reason;
      });
      const reason = reasons.find(Boolean);
      row.querySelector(".mark").textContent = reason ? `not predictable: ${reason}` : "";
    });
  }

  function fill(cell, [centre, low, high], text) {
    cell.querySelector("span").textContent = text(centre);
    cell.querySelector("small").textContent = `${text(low)} to ${text(high)}`;
  }

  function beyondOf(target) {
    const parts = Object.entries({ N: "n_params", D: "n_tokens" }).map(([symbol, name]) => {
      const ratio = ratioBeyond(target.ranges[name], run[name]);
      return ratio && `${symbol} ${ratio}×`;
    });
    return parts.some(Boolean) ? `beyond runs: ${parts.filter(Boolean).join(", ")}` : "";
  }

  function sentence({ loss, gain }, limits) {
    const broken = limits.filter((limit) => limit.broken).map(({ text }) => text);
    const name = gain && find("#baseline").selectedOptions[0].textContent;
    const over = gain ? `, gain over ${name} ${signed(gain[0])} (${signed(gain[1])} to ${signed(gain[2])})` : "";
    const range = `${loss[1].toFixed(4)} to ${loss[2].toFixed(4)}`;
    const said = `Predicted loss ${loss[0].toFixed(4)} (${range})${over}.`;
    return broken.length ? `${said} Limits broken: ${broken.join("; ")}.` : said;
  }

  function remember() {
    try {
      history.replaceState(null, "", `#${fragmentOf(page.domains, run)}`);
    } catch {
      // pages inside of other pages, as in W&B, have no address of their own
    }
  }

  function follow() {
    const linked = runOf(location.hash.slice(1), page.domains, run);
    if (linked?.error) go(run, `This link cannot be shown: ${linked.error}. `);
    else if (linked) go(linked);
  }

  function listen() {
    for (const name of ["n_params", "n_tokens"].filter((each) => find(`#${each}`))) {
      const [low, high] = page.scales[name];
      const [slider, text] = [find(`#${name}`), find(`#${name}-text`)];
      slider.addEventListener("input", () => scale(name, low * (high / low) ** (slider.value / SLIDER_STEPS)));
      text.addEventListener("input", () => {
        const count = countOf(text.value);
        const valid = count > 0 && count < Infinity;
        text.setAttribute("aria-invalid", String(!valid));
        if (valid) scale(name, count);
      });
      [slider, text].forEach((input) => input.addEventListener("change", () => go(run)));
      text.addEventListener("blur", () => show());
    }
    phases.forEach(({ rows }, p) => rows.forEach((row, i) => onShare(row, (share) => move(p, i, share))));
    ends.forEach((end, p) => onShare(end, (share) => turn(p, share)));
    root.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
    find("#baseline")?.addEventListener("change", () => show());
    all("[data-mixture]").forEach((button) => button.addEventListener("click", () => goTo(button.dataset.mixture)));
    all("[data-copy]").forEach((button) => button.addEventListener("click", () => copy(button)));
    addEventListener("hashchange", follow);
  }

  // Call an action with the share that a slider or the number beside it shows.
  function onShare({ slider, number }, act) {
    for (const input of [slider, number]) {
      input.addEventListener("input", () => act(input.value / 100));
      input.addEventListener("change", () => go(run));
    }
    number.addEventListener("blur", () => show());
  }

  function goTo(i) {
    const mixture = page.mixtures[i];
    go(mixture.name === page.recommended ? asked : withPhases(run, mixture));
  }

  function copy(button) {
    const link = `${location.href.split("#")[0]}#${fragmentOf(page.domains, run)}`;
    const text = button.dataset.copy === "link" ? link : find("#override").textContent;
    const said = (words) => (find("#explore-said").textContent = words);
    const copied = navigator.clipboard?.writeText(text) ?? Promise.reject();
    copied.then(() => said("Copied."), () => said(`Copy this: ${text}`));
  }

  root.hidden = false;
  listen();
  const linked = runOf(location.hash.slice(1), page.domains, run);
  go(linked && !linked.error ? linked : run, linked?.error ? `This link cannot be shown: ${linked.error}. ` : "");
}

function inputsOf(row) {
  return { slider: row.querySelector("[type=range]"), number: row.querySelector("[type=number]") };
}

// Return the factor by which a count lies outside of the runs, with two digits; null inside.
function ratioBeyond([low, high], count) {
  const ratio = Math.max(count / high, low / count);
  return ratio > 1.05 ? Number(ratio.toPrecision(2)) : null;
}

function beyondText([low, high], count) {
  const ratio = ratioBeyond([low, high], count);
  return ratio === null ? "" : `${ratio} times ${count > high ? "beyond" : "below"} the runs`;
}
