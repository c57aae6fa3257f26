// What the address names is shown: `#/`, `#/run/HASH`, `#/compare/HASH,HASH`, `#/sweep/NUMBER`.

import { follow, load, onChange, store } from "./data.js";
import { h } from "./dom.js";
import { runsPage } from "./runs.js";
import { runPage } from "./run.js";
import { comparePage } from "./compare.js";
import { sweepPage } from "./sweep.js";

const content = document.getElementById("content");
const live = document.getElementById("live");
const pages = { "": runsPage, run: runPage, compare: comparePage, sweep: sweepPage };

/** Ends what the page that is shown has begun. */
let leave = () => {};

async function show() {
  leave();
  leave = () => {};
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/").map(decodeURIComponent);
  const page = pages[name];
  for (const link of document.querySelectorAll("nav a:not(.brand)")) {
    const to = link.getAttribute("href").replace("#/", "");
    if (to === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const ended = { is: false };
  const ends = [() => { ended.is = true; }];
  leave = () => ends.forEach((end) => end());
  try {
    if (!page) throw new Error("There is no such page.");
    const context = { query: new URLSearchParams(query), onLeave: (end) => ends.push(end), hasLeft: () => ended.is };
    const shown = await page(context, ...rest);
    if (ended.is) return;
    document.title = `${shown.title} – ccdni`;
    content.replaceChildren(...shown.content);
  } catch (error) {
    if (ended.is) return;
    document.title = "ccdni";
    content.replaceChildren(h("h1", {}, "Nothing to show"), h("p", { class: "notice" }, error.message), h("p", {}, h("a", { href: "#/" }, "All runs")));
  }
}

function status(connected) {
  const running = [...store.runs.values()].filter((run) => run.seeds.some((seed) => seed.state === "running")).length;
  const runs = `${store.runs.size} run${store.runs.size === 1 ? "" : "s"} in ${store.outputs}`;
  live.textContent = connected ? `${runs}${running > 0 ? `, ${running} in training` : ""}` : "not connected: is ccdni view still running?";
  live.classList.toggle("fail", !connected);
}

try {
  await load();
  let connected = true;
  status(connected);
  follow((now) => {
    connected = now;
    status(connected);
  });
  onChange(() => status(connected));
} catch (error) {
  live.textContent = error.message;
}
addEventListener("hashchange", () => show().then(() => content.focus({ preventScroll: false })));
await show();
