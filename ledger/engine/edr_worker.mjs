// The engine process: one EDR provider (the EVM under Hardhat 3) behind a socket that the gateway passes in.
//
// Frames are lines of JSON, {id, op, ...} answered by {id, ok} or {id, error}. What changes the chain (start,
// admit, seal, block) runs strictly one after the other in order of arrival; reads run as they come. The worker
// owns no durable state and no key, listens on nothing, and ends when its socket closes, so it can't outlive
// the gateway that started it.
import { createRequire } from "node:module";
import net from "node:net";
import path from "node:path";

const [fd, packages] = [Number(process.argv[2]), process.argv[3]];
const require = createRequire(path.join(packages, "package.json"));
const edr = require("@nomicfoundation/edr");

let provider;
let admitted = []; // hashes in the pool, in order of admission
let nextRequest = 1;

async function ask(method, params) {
  const response = await provider.handleRequest(JSON.stringify({ jsonrpc: "2.0", id: nextRequest++, method, params }));
  const data = typeof response.data === "string" ? JSON.parse(response.data) : response.data;
  if (data.error) throw new Error(data.error.message);
  return data.result;
}

async function head() {
  const b = await ask("eth_getBlockByNumber", ["latest", false]);
  return { number: Number(b.number), time: Number(b.timestamp), hash: b.hash, parent: b.parentHash,
    stateRoot: b.stateRoot, transactions: b.transactions };
}

async function start({ chainId, genesisTime, gasLimit, transactionGas, hardfork }) {
  if (provider) throw new Error("already started");
  const context = new edr.EdrContext();
  await context.registerProviderFactory(edr.L1_CHAIN_TYPE, edr.l1ProviderFactory());
  provider = await context.createProvider(edr.L1_CHAIN_TYPE, {
    allowBlocksWithSameTimestamp: true,
    allowUnlimitedContractSize: false,
    bailOnCallFailure: true,
    bailOnTransactionFailure: false, // a refusal by a contract is a result (receipt status 0), not a failed call
    chainId: BigInt(chainId),
    coinbase: new Uint8Array(20),
    defaultTransactionGasLimit: BigInt(transactionGas),
    genesisState: edr.l1GenesisState(edr.l1HardforkFromString(hardfork)),
    hardfork,
    initialBaseFeePerGas: 0n,
    minGasPrice: 0n,
    mining: { autoMine: false, blockGasLimit: BigInt(gasLimit), memPool: { order: edr.MineOrdering.Fifo } },
    network: { genesisBlockGasLimit: BigInt(gasLimit), genesisBlockTime: BigInt(genesisTime) },
    networkId: BigInt(chainId),
    observability: {},
    ownedAccounts: [],
    precompileOverrides: [],
    transactionGasCap: BigInt(transactionGas),
  }, { enable: false, decodeConsoleLogInputsCallback: () => [], printLineCallback: () => {} },
  { subscriptionCallback: () => {} }, new edr.ContractDecoder());
  return { ...(await head()), version: await ask("web3_clientVersion", []) };
}

async function admit({ txs, senders = [] }) {
  const results = [];
  const refused = new Set(); // senders: a later nonce would wait in the pool for the refused one
  for (const [i, raw] of txs.entries()) {
    try {
      if (refused.has(senders[i])) throw new Error("an earlier transaction of this sender was refused");
      const hash = await ask("eth_sendRawTransaction", [raw]);
      admitted.push(hash);
      results.push({ hash });
    } catch (error) {
      refused.add(senders[i]);
      results.push({ refused: error.message });
    }
  }
  return results;
}

async function seal({ time }) {
  await ask("evm_mine", ["0x" + time.toString(16)]);
  const block = await head();
  const expected = admitted;
  admitted = [];
  if (block.time !== time) throw new Error("the block has another time");
  if (block.transactions.length !== expected.length || block.transactions.some((hash, i) => hash !== expected[i]))
    throw new Error("the block does not hold exactly the admitted transactions in order");
  return block;
}

async function block({ time, txs }) {
  for (const result of await admit({ txs })) if (result.refused) throw new Error("not admitted: " + result.refused);
  return seal({ time });
}

async function memory() {
  return { rss: process.memoryUsage().rss };
}

const serial = { start, admit, seal, block, memory };
const socket = new net.Socket({ fd, readable: true, writable: true });
let queue = Promise.resolve();
let buffered = [];

function reply(message) {
  socket.write(JSON.stringify(message) + "\n");
}

function handle(line) {
  const { id, op, ...args } = JSON.parse(line);
  if (op === "rpc") {
    provider.handleRequest(args.body).then(
      ({ data }) => reply({ id, ok: typeof data === "string" ? data : JSON.stringify(data) }),
      (error) => reply({ id, error: String(error.message ?? error) }));
    return;
  }
  const run = async () => {
    try {
      reply({ id, ok: await serial[op](args) });
    } catch (error) {
      reply({ id, error: String(error.message ?? error) });
    }
  };
  queue = queue.then(run);
}

socket.on("data", (chunk) => {
  let from = 0;
  for (let at = chunk.indexOf(10); at !== -1; at = chunk.indexOf(10, from)) {
    buffered.push(chunk.subarray(from, at));
    handle(Buffer.concat(buffered).toString("utf8"));
    buffered = [];
    from = at + 1;
  }
  if (from < chunk.length) buffered.push(chunk.subarray(from));
});
socket.on("close", () => process.exit(0));
socket.on("error", () => process.exit(1));
