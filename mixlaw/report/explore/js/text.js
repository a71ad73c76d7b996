// Numbers as text, and text as numbers: a mirror of mixlaw/text.py.

const UNITS = [["T", 1e12], ["B", 1e9], ["M", 1e6], ["k", 1e3]];

// Return a count with three digits and a unit: 492k, 1.4B.
function countText(count) {
  const [unit, size] = UNITS.find(([, each]) => count >= 0.9995 * each) ?? ["", 1];
  return `${Number((count / size).toPrecision(3))}${unit}`;
}

// Return a count from 7e9, 7B or 7,000,000; NaN if the text is no count.
function countOf(text) {
  const [, number, unit] = /^\s*([\d.,]+(?:e[+-]?\d+)?)\s*([kMBT]?)\s*$/i.exec(text) ?? [];
  const size = UNITS.find(([name]) => name.toLowerCase() === (unit ?? "").toLowerCase())?.[1] ?? 1;
  return number === undefined ? NaN : Number(number.replace(/,/g, "")) * size;
}

function percent(weight) {
  return `${Number((100 * weight).toFixed(2))}\u00a0%`;
}

function signed(value, digits = 4) {
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;
}
