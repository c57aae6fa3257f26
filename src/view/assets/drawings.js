// What a network draws, beside its targets and inputs, or the captions that it generates, beside their pictures: after every epoch that
// was recorded, and with the weights that are kept.

import { get } from "./data.js";
import { choice, h, replace, s, table } from "./dom.js";

/** Most patterns that are drawn in cells of their own, and most captions that are listed. */
const CELLS = 50;
const CAPTIONS = 200;
const COLORS = 10;

/** The drawings and captions of a run. */
export class Drawings {
  constructor(run) {
    this.sections = [new Outputs(run, "showcase", "Drawings", draw), new Outputs(run, "captions", "Captions", captions)];
    this.element = h("div", {}, this.sections.map((section) => section.element));
  }

  /** Shows what there is now. */
  set(units) {
    this.sections.forEach((section) => section.set(units));
  }
}

/** The outputs of one kind, of a seed after an epoch. */
class Outputs {
  constructor(run, kind, title, make) {
    Object.assign(this, { run, kind, title, make, seed: null, asked: 0 });
    this.element = h("section", { hidden: true });
    this.place = h("div");
  }

  set(units) {
    const drawn = units.filter((unit) => unit[this.kind].kept || unit[this.kind].epochs.length > 0);
    const key = JSON.stringify(drawn.map((unit) => [unit.seed, unit[this.kind], unit.record?.ended]));
    if (key === this.key) return;
    this.key = key;
    this.element.hidden = drawn.length === 0;
    if (drawn.length === 0) return;
    this.units = new Map(drawn.map((unit) => [String(unit.seed), unit]));
    const seeds = [...this.units.keys()];
    const same = this.units.has(this.seed);
    this.controls = h("div", { class: "controls" });
    replace(this.element, h("h2", {}, this.title), this.controls, this.place);
    this.select(same ? this.seed : seeds[0], same && !this.atEnd() ? this.stop : null);
  }

  /** The weights that can be chosen: epochs, and null for those that are kept. */
  stops() {
    const { epochs, kept } = this.units.get(this.seed)[this.kind];
    return kept ? [...epochs, null] : epochs;
  }

  atEnd() {
    return this.last === undefined || this.stop === this.last;
  }

  /** Shows a seed at one of its stops, or at its last. */
  select(seed, stop) {
    this.seed = seed;
    const stops = this.stops();
    this.last = stops.at(-1);
    this.stop = stop !== null && stops.includes(stop) ? stop : this.last;
    const seeds = [...this.units.keys()];
    const said = h("output", {});
    const tell = () => { said.textContent = this.words(); };
    const slide = (event) => {
      this.stop = stops[Number(event.target.value)];
      event.target.setAttribute("aria-valuetext", this.words());
      tell();
      this.show();
    };
    const slider = h("input", { type: "range", min: "0", max: String(stops.length - 1), value: String(stops.indexOf(this.stop)), "aria-valuetext": this.words(), oninput: slide });
    replace(this.controls, seeds.length > 1 ? choice("seed", seeds, seed, (other) => {
      this.box = null;
      this.select(other, this.atEnd() ? null : this.stop);
    }) : null, stops.length > 1 ? h("label", { class: "choice wide" }, h("span", {}, "weights"), slider, said) : null);
    tell();
    this.show();
  }

  words() {
    const kept = this.units.get(this.seed).record?.kept_epoch;
    return this.stop === null ? `kept${kept ? `, of epoch ${kept}` : ""}` : `after epoch ${this.stop}`;
  }

  async show() {
    const asked = this.asked += 1;
    const epoch = this.stop === null ? "" : `?epoch=${this.stop}`;
    let shown;
    try {
      shown = this.make(await get(`/api/runs/${this.run}/${this.kind}/${this.seed}${epoch}`), this);
    } catch (error) {
      shown = [h("p", { class: "notice" }, error.message)];
    }
    // The slider may have moved on.
    if (asked === this.asked) this.place.replaceChildren(...shown);
  }
}

function draw({ shape: [patterns, time, size], predictions, targets, labels, images }, outputs) {
  if (size !== 2) return [h("p", { class: "faint" }, `Outputs have ${size} values per step, and are not drawn.`)];
  const points = (values, pattern) => Array.from({ length: time }, (_, step) => [values[2 * (pattern * time + step)], values[2 * (pattern * time + step) + 1]])
    .filter(([x, y]) => x !== null && y !== null);
  const all = Array.from({ length: patterns }, (_, pattern) => ({ label: labels[pattern], drawn: points(predictions, pattern), target: points(targets, pattern) }));
  // The same square for all epochs that were looked at, so that drawings can be compared.
  const box = outputs.box = bounds(all, outputs.box);
  if (images === null) return [plane(all, box, 420, "All patterns"), legend(all)];
  return [h("p", { class: "faint" }, "Solid: drawn. Dashed: target."),
    h("div", { class: "pictures" }, all.slice(0, CELLS).map((pattern, index) => h("figure", {},
      h("figcaption", {}, pattern.label), h("div", {}, picture(images, index), plane([{ ...pattern, index }], box, 150, `Drawing of ${pattern.label}`)))))];
}

/** The square around all points, and around another one. */
function bounds(patterns, other) {
  const all = patterns.flatMap((pattern) => [...pattern.drawn, ...pattern.target]);
  if (other) all.push([other.x - other.half / 1.12, other.y - other.half / 1.12], [other.x + other.half / 1.12, other.y + other.half / 1.12]);
  const range = (axis) => all.reduce(([low, high], point) => [Math.min(low, point[axis]), Math.max(high, point[axis])], [Infinity, -Infinity]);
  const [[x0, x1], [y0, y1]] = [range(0), range(1)];
  const half = Math.max(x1 - x0, y1 - y0, 1e-9) * 0.56;
  return { x: (x0 + x1) / 2, y: (y0 + y1) / 2, half };
}

function plane(patterns, { x, y, half }, side, name) {
  const at = ([a, b]) => `${((a - x + half) / (2 * half) * side).toFixed(1)} ${((y + half - b) / (2 * half) * side).toFixed(1)}`;
  const path = (points) => points.length > 0 ? `M${points.map(at).join("L")}` : "";
  const color = (pattern, index) => `p${(pattern.index ?? index) % COLORS}`;
  return s("svg", { class: "plane", viewBox: `0 0 ${side} ${side}`, width: side, height: side, role: "img", "aria-label": `${name}: drawn lines over dashed targets` },
    patterns.map((pattern) => s("path", { d: path(pattern.target), class: "target" })),
    patterns.map((pattern, index) => s("path", { d: path(pattern.drawn), class: `drawn ${color(pattern, index)}` })),
    patterns.filter((pattern) => pattern.drawn.length > 0).map((pattern, index) => {
      const [cx, cy] = at(pattern.drawn.at(-1)).split(" ");
      return s("circle", { cx, cy, r: 3, class: `end ${color(pattern, index)}` });
    }));
}

function legend(patterns) {
  return h("ul", { class: "legend" }, patterns.map((pattern, index) => h("li", {},
    s("svg", { class: "sample", viewBox: "0 0 34 10", width: 34, height: 10, "aria-hidden": "true" }, s("path", { d: "M1 5H33", class: `drawn p${index % COLORS}` })), h("span", {}, pattern.label))));
}

/** An input image, dark on light. */
function picture({ height, width, pixels }, index) {
  const canvas = h("canvas", { width, height, class: "picture", role: "img", "aria-label": "input image" });
  const context = canvas.getContext("2d");
  const data = context.createImageData(width, height);
  pixels.slice(index * height * width, (index + 1) * height * width).forEach((ink, place) => data.data.set([255 - ink, 255 - ink, 255 - ink, 255], 4 * place));
  context.putImageData(data, 0, 0);
  return canvas;
}

function captions({ captions, pictures }, { run, seed }) {
  const count = pictures ? Math.min(pictures.shown, captions.length) : 0;
  const beside = captions.slice(0, count).map(({ image_id, caption }, index) => h("li", {}, tile(pictures, `/files/${run}/seeds/${seed}/${pictures.file}`, index, image_id),
    h("span", {}, caption, h("span", { class: "faint" }, ` image ${image_id}`))));
  const rest = captions.slice(count, Math.max(count, CAPTIONS));
  const shown = [count > 0 ? h("ul", { class: "captioned" }, beside) : null,
    rest.length > 0 ? table("Captions of the validation images", ["image", "caption"], rest.map(({ image_id, caption }) => [String(image_id), caption])) : null,
    captions.length > count + rest.length ? h("p", { class: "faint" }, `The first ${count + rest.length} of ${captions.length}; captions.json has all.`) : null];
  return shown.filter(Boolean);
}

/** One of the pictures that lie in the rows of a file. */
function tile({ row, side }, file, index, id) {
  const element = h("span", { class: "tile", role: "img", "aria-label": `image ${id}` });
  Object.assign(element.style, {
    width: `${side}px`, height: `${side}px`, backgroundImage: `url("${file}")`, backgroundPosition: `-${index % row * side}px -${Math.floor(index / row) * side}px`,
  });
  return element;
}
