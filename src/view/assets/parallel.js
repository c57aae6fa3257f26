// Parallel coordinates: an axis per key and one for a metric, a line per run. The matrix has the same numbers for those who do not see them.

import { ticks } from "./chart.js";
import { h, s } from "./dom.js";
import { numeric, order } from "./filter.js";
import { number, tick } from "./format.js";

const MARGIN = { top: 34, bottom: 14, side: 64 };
const HEIGHT = 340;
/** Least distance of two axes: where there is no room for it, the chart scrolls. */
const GAP = 130;
/** Most labels of an axis, and the ratio of greatest and least value from which it is logarithmic. */
const LABELS = 12;
const WIDE = 50;

/** `runs` have `label`, `href`, `values` by key, `metric` (null if there is none yet) and `level`, 0 (worst) to 4; `keys` and `metric` are pairs of name and heading. */
export function parallel(runs, keys, metric) {
  const svg = s("svg", { class: "parallel", height: HEIGHT, "aria-hidden": "true" });
  const said = h("p", { class: "readout faint" }, "\u00a0");
  const box = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Parallel coordinates of ${keys.map(([, name]) => name).join(", ")} and ${metric[1]}; the matrix has the numbers` }, svg);
  const axes = [...keys.map(([key, name]) => axis(name, runs.map((run) => run.values[key] ?? "–"))),
    axis(metric[1], runs.map((run) => run.metric).filter((value) => value !== null))];
  const draw = (width) => {
    const step = Math.max(GAP, (width - 2 * MARGIN.side) / Math.max(1, axes.length - 1));
    const across = axes.map((_, index) => MARGIN.side + index * step);
    svg.setAttribute("width", 2 * MARGIN.side + step * (axes.length - 1));
    // The best are drawn last, over the others.
    const lines = [...runs].sort((a, b) => (a.level ?? -1) - (b.level ?? -1)).map((run) => line(run, keys, axes, across, said));
    svg.replaceChildren(...lines, ...axes.map((axis, index) => drawn(axis, across[index], index === axes.length - 1)));
  };
  new ResizeObserver(([entry]) => draw(Math.round(entry.contentRect.width))).observe(box);
  return h("div", {}, box, said);
}

/** The axis of some values: numbers by size, if need be logarithmic; anything else one below the other. */
function axis(name, values) {
  const distinct = [...new Set(values)].sort((a, b) => order(numeric(a), numeric(b), true));
  const numbers = distinct.map(numeric);
  const [top, bottom] = [MARGIN.top, HEIGHT - MARGIN.bottom];
  if (distinct.length < 2 || numbers.some((value) => typeof value !== "number")) {
    const at = (value) => distinct.length < 2 ? (top + bottom) / 2 : bottom - distinct.indexOf(value) / (distinct.length - 1) * (bottom - top);
    const every = Math.ceil(distinct.length / LABELS);
    return { name, at, labels: distinct.filter((_, index) => index % every === 0).map((value) => [value, String(value)]) };
  }
  const [low, high] = [numbers[0], numbers.at(-1)];
  const log = low > 0 && high / low >= WIDE;
  const f = log ? Math.log10 : (value) => value;
  const at = (value) => bottom - (f(Number(value)) - f(low)) / (f(high) - f(low)) * (bottom - top);
  const shown = numbers.length <= 6 ? numbers : ticks(low, high, 5, log);
  return { name, at, labels: shown.map((value) => [value, tick(value)]) };
}

function drawn({ name, at, labels }, x, isLast) {
  const [side, anchor] = isLast ? [7, "start"] : [-7, "end"];
  return s("g", {}, s("path", { d: `M${x} ${MARGIN.top}V${HEIGHT - MARGIN.bottom}`, class: "axis" }),
    s("text", { x, y: 16, class: "label", "text-anchor": "middle" }, name),
    labels.map(([value, text]) => s("text", { x: x + side, y: at(value).toFixed(1), class: "tick", "text-anchor": anchor, "dominant-baseline": "middle" }, text)));
}

/** The line of a run; without a result it ends before the metric. */
function line(run, keys, axes, across, said) {
  const points = keys.map(([key], index) => [across[index], axes[index].at(run.values[key] ?? "–")]);
  if (run.metric !== null) points.push([across.at(-1), axes.at(-1).at(run.metric)]);
  const d = `M${points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}`;
  const values = [...keys.map(([key, name]) => `${name} ${run.values[key] ?? "–"}`), `${axes.at(-1).name} ${number(run.metric)}`];
  const show = () => { said.textContent = `${run.label}: ${values.join(" · ")}`; };
  const path = s("path", { d, class: `coordinate ${run.level === null ? "open" : `line${run.level}`}` });
  // A wider, invisible line is easier to point at.
  const link = s("a", { href: run.href, tabindex: "-1", onpointerenter: show, onpointerleave: () => { said.textContent = "\u00a0"; } }, s("path", { d, class: "hit" }), path);
  return run.href ? link : path;
}
