// Compiles the contracts and writes ABI, bytecode and storage layout to ../artifacts as JSON.
//
//   node build.mjs [--out DIR] [--only Name,Name] [--patch FILE]
//
// --patch replaces sources, as JSON {"src/X.sol": "text"}; mutants are built that way. Solc's JS API is used
// because its command line truncates large inputs. The metadata hash is left out, so that equal sources give
// equal bytes on every machine.
import { createRequire } from "node:module";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const require = createRequire(import.meta.url);
const solc = require("solc");
const here = dirname(fileURLToPath(import.meta.url));
const option = (name) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? undefined : process.argv[at + 1];
};
const out = option("out") ?? join(here, "..", "artifacts");
const NAMES = {
  Ledger: "src/Ledger.sol",
  AnchorModule: "src/AnchorModule.sol",
  ClaimModule: "src/ClaimModule.sol",
  LienModule: "src/LienModule.sol",
  SettlementModule: "src/SettlementModule.sol",
  ContestModule: "src/ContestModule.sol",
  SuccessionModule: "src/SuccessionModule.sol",
  TagModule: "src/TagModule.sol",
  CouncilModule: "src/CouncilModule.sol",
  AddressBook: "src/AddressBook.sol",
  ERC7913P256Verifier: "@openzeppelin/contracts/utils/cryptography/verifiers/ERC7913P256Verifier.sol",
  ERC7913WebAuthnVerifier: "@openzeppelin/contracts/utils/cryptography/verifiers/ERC7913WebAuthnVerifier.sol",
};
const only = option("only")?.split(",") ?? Object.keys(NAMES);
const patch = option("patch") ? JSON.parse(readFileSync(option("patch"), "utf8")) : {};

const sources = {};
for (const name of readdirSync(join(here, "src")).filter((n) => n.endsWith(".sol")).sort()) {
  const key = `src/${name}`;
  sources[key] = { content: patch[key] ?? readFileSync(join(here, key), "utf8") };
}
const settings = {
  optimizer: { enabled: true, runs: 200 },
  evmVersion: "cancun",
  viaIR: false,
  metadata: { bytecodeHash: "none", appendCBOR: false },
  outputSelection: {},
};
for (const name of only) {
  settings.outputSelection[NAMES[name]] = {
    [name]: ["abi", "evm.bytecode.object", "evm.deployedBytecode.object", "storageLayout"],
  };
}
const input = { language: "Solidity", sources, settings };
const find = (path) => ({ contents: readFileSync(join(here, "node_modules", path), "utf8") });
const result = JSON.parse(solc.compile(JSON.stringify(input), { import: find }));
const problems = (result.errors ?? []).filter((e) => !e.sourceLocation?.file.startsWith("@"));
for (const problem of problems) process.stderr.write(`${problem.formattedMessage}\n`);
const fatal = process.env.CONCORDAT_LENIENT ? problems.filter((p) => p.severity === "error") : problems;
if (fatal.length > 0) process.exit(1); // warnings are errors, but for mutants

mkdirSync(out, { recursive: true });
for (const name of only) {
  const c = result.contracts[NAMES[name]][name];
  const artifact = {
    name,
    compiler: solc.version(),
    abi: c.abi,
    bytecode: `0x${c.evm.bytecode.object}`,
    deployedSize: c.evm.deployedBytecode.object.length / 2,
    storage: (c.storageLayout?.storage ?? []).map(({ label, slot, offset, type }) => ({ label, slot, offset, type })),
  };
  writeFileSync(join(out, `${name}.json`), `${JSON.stringify(artifact, null, 1)}\n`);
  process.stdout.write(`${name} ${artifact.deployedSize}\n`);
}
