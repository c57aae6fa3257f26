// The real program, the real browser, and directories of runs for the tests.

import { spawn, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const ccdni = process.env.CCDNI ?? new URL("../../target/release/ccdni", import.meta.url).pathname;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** A small experiment: a second or two for an epoch of a few dozen. */
export const SPEC = `
task: {kind: linedraw, train_size: 200, test_size: 20}
model: {layers: [{cell: lstm, hidden: 8}]}
train: {epochs: 10, batch_size: 10, bptt: 2, optimizer: {kind: adam, lr: 1.0e-2}}
run: {device: cpu, threads: 1}
`;

/** Captions of drawn scenes, after every epoch. */
export const CAPTIONS = `
name: captions
task:
  kind: captioning
  source: {kind: scenes, dir: scenes, train: 60, validation: 12, size: 32}
  threshold: 2
  lengths: [11, 18]
  resize: 32
  validation_batch_size: 4
  scores: true
model: {encoder: {kind: conv, channels: [4, 6]}, embed: {size: 8}, layers: [{cell: lstm, hidden: 10}]}
train: {epochs: 2, batch_size: 5, bptt: 5}
record: {outputs: 1}
run: {device: cpu}
`;

/** What is recorded of a network with a synthesizer. */
export const RECORDED = ["--set", "model.layers.0.dni={hidden: [8]}", "--set", "record={every: 5, what: [hidden, synthetic, true], cosine: true, outputs: 2}"];

/** A directory with runs, and what was started in it. */
export class Lab {
  constructor() {
    this.dir = mkdtempSync(join(tmpdir(), "ccdni-view-"));
    this.children = [];
  }

  write(name, text) {
    writeFileSync(join(this.dir, name), text);
  }

  /** Runs the program to its end. */
  run(...args) {
    const ran = spawnSync(ccdni, args, { cwd: this.dir, encoding: "utf8" });
    return `${ran.stdout}${ran.stderr}`;
  }

  /** Starts the program. */
  start(...args) {
    const child = spawn(ccdni, args, { cwd: this.dir, stdio: ["ignore", "pipe", "ignore"] });
    this.children.push(child);
    return child;
  }

  /** Starts `ccdni view` and waits for its address. */
  async view(...args) {
    const child = this.start("view", "--port", "0", ...args);
    for await (const line of createInterface(child.stdout)) return line;
    throw new Error("ccdni view has ended");
  }

  /** Copies of a run under many names, each with other values in its spec. */
  multiply(run, count) {
    const from = join(this.dir, "outputs", run);
    const spec = readFileSync(join(from, "spec.yaml"), "utf8");
    const manifest = readFileSync(join(from, "manifest.json"), "utf8");
    for (let number = 0; number < count; number += 1) {
      const name = (number * 7919 + 0x100000).toString(16).padStart(12, "0");
      const to = join(this.dir, "outputs", name);
      mkdirSync(join(to, "seeds"), { recursive: true });
      cpSync(join(from, "seeds"), join(to, "seeds"), { recursive: true });
      writeFileSync(join(to, "spec.yaml"), spec.replace(/lr: .*/, `lr: ${(number + 1) / 1000}`).replace(/hidden: 8/, `hidden: ${8 + number % 5}`));
      writeFileSync(join(to, "manifest.json"), manifest.replaceAll(run, name).replace(/"name": [^,]*/, `"name": "synthetic ${number}"`));
    }
  }

  close() {
    this.children.forEach((child) => child.kill("SIGKILL"));
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** The browser; `CHROMIUM` names it. */
export function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
}

/** A page that fails the test on any error of a script or of the console. */
export async function open(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1600, height: 900 }, ...options });
  const page = await context.newPage();
  page.errors = [];
  page.on("pageerror", (error) => page.errors.push(error.stack));
  page.on("console", (message) => { if (message.type() === "error") page.errors.push(message.text()); });
  return page;
}

/** What axe-core finds that is serious, in words. */
export async function inaccessible(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run());
  return violations.filter((found) => ["serious", "critical"].includes(found.impact))
    .map((found) => `${found.id}: ${found.nodes.map((node) => node.html).join(" ").slice(0, 400)}`);
}
