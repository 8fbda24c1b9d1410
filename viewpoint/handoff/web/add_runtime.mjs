// Copies the files that the page loads from node_modules/ to runtime/; npm ci runs it.
// Only the single-threaded builds: the threaded one needs HTTP headers that few servers send.
import { cpSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";

const litert = "node_modules/@litertjs/core/";
const files = {
  "litert.js": `${litert}dist/index.js`,
  "wasm-utils.js": "node_modules/@litertjs/wasm-utils/dist/index.js",
  "fflate.js": "node_modules/fflate/esm/browser.js",
  "package.json": `${litert}package.json`, // names the version and the license
};
for (const build of ["litert_wasm_internal", "litert_wasm_compat_internal"]) { // compat: for older browsers
  for (const kind of ["js", "wasm"]) files[`wasm/${build}.${kind}`] = `${litert}wasm/${build}.${kind}`;
}
rmSync("runtime.part", { recursive: true, force: true });
for (const [name, source] of Object.entries(files)) cpSync(source, `runtime.part/${name}`);
// By its path, because a page with a strict Content-Security-Policy cannot have an import map.
const module = readFileSync("runtime.part/litert.js", "utf8");
writeFileSync("runtime.part/litert.js", module.replaceAll('"@litertjs/wasm-utils"', '"./wasm-utils.js"'));
rmSync("runtime", { recursive: true, force: true });
renameSync("runtime.part", "runtime");
