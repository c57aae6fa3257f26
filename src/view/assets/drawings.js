// What a trained network draws, beside its targets and inputs; or the captions that it writes.

import { get } from "./data.js";
import { choice, h, s, table } from "./dom.js";

/** Most patterns that are drawn in cells of their own, and most captions that are listed. */
const CELLS = 50;
const CAPTIONS = 200;
const COLORS = 10;

/** The sections for the seeds that have drawings or captions. */
export function drawings(run, units) {
  const sections = [];
  const drawn = units.filter((unit) => unit.showcase).map((unit) => unit.seed);
  if (drawn.length > 0) sections.push(...section("Drawings", drawn, async (seed) => draw(await get(`/api/runs/${run}/showcase/${seed}`))));
  const told = units.filter((unit) => unit.captions).map((unit) => unit.seed);
  if (told.length > 0) sections.push(...section("Captions", told, async (seed) => captions(await get(`/api/runs/${run}/captions/${seed}`))));
  return sections;
}

function section(title, seeds, make) {
  const place = h("div");
  const show = async (seed) => {
    try {
      place.replaceChildren(...await make(seed));
    } catch (error) {
      place.replaceChildren(h("p", { class: "notice" }, error.message));
    }
  };
  show(seeds[0]);
  return [h("h2", {}, title), seeds.length > 1 ? h("div", { class: "controls" }, choice("seed", seeds, seeds[0], show)) : null, place].filter(Boolean);
}

function draw({ shape: [patterns, time, size], predictions, targets, labels, images }) {
  if (size !== 2) return [h("p", { class: "faint" }, `Outputs have ${size} values per step, and are not drawn.`)];
  const points = (values, pattern) => Array.from({ length: time }, (_, step) => [values[2 * (pattern * time + step)], values[2 * (pattern * time + step) + 1]])
    .filter(([x, y]) => x !== null && y !== null);
  const all = Array.from({ length: patterns }, (_, pattern) => ({ label: labels[pattern], drawn: points(predictions, pattern), target: points(targets, pattern) }));
  const box = bounds(all);
  if (images === null) return [plane(all, box, 420, "All patterns"), legend(all)];
  return [h("p", { class: "faint" }, "Solid: drawn. Dashed: target."),
    h("div", { class: "pictures" }, all.slice(0, CELLS).map((pattern, index) => h("figure", {},
      h("figcaption", {}, pattern.label), h("div", {}, picture(images, index), plane([{ ...pattern, index }], box, 150, `Drawing of ${pattern.label}`)))))];
}

/** The square around all points. */
function bounds(patterns) {
  const all = patterns.flatMap((pattern) => [...pattern.drawn, ...pattern.target]);
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

function captions(list) {
  const shown = list.slice(0, CAPTIONS);
  const more = list.length > shown.length ? [h("p", { class: "faint" }, `The first ${shown.length} of ${list.length}; captions.json has all.`)] : [];
  return [table("Captions of the validation images", ["image", "caption"], shown.map(({ image_id, caption }) => [String(image_id), caption])), ...more];
}
