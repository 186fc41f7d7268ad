// What the Node scripts share: the address they are given, random keys and values from a printed seed, and checks.
//
// A check that fails throws, so that a script ends with an error at the first thing that is wrong.
"use strict";

const { isDeepStrictEqual, inspect } = require("node:util");

// Bytes of the largest value that fits the default item size together with a key.
const LARGEST_VALUE = (1 << 20) - 512;
const KEY_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/";

// Reads `--port` and `--seed`; prints the seed, so that a failure can be repeated.
function parseArguments() {
  const words = process.argv.slice(2);
  const valueOf = (name) => Number(words[words.indexOf(name) + 1]);
  if (!words.includes("--port")) throw new Error("--port PORT is missing");
  const seed = words.includes("--seed") ? valueOf("--seed") : Math.floor(Math.random() * 2 ** 32);
  console.log(`seed ${seed}`);
  return { port: valueOf("--port"), seed };
}

// Random numbers from a seed (splitmix32); Node's own cannot be seeded.
class Rng {
  constructor(seed) {
    this.state = seed >>> 0;
  }

  // An integer of 32 bits.
  next() {
    this.state = (this.state + 0x9e3779b9) >>> 0;
    let mixed = this.state;
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return (mixed ^ (mixed >>> 15)) >>> 0;
  }

  below(end) {
    return this.next() % end;
  }

  bytes(length) {
    const bytes = Buffer.alloc(length);
    for (let at = 0; at < length; at += 1) bytes[at] = this.next();
    return bytes;
  }

  // A key of 1 to 250 printable characters.
  key() {
    const length = [1, 8, 16, 32, 100, 250][this.below(6)];
    let key = "";
    while (key.length < length) key += KEY_LETTERS[this.below(KEY_LETTERS.length)];
    return key;
  }

  // A value of random bytes: mostly small, now and then a few hundred KiB, and sometimes empty.
  value() {
    const kind = this.below(1000);
    if (kind < 50) return Buffer.alloc(0);
    if (kind < 970) return this.bytes(1 + this.below(1000));
    if (kind < 998) return this.bytes(1000 + this.below(40_000));
    return this.bytes(100_000 + this.below(400_000));
  }
}

function check(condition, ...what) {
  if (!condition) throw new Error(what.map((word) => inspect(word)).join(" "));
}

// Throws unless both are the same; large values are cut in the message.
function equal(found, wanted, what) {
  if (!isDeepStrictEqual(found, wanted)) {
    throw new Error(`${what}: found ${inspect(found).slice(0, 200)}, wanted ${inspect(wanted).slice(0, 200)}`);
  }
}

// Throws unless the promise is refused with an error whose message matches.
async function refused(promise, message, what) {
  try {
    await promise;
  } catch (error) {
    check(message.test(String(error)), what, String(error));
    return;
  }
  throw new Error(`${what} is no error`);
}

// Waits until `isMissing` holds, for ten seconds at most.
async function eventually(isMissing, what) {
  const deadline = Date.now() + 10_000;
  while (!(await isMissing())) {
    check(Date.now() < deadline, what, "is still there");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

// Runs the tests in their order, prints each with its time, and ends the process: an idle connection would keep it.
async function run(tests) {
  // A reply that never comes can leave Node with nothing to wait for; it then ends as if all were well.
  process.exitCode = 2;
  try {
    for (const test of tests) {
      const start = Date.now();
      await test();
      console.log(`  ${test.name}: ${((Date.now() - start) / 1000).toFixed(2)} s`);
    }
  } catch (error) {
    console.error(error);
    process.exit(1);
  }
  process.exit(0);
}

module.exports = { LARGEST_VALUE, Rng, check, equal, eventually, parseArguments, refused, run };
