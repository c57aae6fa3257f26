// A chart of curves over seeds: single seeds thin, mean and standard error of the mean thick, as in the plots of `ccdni plot`.

import { h, s } from "./dom.js";
import { number, tick, withError } from "./format.js";

const MARGIN = { top: 10, right: 14, bottom: 40, left: 78 };
const HEIGHT = 270;
/** Dashes of the lines of one colour round after another; neighbours differ. */
const DASHES = [null, "8 3.5", "2.5 2.5", "14 3", "5 5"];
const COLORS = 6;
const GREYS = 3;

/** The style of line `index`: coloured, or grey for networks without a synthesizer beside networks with one. */
export function style(index, grey = false) {
  const count = grey ? GREYS : COLORS;
  const [round, place] = [Math.floor(index / count), index % count];
  return { color: `${grey ? "g" : "c"}${place}`, dash: DASHES[(place + round) % DASHES.length] };
}

/** The sample of a line in a legend. */
export function sample(line) {
  return s("svg", { class: "sample", viewBox: "0 0 34 10", width: 34, height: 10, "aria-hidden": "true" },
    s("path", { d: "M1 5H33", class: `mean ${line.color}`, "stroke-dasharray": line.dash }));
}

/** Mean and standard error of the mean at the epochs that all seeds have: it would jump where one stops. */
export function summarise(seeds) {
  const tables = seeds.map((seed) => new Map(seed.x.map((x, index) => [x, seed.y[index]])));
  const points = [];
  for (const x of seeds[0]?.x ?? []) {
    const values = tables.map((table) => table.get(x));
    if (values.some((value) => value === undefined || value === null)) continue;
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
    const error = values.length > 1 ? Math.sqrt(squares / (values.length - 1) / values.length) : 0;
    points.push({ x, mean, error });
  }
  return points;
}

/** An exponential moving average of this weight, without the bias of its first values. */
export function smooth(values, weight) {
  if (weight === 0) return values;
  let [sum, total] = [0, 0];
  return values.map((value) => {
    if (value === null) return null;
    sum = weight * sum + (1 - weight) * value;
    total = weight * total + (1 - weight);
    return sum / total;
  });
}

/** Round values of a range, about `count` of them; on a logarithmic axis powers of ten, or 1, 2, 5 times them. */
export function ticks(low, high, count, log) {
  if (log) {
    const [from, to] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
    const factors = to - from <= 2 ? [1, 2, 5] : [1];
    const step = Math.max(1, Math.ceil((to - from) / count));
    const all = [];
    for (let power = from; power <= to; power += step) all.push(...factors.map((factor) => factor * 10 ** power));
    const inside = all.filter((value) => value >= low * 0.999 && value <= high * 1.001);
    if (inside.length >= 2) return inside;
  }
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough) ?? rough;
  const all = [];
  for (let value = Math.ceil(low / step); value * step <= high * (1 + 1e-9) + 1e-12 * step; value += 1) all.push(value * step);
  return all;
}

function axis(values, log) {
  const usable = values.filter((value) => Number.isFinite(value) && (!log || value > 0));
  if (usable.length === 0) return null;
  let [low, high] = [Infinity, -Infinity];
  for (const value of usable) [low, high] = [Math.min(low, value), Math.max(high, value)];
  // Rounding is no difference.
  const same = high - low <= 1e-9 * Math.max(Math.abs(low), Math.abs(high));
  if (same) [low, high] = log ? [low / 2, high * 2] : [low - (Math.abs(low) || 1) * 0.1, high + (Math.abs(high) || 1) * 0.1];
  return { low, high, log };
}

function widened({ low, high, log }) {
  if (log) return { low: low / (high / low) ** 0.04, high: high * (high / low) ** 0.04, log };
  return { low: low - 0.04 * (high - low), high: high + 0.04 * (high - low), log };
}

function scale({ low, high, log }, from, to) {
  const f = log ? Math.log10 : (value) => value;
  const [a, b] = [f(low), f(high)];
  return (value) => from + (f(value) - a) / (b - a) * (to - from);
}

/**
 * A chart. `data` has `series` (`label`, `style`, `seeds` with `seed`, `x` and `y`, where null is no value, and `events`, epochs to
 * mark), `x` and `y`, the labels of the axes, and `options` (`log`, `logX`, `smoothing` from 0 to 1, `singles`).
 */
export class Chart {
  constructor(title, data) {
    this.title = title;
    this.zoom = null;
    this.cursor = null;
    this.svg = s("svg", { class: "chart", "aria-hidden": "true", height: HEIGHT });
    this.readout = h("p", { class: "readout faint" });
    this.note = h("p", { class: "faint note" });
    this.reset = h("button", { type: "button", class: "small", hidden: true, onclick: () => this.zoomTo(null) }, "Reset zoom");
    this.plot = h("div", { class: "plot", tabindex: "0", role: "group", onkeydown: (event) => this.key(event) }, this.svg);
    this.values = h("details", { class: "values", ontoggle: () => this.showValues() }, h("summary", {}, "Values"));
    this.element = h("figure", { class: "curve" },
      h("figcaption", {}, h("strong", {}, title), this.reset), this.plot, this.readout, this.note, this.values);
    this.svg.addEventListener("pointerdown", (event) => this.press(event));
    this.svg.addEventListener("pointermove", (event) => this.move(event));
    this.svg.addEventListener("pointerleave", () => { if (!this.pressed) this.point(null); });
    this.svg.addEventListener("dblclick", () => this.zoomTo(null));
    this.width = 0;
    new ResizeObserver(([entry]) => {
      const width = Math.round(entry.contentRect.width);
      if (width > 0 && width !== this.width) {
        this.width = width;
        this.draw();
      }
    }).observe(this.plot);
    this.set(data);
  }

  /** Shows other data with the zoom as it is. */
  set(data) {
    this.data = data;
    const weight = data.options.smoothing;
    this.lines = data.series.map((line) => {
      const seeds = line.seeds.map((seed) => ({ ...seed, y: smooth(seed.y, weight) }));
      return { ...line, seeds, summary: summarise(seeds) };
    });
    this.note.textContent = weight > 0 ? `Smoothed: exponential moving average of weight ${weight}.` : "";
    this.note.hidden = weight === 0;
    this.plot.setAttribute("aria-label", this.description());
    this.draw();
    if (this.values.open) this.showValues();
  }

  description() {
    const last = this.lines.map((line) => {
      const end = line.summary.at(-1);
      return `${line.label}: ${end ? `${withError(end.mean, line.seeds.length > 1 ? end.error : null)} at ${this.data.x} ${end.x}` : "no values"}`;
    });
    return `${this.title}. ${last.join("; ")}. Arrow keys read values, plus and minus zoom, Home shows all.`;
  }

  draw() {
    if (this.width === 0) return;
    const { options } = this.data;
    const singles = options.singles || this.lines.every((line) => line.seeds.length === 1);
    const all = this.lines.flatMap((line) => line.seeds.flatMap((seed) => seed.x));
    let x = axis(all, options.logX);
    if (this.zoom) x = { ...x, low: this.zoom[0], high: this.zoom[1] };
    const inside = (value) => x && value >= x.low && value <= x.high;
    const values = this.lines.flatMap((line) => [
      ...line.summary.filter((point) => inside(point.x)).flatMap((point) => [point.mean, point.mean - point.error, point.mean + point.error]),
      ...(singles ? line.seeds.flatMap((seed) => seed.y.filter((value, index) => value !== null && inside(seed.x[index]))) : []),
    ]);
    const y = axis(values, options.log);
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
    if (!x || !y) {
      this.toX = null;
      this.svg.replaceChildren(s("text", { x: this.width / 2, y: HEIGHT / 2, class: "label", "text-anchor": "middle" },
        options.log ? "no values above 0" : "no values yet"));
      return;
    }
    this.x = x;
    const [left, right, top, bottom] = [MARGIN.left, this.width - MARGIN.right, MARGIN.top, HEIGHT - MARGIN.bottom];
    this.toX = scale(x, left, right);
    this.toY = scale(widened(y), bottom, top);
    this.log = options.log;
    const clip = `clip-${this.title.replace(/\W/g, "-")}-${Chart.count += 1}`;
    const marks = [];
    for (const event of new Set(this.lines.flatMap((line) => line.events ?? []))) {
      if (inside(event)) marks.push(s("path", { d: `M${this.toX(event).toFixed(1)} ${top}V${bottom}`, class: "event" }));
    }
    const lines = this.lines.flatMap((line) => {
      const drawn = [];
      if (line.seeds.length > 1) drawn.push(s("path", { d: this.band(line.summary), class: `band ${line.style.color}` }));
      if (options.singles && line.seeds.length > 1) {
        drawn.push(...line.seeds.map((seed) => s("path", { d: this.path(seed.x, seed.y), class: `single ${line.style.color}` })));
      }
      const { summary } = line;
      drawn.push(s("path", {
        d: this.path(summary.map((point) => point.x), summary.map((point) => point.mean)),
        class: `mean ${line.style.color}`, "stroke-dasharray": line.style.dash,
      }));
      return drawn;
    });
    this.overlay = s("g", {});
    this.svg.replaceChildren(
      s("clipPath", { id: clip }, s("rect", { x: left, y: top, width: right - left, height: bottom - top })),
      ...this.axes(x, widened(y), left, right, top, bottom),
      s("g", { "clip-path": `url(#${clip})` }, marks, lines), this.overlay);
    this.point(this.cursor);
  }

  axes(x, y, left, right, top, bottom) {
    const drawn = [];
    for (const value of ticks(y.low, y.high, 5, y.log)) {
      const at = this.toY(value).toFixed(1);
      drawn.push(s("path", { d: `M${left} ${at}H${right}`, class: "grid" }),
        s("text", { x: left - 7, y: at, class: "tick", "text-anchor": "end", "dominant-baseline": "middle" }, tick(value)));
    }
    // There is no epoch between two epochs.
    const whole = (value) => Number.isInteger(Number(value.toPrecision(9)));
    for (const value of ticks(x.low, x.high, Math.max(3, Math.floor((right - left) / 80)), x.log).filter(whole)) {
      const at = this.toX(value).toFixed(1);
      drawn.push(s("path", { d: `M${at} ${bottom}v5`, class: "axis" }),
        s("text", { x: at, y: bottom + 18, class: "tick", "text-anchor": "middle" }, tick(value)));
    }
    drawn.push(s("path", { d: `M${left} ${top}V${bottom}H${right}`, class: "axis" }),
      s("text", { x: (left + right) / 2, y: HEIGHT - 5, class: "label", "text-anchor": "middle" }, this.data.x),
      s("text", { x: 12, y: (top + bottom) / 2, class: "label", "text-anchor": "middle", transform: `rotate(-90 12 ${(top + bottom) / 2})` }, this.data.y));
    return drawn;
  }

  /** The path of a curve: where many points share a pixel, their extremes. */
  path(xs, ys) {
    let [path, pen, column, low, high] = ["", false, null, 0, 0];
    const flush = () => {
      if (column === null) return;
      path += `${pen ? "L" : "M"}${column} ${low.toFixed(1)}`;
      if (high - low > 0.5) path += `L${column} ${high.toFixed(1)}`;
      [pen, column] = [true, null];
    };
    const dense = xs.length > 2 * this.width;
    for (let index = 0; index < xs.length; index += 1) {
      const value = ys[index];
      if (value === null || this.log && value <= 0) {
        flush();
        pen = false;
        continue;
      }
      const [x, y] = [this.toX(xs[index]), this.toY(value)];
      const at = dense ? Math.round(x) : x.toFixed(1);
      if (column !== null && at === column) [low, high] = [Math.min(low, y), Math.max(high, y)];
      else {
        flush();
        [column, low, high] = [at, y, y];
      }
    }
    flush();
    // A single point is a dot.
    return /^M[^ML]+$/.test(path) ? `${path}h0.1` : path;
  }

  band(summary) {
    const usable = summary.filter((point) => !this.log || point.mean - point.error > 0);
    if (usable.length === 0) return "";
    const every = Math.max(1, Math.floor(usable.length / (2 * this.width)));
    const points = usable.filter((_, index) => index % every === 0 || index === usable.length - 1);
    const at = (point, y) => `${this.toX(point.x).toFixed(1)} ${this.toY(y).toFixed(1)}`;
    return `M${points.map((point) => at(point, point.mean + point.error)).join("L")}L${points.toReversed().map((point) => at(point, point.mean - point.error)).join("L")}Z`;
  }

  /** Marks the values at `x`, and shows them below. */
  point(x) {
    this.cursor = x;
    this.overlay?.replaceChildren();
    if (x === null || !this.toX || x < this.x.low || x > this.x.high) {
      this.readout.replaceChildren("\u00a0");
      return;
    }
    this.overlay.append(s("path", { d: `M${this.toX(x).toFixed(1)} ${MARGIN.top}V${HEIGHT - MARGIN.bottom}`, class: "cursor" }));
    const parts = [];
    for (const line of this.lines) {
      const point = line.summary.find((point) => point.x === x);
      if (!point) continue;
      if (!this.log || point.mean > 0) {
        this.overlay.append(s("circle", { cx: this.toX(x).toFixed(1), cy: this.toY(point.mean).toFixed(1), r: 3.5, class: `dot ${line.style.color}` }));
      }
      const text = withError(point.mean, line.seeds.length > 1 ? point.error : null);
      parts.push(this.lines.length > 1 ? `${line.label}: ${text}` : text);
    }
    this.readout.textContent = `${this.data.x} ${x}: ${parts.join(" · ") || "no values of every seed"}`;
  }

  /** All places on the horizontal axis. */
  places() {
    return [...new Set(this.lines.flatMap((line) => line.seeds.flatMap((seed) => seed.x)))].sort((a, b) => a - b);
  }

  placeOf(event) {
    const box = this.svg.getBoundingClientRect();
    const at = (event.clientX - box.left) / box.width * this.width;
    let [best, distance] = [null, Infinity];
    for (const place of this.places()) {
      const from = Math.abs(this.toX(place) - at);
      if (from < distance) [best, distance] = [place, from];
    }
    return best;
  }

  press(event) {
    if (!this.toX || event.button !== 0) return;
    this.pressed = this.placeOf(event);
    this.svg.setPointerCapture(event.pointerId);
    const release = (end) => {
      this.svg.removeEventListener("pointerup", release);
      this.svg.removeEventListener("pointercancel", release);
      const [from, to] = [this.pressed, this.placeOf(end)].sort((a, b) => a - b);
      this.pressed = undefined;
      if (end.type === "pointerup" && to > from) this.zoomTo([from, to]);
      else this.draw();
    };
    this.svg.addEventListener("pointerup", release);
    this.svg.addEventListener("pointercancel", release);
  }

  move(event) {
    if (!this.toX) return;
    const place = this.placeOf(event);
    this.point(place);
    if (this.pressed !== undefined) {
      const [from, to] = [this.pressed, place].sort((a, b) => a - b).map(this.toX);
      this.overlay.append(s("rect", { x: from, y: MARGIN.top, width: to - from, height: HEIGHT - MARGIN.top - MARGIN.bottom, class: "selection" }));
    }
  }

  zoomTo(range) {
    this.zoom = range;
    this.reset.hidden = range === null;
    this.draw();
  }

  key(event) {
    const places = this.places().filter((place) => !this.zoom || place >= this.zoom[0] && place <= this.zoom[1]);
    if (places.length === 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const at = places.indexOf(this.cursor);
    const near = (step) => places[Math.max(0, Math.min(places.length - 1, at < 0 ? places.length - 1 : at + step))];
    switch (event.key) {
      case "ArrowLeft": this.point(near(-1)); break;
      case "ArrowRight": this.point(near(1)); break;
      case "+": case "=": this.zoomBy(0.5); break;
      case "-": this.zoomBy(2); break;
      case "Home": this.zoomTo(null); break;
      default: return;
    }
    this.readout.setAttribute("role", "status");
    event.preventDefault();
  }

  zoomBy(factor) {
    const places = this.places();
    const [first, last] = [places[0], places.at(-1)];
    const [low, high] = this.zoom ?? [first, last];
    const middle = this.cursor ?? (low + high) / 2;
    const half = (high - low) * factor / 2;
    const range = [Math.max(first, middle - half), Math.min(last, middle + half)];
    if (half >= last - first) this.zoomTo(null);
    else if (range[1] - range[0] >= 1) this.zoomTo(range);
  }

  /** The numbers as a table, at most fifty epochs. */
  showValues() {
    const [summary, ...old] = this.values.children;
    old.forEach((element) => element.remove());
    if (!this.values.open) return;
    const places = this.places();
    const every = Math.max(1, Math.ceil(places.length / 50));
    const shown = places.filter((_, index) => index % every === 0 || index === places.length - 1);
    const tables = this.lines.map((line) => new Map(line.summary.map((point) => [point.x, point])));
    const cell = (line, point) => point ? withError(point.mean, line.seeds.length > 1 ? point.error : null) : number(null);
    summary.after(h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Values of ${this.title}` }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, this.data.x), this.lines.map((line) => h("th", { scope: "col" }, line.label)))),
      h("tbody", {}, shown.map((place) => h("tr", {}, h("th", { scope: "row" }, String(place)),
        this.lines.map((line, index) => h("td", {}, cell(line, tables[index].get(place))))))))));
  }
}

/** Numbers the charts, whose clip paths need distinct names. */
Chart.count = 0;
