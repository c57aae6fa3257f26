// The pages of `ccdni view` in a browser: what a user does, sees and waits for.

import assert from "node:assert/strict";
import { mkdirSync, readdirSync, renameSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { CAPTIONS, Lab, RECORDED, SPEC, inaccessible, launch, open } from "./lab.js";

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

/** Three networks of two seeds, one of which fails; and their sweep, of which a run is missing. */
const SWEEP = `${SPEC}
name: sizes
sweep: {grid: {model.layers.0.hidden: [4, 8, 16]}}
seeds: 1..2
`;

function small() {
  const lab = new Lab();
  lab.write("spec.yaml", SPEC);
  lab.write("sweep.yaml", SWEEP);
  for (const hidden of [4, 8]) {
    lab.run("run", "spec.yaml", "--seeds", "1,2", "--set", `model.layers.0.hidden=${hidden}`, "--set", `name=size ${hidden}`);
  }
  lab.run("run", "spec.yaml", "--set", "train.optimizer.lr=1e30", "--set", "name=diverges");
  return lab;
}

const lab = small();
after(() => lab.close());

test("runs are filtered, sorted and grouped", async () => {
  const page = await open(browser);
  await page.goto(await lab.view());
  const names = () => page.locator("table.runs tbody th[scope=row] a").allTextContents();
  await page.getByRole("link", { name: "diverges" }).waitFor();
  assert.equal((await names()).length, 3);

  await page.getByLabel("filter").fill("hidden=4");
  assert.deepEqual(await names(), ["size 4"]);
  await page.getByLabel("filter").fill("state=done hidden>4");
  assert.deepEqual(await names(), ["size 8"]);
  assert.match(page.url(), /filter=state/);
  await page.reload();
  await page.getByRole("link", { name: "size 8" }).waitFor();
  assert.deepEqual(await names(), ["size 8"], "the address keeps the filter");
  await page.getByLabel("filter").fill("");

  const values = async () => (await page.locator("table.runs tbody tr").evaluateAll((rows, at) => rows.map((row) => row.children[at].textContent),
    await page.locator("table.runs thead th").evaluateAll((cells) => cells.findIndex((cell) => cell.textContent === "val_mse")))).map(Number.parseFloat);
  await page.getByRole("button", { name: "val_mse" }).click();
  const ascending = (await values()).filter((value) => !Number.isNaN(value));
  assert.deepEqual(ascending, [...ascending].sort((a, b) => a - b));
  await page.getByRole("button", { name: "val_mse" }).click();
  assert.deepEqual((await values()).filter((value) => !Number.isNaN(value)), ascending.toReversed());
  assert.equal(await page.locator("th[aria-sort=descending]").textContent(), "val_mse");

  await page.getByLabel("group by").selectOption("state");
  assert.deepEqual(await page.locator("tr.group").allTextContents(), ["done 2", "failed 1"]);
  assert.deepEqual(page.errors, []);
});

test("selected runs are compared", async () => {
  const page = await open(browser);
  await page.goto(await lab.view());
  await page.getByLabel(/Select size 4/).check();
  await page.getByLabel(/Select size 8/).check();
  await page.getByRole("link", { name: "Compare 2 runs" }).click();
  await page.getByRole("heading", { name: "Comparison of 2 runs" }).waitFor();
  assert.match(await page.getByRole("region", { name: "Keys in which they differ" }).textContent(), /model\.layers\.0\.hidden/);
  const chart = page.getByRole("group", { name: /^val_mse\. / });
  assert.equal(await chart.locator("path.mean").count(), 2);
  assert.equal(await chart.locator("path.band").count(), 2);
  assert.match(await page.getByRole("region", { name: "Paired tests" }).textContent(), /hidden 4.*hidden 8.*2/);

  // Zoom, cursor and values with the keyboard.
  await chart.focus();
  await page.keyboard.press("ArrowLeft");
  assert.match(await page.locator("figure.curve", { has: chart }).locator(".readout").textContent(), /^epoch 10: hidden 4: .* ± .* · hidden 8: /);
  await page.keyboard.press("+");
  await page.getByRole("button", { name: "Reset zoom" }).waitFor();
  await page.keyboard.press("Home");
  await page.getByLabel("smoothing").selectOption("0.9");
  await page.getByText("Smoothed: exponential moving average of weight 0.9.").first().waitFor();
  assert.deepEqual(page.errors, []);
});

test("a failed seed is shown with its reason", async () => {
  const page = await open(browser);
  await page.goto(await lab.view());
  await page.getByRole("link", { name: "diverges" }).click();
  await page.getByText("Seed 1 failed: ").waitFor();
  assert.match(await page.locator(".failure").textContent(), /the loss is (inf|NaN)/);
  assert.deepEqual(page.errors, []);
});

test("a sweep shows what is there and what is missing", async () => {
  const page = await open(browser);
  await page.goto(`${await lab.view("sweep.yaml")}#/sweep/0`);
  const matrix = page.getByRole("region", { name: "Matrix", exact: true });
  await matrix.waitFor();
  assert.equal(await matrix.getByText("not begun").count(), 1);
  const lines = page.locator("svg.parallel a");
  assert.equal(await lines.count(), 2, "runs that are there can be opened");
  assert.equal(await page.locator("svg.parallel .coordinate.open").count(), 1, "the missing one has no result");
  await lines.first().locator(".hit").dispatchEvent("pointerenter");
  assert.match(await page.getByText(/3 runs, 6 seeds/).textContent(), /4 done, 2 waiting\. About .* left/);
  assert.deepEqual(page.errors, []);
});

test("drawings of every recorded epoch and measures of recordings are shown", async () => {
  const own = new Lab();
  try {
    own.write("spec.yaml", SPEC);
    own.run("run", "spec.yaml", ...RECORDED);
    const [run] = readdirSync(join(own.dir, "outputs")).filter((name) => /^[0-9a-f]{12}$/.test(name));
    const page = await open(browser);
    await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    await page.goto(`${await own.view()}#/run/${run}`);
    const drawn = page.locator("svg.plane .drawn").first();
    await drawn.waitFor();
    const kept = await drawn.getAttribute("d");
    const slider = page.getByRole("slider", { name: "weights" });
    await slider.focus();
    await page.keyboard.press("Home");
    await page.getByText("after epoch 2", { exact: true }).waitFor();
    await page.waitForFunction((before) => document.querySelector("svg.plane .drawn").getAttribute("d") !== before, kept);
    await page.keyboard.press("End");
    await page.getByText(/^kept, of epoch \d+$/).waitFor();

    await page.getByRole("button", { name: "Measure the recordings" }).click();
    await page.getByRole("group", { name: /^cosine similarity\. .*at epoch 10/ }).waitFor();
    await page.getByText("keys that differ from their defaults").click();
    assert.match(await page.getByRole("row", { name: /record\.outputs/ }).textContent(), /2.*--set/);

    await page.getByRole("button", { name: "Copy command that draws val_mse" }).click();
    await page.getByText("copied").waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), `ccdni plot ${run} --metric val_mse`);
    assert.deepEqual(page.errors, []);
  } finally {
    own.close();
  }
});

test("captions stand beside their pictures", async () => {
  const own = new Lab();
  try {
    own.write("captions.yaml", CAPTIONS);
    const said = own.run("run", "captions.yaml");
    const [run] = readdirSync(join(own.dir, "outputs")).filter((name) => /^[0-9a-f]{12}$/.test(name));
    assert.ok(run, said);
    const page = await open(browser, { bypassCSP: true });
    const asked = [];
    page.on("response", (response) => { if (response.url().endsWith("captions.jpg")) asked.push(response.status()); });
    await page.goto(`${await own.view()}#/run/${run}`);
    await page.getByRole("img", { name: /^image \d+$/ }).first().waitFor();
    assert.equal(await page.locator(".captioned li").count(), 12);
    await page.waitForLoadState("networkidle").catch(() => {});
    assert.ok(asked.length > 0 && asked.every((status) => status === 200), `${asked}`);
    const places = await page.locator(".tile").evaluateAll((tiles) => tiles.map((tile) => tile.style.backgroundPosition));
    assert.equal(new Set(places).size, 12, "each has its own part of the sheet");
    if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/captions.png`, fullPage: true });
    assert.deepEqual(await inaccessible(page), []);
    assert.deepEqual(page.errors, []);
  } finally {
    own.close();
  }
});

test("a run moves while it trains, and a page survives its end", async () => {
  const own = new Lab();
  try {
    own.write("spec.yaml", SPEC);
    mkdirSync(join(own.dir, "outputs"));
    const page = await open(browser);
    await page.goto(await own.view());
    await page.getByText("There are no runs").waitFor();
    own.start("run", "spec.yaml", "--set", "train.epochs=3000", "--set", "task.train_size=4000", "--set", "run.threads=1", "--set", "name=<i>moving</i>");
    await page.getByRole("link", { name: "<i>moving</i>" }).click({ timeout: 5000 });
    const chart = page.getByRole("group", { name: /^train_loss\. .*at epoch/ });
    await chart.waitFor();
    const epoch = async () => Number(/at epoch (\d+)/.exec(await chart.getAttribute("aria-label"))[1]);
    const waits = [];
    for (let step = 0; step < 5; step += 1) {
      const [before, begun] = [await epoch(), Date.now()];
      while (await epoch() === before) {
        assert.ok(Date.now() - begun < 20000, "no point for twenty seconds");
        await page.waitForTimeout(20);
      }
      waits.push(Date.now() - begun);
    }
    // Half of them: on a machine that is busy, single ones may be late.
    assert.ok(waits.sort((a, b) => a - b)[2] < 2000, `points arrive within 2 s: ${waits}`);
    const [run] = readdirSync(join(own.dir, "outputs"));
    renameSync(join(own.dir, "outputs", run), join(own.dir, "moved"));
    await page.getByText("This run is no longer in").waitFor({ timeout: 5000 });
    assert.deepEqual(page.errors.filter((error) => !/404/.test(error)), []);
  } finally {
    own.close();
  }
});

test("a report draws its curves from one file", async () => {
  const [run] = readdirSync(join(lab.dir, "outputs")).filter((name) => /^[0-9a-f]{12}$/.test(name));
  lab.run("report", run, "-o", "report.html");
  const page = await open(browser);
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  await page.goto(`file://${join(lab.dir, "report.html")}`);
  await page.getByText("Learning curves").click();
  const chart = page.getByRole("group", { name: /^val_mse\. / });
  await chart.locator("path.mean").waitFor();
  assert.equal(asked.length, 1, "nothing else is loaded");
  assert.deepEqual(page.errors, []);
});

test("a thousand runs are painted within a second and scroll without long tasks", async () => {
  const own = new Lab();
  try {
    own.write("spec.yaml", SPEC);
    own.run("run", "spec.yaml", "--set", "train.epochs=3");
    const [run] = readdirSync(join(own.dir, "outputs"));
    own.multiply(run, 999);
    const page = await open(browser);
    const address = await own.view();
    // The server begins to read when it starts.
    await (await fetch(`${address}api/runs`)).text();
    await page.addInitScript(() => {
      globalThis.long = [];
      new PerformanceObserver((list) => globalThis.long.push(...list.getEntries().map((entry) => entry.duration))).observe({ type: "longtask", buffered: true });
    });
    const begun = Date.now();
    await page.goto(address);
    await page.locator("table.runs tbody tr").first().waitFor();
    const first = Date.now() - begun;
    await page.locator("table.runs[data-complete='1000']").waitFor();
    const whole = Date.now() - begun;
    await page.evaluate(() => { globalThis.long.length = 0; });
    for (let step = 0; step < 40; step += 1) {
      await page.mouse.wheel(0, 600);
      await page.waitForTimeout(16);
    }
    const long = await page.evaluate(() => globalThis.long);
    console.log(`first rows after ${first} ms, all after ${whole} ms, long tasks while scrolling: ${JSON.stringify(long)}`);
    assert.ok(first < 1000, `first rows after ${first} ms`);
    assert.ok(Math.max(0, ...long) < 100, `long tasks: ${long}`);
    const typed = Date.now();
    await page.getByLabel("filter").fill("lr=0.5");
    await page.locator("table.runs[data-complete='1']").waitFor();
    assert.ok(Date.now() - typed < 1000);
    assert.deepEqual(page.errors, []);
  } finally {
    own.close();
  }
});

for (const colorScheme of ["light", "dark"]) {
  for (const width of [390, 1600]) {
    test(`pages can be read at ${width} pixels, ${colorScheme}`, async () => {
      const address = await lab.view("sweep.yaml");
      const { runs } = await (await fetch(`${address}api/runs`)).json();
      const names = runs.map((run) => run.run);
      const pages = { runs: "#/", run: `#/run/${names[0]}`, compare: `#/compare/${names.join(",")}`, sweep: "#/sweep/0", all: "#/sweep/all", nothing: "#/nothing" };
      for (const [name, hash] of Object.entries(pages)) {
        // The audit's own script needs a page without the policy that the server sends.
        const page = await open(browser, { viewport: { width, height: 900 }, colorScheme, bypassCSP: true });
        await page.goto(address + hash);
        await page.getByRole("heading", { level: 1 }).waitFor();
        await page.waitForTimeout(300);
        if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/${name}-${width}-${colorScheme}.png`, fullPage: true });
        assert.deepEqual(await inaccessible(page), [], name);
        assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${name} scrolls sideways`);
        assert.deepEqual(page.errors, [], name);
        await page.context().close();
      }
    });
  }
}
