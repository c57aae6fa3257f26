// What `ccdni view` costs, measured: node costs.js PROGRAM [--training]
//
// Without the flag: start, memory and processor time with a thousand runs, and size of the pages. With it: what a run that trains
// pays for being looked at, in pairs with and without an open page.

import { readFileSync, readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { gzipSync } from "node:zlib";

process.env.CCDNI = resolve(process.argv[2]);
const { Lab, SPEC, launch, open } = await import("./lab.js");

const RUNS = 1000;
const PAIRS = 20;
const wait = (seconds) => new Promise((done) => setTimeout(done, seconds * 1e3));
const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

/** Processor time of a process so far, in seconds. */
function processor(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** The share of a core that it takes over a minute. */
async function share(pid) {
  const before = processor(pid);
  await wait(60);
  return `${((processor(pid) - before) / 60 * 100).toFixed(2)} % of a core`;
}

function resident(pid) {
  return `${(Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]) / 1024).toFixed(1)} MiB`;
}

async function costs(lab, browser) {
  lab.write("spec.yaml", SPEC);
  lab.run("run", "spec.yaml", "--set", "train.epochs=3", "--seeds", "1..3");
  const [run] = readdirSync(join(lab.dir, "outputs"));
  lab.multiply(run, RUNS - 1);
  const starts = [];
  let address;
  for (let round = 0; round < 7; round += 1) {
    lab.children.pop()?.kill();
    const begun = performance.now();
    address = await lab.view();
    starts.push(performance.now() - begun);
  }
  const { pid } = lab.children.at(-1);
  console.log(`address printed after ${median(starts).toFixed(0)} ms (median of ${starts.length})`);
  await (await fetch(`${address}api/runs`)).text();
  console.log(`${RUNS} runs read with ${processor(pid).toFixed(2)} s of processor time; ${resident(pid)} of memory`);
  console.log(`without a page: ${await share(pid)}`);
  const page = await open(browser);
  await page.goto(address);
  await page.locator(`table.runs[data-complete='${RUNS}']`).waitFor();
  await wait(3);
  console.log(`with an open page: ${await share(pid)}; ${resident(pid)} of memory`);

  const names = readFileSync(new URL("../../src/view/assets.rs", import.meta.url), "utf8").matchAll(/include_str!\("([^"]+)"\)/g);
  const files = [...names].map(([, name]) => readFileSync(new URL(`../../src/view/${name}`, import.meta.url)));
  const sum = (sizes) => (sizes.reduce((all, size) => all + size, 0) / 1e3).toFixed(1);
  console.log(`pages: ${files.length} files, ${sum(files.map((file) => file.length))} kB, ${sum(files.map((file) => gzipSync(file, { level: 9 }).length))} kB with gzip -9`);
}

/** Seconds that a run trains, with its page open or not. */
async function trained(lab, browser, round, looked) {
  const name = `${round}${looked ? "a" : "b"}`;
  const viewer = looked ? lab.children.length : null;
  const page = looked ? await open(browser) : null;
  if (looked) await page.goto(await lab.view("--outputs", name));
  const opened = page?.getByRole("link", { name: "paid" }).click({ timeout: 20000 });
  lab.run("run", "spec.yaml", "--set", "train.epochs=400", "--set", "task.train_size=2000", "--set", "name=paid", "--outputs", name);
  await opened;
  const [run] = readdirSync(join(lab.dir, name)).filter((entry) => /^[0-9a-f]{12}$/.test(entry));
  await page?.context().close();
  if (looked) lab.children[viewer].kill();
  return JSON.parse(readFileSync(join(lab.dir, name, run, "seeds/1/unit.json"), "utf8")).seconds;
}

async function training(lab, browser) {
  lab.write("spec.yaml", SPEC);
  const ratios = [];
  for (let round = 0; round < PAIRS; round += 1) {
    const order = round % 2 === 0 ? [true, false] : [false, true];
    const times = new Map();
    for (const looked of order) times.set(looked, await trained(lab, browser, round, looked));
    ratios.push(times.get(true) / times.get(false));
    console.log(`pair ${round + 1}: ${times.get(true).toFixed(2)} s with a page, ${times.get(false).toFixed(2)} s without`);
  }
  const ordered = ratios.toSorted((a, b) => a - b);
  console.log(`ratio: median ${median(ratios).toFixed(4)}, from ${ordered[0].toFixed(4)} to ${ordered.at(-1).toFixed(4)} over ${PAIRS} pairs`);
}

const lab = new Lab();
const browser = await launch();
try {
  await (process.argv.includes("--training") ? training : costs)(lab, browser);
} finally {
  await browser.close();
  lab.close();
}
