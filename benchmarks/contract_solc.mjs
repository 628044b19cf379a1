// The npm build of solc behind the two calls that forge and slither make of a native one:
//   contract_solc.mjs --version
//   contract_solc.mjs --standard-json ... < input > output
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const contracts = process.env.CONCORDAT_CONTRACTS_FOLDER;
const require = createRequire(join(contracts, "build.mjs"));
const solc = require("solc");
if (process.argv.includes("--version")) {
  const version = solc.version().replace(".Emscripten.clang", ".Linux.g++");
  process.stdout.write(`solc, the solidity compiler commandline interface\nVersion: ${version}\n`);
} else {
  process.stdout.write(solc.compile(readFileSync(0, "utf8")));
}
