// Elements from their parts. Text is always a text node: names of runs never become markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

/** An HTML element with attributes, listeners (`onclick`) and children. */
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function s(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

/** Replaces what is in an element. */
export function replace(element, ...children) {
  element.replaceChildren();
  return fill(element, {}, children);
}

/** A table in a box that scrolls: header and rows are texts or elements; the first cell of a row is its heading. */
export function table(about, header, rows) {
  const cell = (content, index) => index === 0 ? h("th", { scope: "row" }, content) : h("td", {}, content);
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": about },
    h("table", {},
      h("thead", {}, h("tr", {}, header.map((name) => h("th", { scope: "col" }, broken(name))))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map(cell))))));
}

/** A name that may be broken after dots and underscores. */
export function broken(name) {
  if (typeof name !== "string") return name;
  return name.split(/(?<=[._])/).flatMap((part, index) => index === 0 ? [part] : [h("wbr"), part]);
}

/** A command with a button that copies it. */
export function command(what, text) {
  const code = h("code", {}, text);
  return h("div", { class: "command" }, h("span", {}, what),
    h("div", {}, h("pre", { tabindex: "0", role: "region", "aria-label": what }, code),
      copyButton("Copy", `Copy the command: ${what}`, () => text, () => getSelection().selectAllChildren(code))));
}

/** A button that copies a text; `otherwise` is done where the clipboard cannot be used, as not every address may. */
export function copyButton(name, about, text, otherwise) {
  const said = h("span", { role: "status", class: "faint" });
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text());
      said.textContent = " copied";
    } catch {
      otherwise(said);
    }
    setTimeout(() => { said.textContent = ""; }, 4000);
  };
  return [h("button", { type: "button", class: "small", onclick: copy, "aria-label": about }, name), said];
}

/** Commands that make what is shown again. */
export function commands(list) {
  return h("section", { class: "commands" }, h("h2", {}, "Commands"), list.map(([what, text]) => command(what, text)));
}

/** A labelled choice. `options` are values, or pairs of value and text. */
export function choice(label, options, value, change) {
  const all = options.map((option) => Array.isArray(option) ? option : [option, option]);
  return h("label", { class: "choice" }, h("span", {}, label),
    h("select", { onchange: (event) => change(event.target.value) },
      all.map(([key, text]) => h("option", { value: String(key), selected: String(key) === String(value) }, text))));
}

/** A labelled check box. */
export function check(label, value, change) {
  return h("label", { class: "check" },
    h("input", { type: "checkbox", checked: value, onchange: (event) => change(event.target.checked) }), h("span", {}, label));
}
