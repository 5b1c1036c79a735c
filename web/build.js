/** Builds the page: node build.js GRAPHS OUT, where GRAPHS is what `pcodec export` wrote. */

import { createHash } from "node:crypto";
import { copyFile, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

import * as esbuild from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const [graphs = join(here, "graphs"), out = join(here, "dist")] = process.argv.slice(2);
const page = join(here, "page");

const info = JSON.parse(await readFile(join(graphs, "pcodec.json"), "utf8"));
const there = await readdir(out).catch(() => []);
if (there.length && !there.includes("sw.js")) {
  console.error(`${out}: holds something else than a page; name a new or empty folder`);
  process.exit(1);
}
await rm(out, { recursive: true, force: true });
await mkdir(join(out, "graphs"), { recursive: true });
await esbuild.build({
  entryPoints: ["page.js", "worker.js", "worklets.js"].map((name) => join(page, name)),
  outdir: out,
  bundle: true,
  format: "esm",
  target: ["es2022"],
  minify: true,
  legalComments: "linked",
  logLevel: "warning",
});
const style = await readFile(join(page, "style.css"), "utf8");
const { code } = await esbuild.transform(style, { loader: "css", minify: true });
await writeFile(join(out, "style.css"), code);
for (const name of ["index.html", "icon.svg", "manifest.webmanifest"]) {
  await copyFile(join(page, name), join(out, name));
}
await copyFile(join(here, "../tests/speech.flac"), join(out, "example.flac"));
const ort = dirname(createRequire(import.meta.url).resolve("onnxruntime-web"));
await copyFile(join(ort, "ort-wasm-simd-threaded.wasm"), join(out, "ort.wasm"));
const files = ["pcodec.json", info.encoder.file, info.decoder.file, "patches.f32"];
if (info.entropy_id) files.push("entropy.safetensors");
for (const name of files) await copyFile(join(graphs, name), join(out, "graphs", name));

const kept = (await readdir(out, { recursive: true, withFileTypes: true }))
  .filter((entry) => entry.isFile() && !entry.name.endsWith(".LEGAL.txt"))
  .map((entry) => relative(out, join(entry.parentPath, entry.name)).replaceAll("\\", "/"))
  .sort();
const digest = createHash("sha256");
let bytes = 0;
for (const name of kept) {
  const content = await readFile(join(out, name));
  digest.update(name).update(content);
  bytes += content.length;
}
const name = `pcodec-${digest.digest("hex").slice(0, 16)}`;
const worker = await readFile(join(page, "sw.js"), "utf8");
const list = JSON.stringify({ name, files: ["./", ...kept] });
await writeFile(join(out, "sw.js"), `self.KEPT = ${list};\n${worker}`);
console.log(
  `${relative(process.cwd(), out)}: ${kept.length} files, ${(bytes / 1e6).toFixed(1)} MB`,
);
