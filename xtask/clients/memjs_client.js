// memjs, which speaks the binary protocol over one pipelined connection: every command, random data of every size, many at once.
"use strict";

const memjs = require("memjs");
const { LARGEST_VALUE, Rng, check, equal, eventually, parseArguments, refused, run } = require("./common.js");

const { port, seed } = parseArguments();
const rng = new Rng(seed);
// What a refusal has the client log is looked for in the error instead.
const quiet = { log() {} };
const connect = () => memjs.Client.create(`127.0.0.1:${port}`, { timeout: 20, conntimeout: 20, retries: 1, logger: quiet });
const client = connect();

// Text of a key's value, or null.
async function text(key) {
  const { value } = await client.get(key);
  return value === null ? null : value.toString();
}

async function stores() {
  equal(await client.set("k", "v", {}), true, "set");
  const { value, flags } = await client.get("k");
  equal([value, flags], [Buffer.from("v"), Buffer.alloc(4)], "get with flags");
  equal(await client.add("k", "x", {}), false, "add over an item");
  equal(await client.add("new", "x", {}), true, "add");
  equal(await client.replace("k", "w", {}), true, "replace");
  equal(await client.replace("missing", "w", {}), false, "replace of nothing");
  equal(await client.append("k", "-end"), true, "append");
  // The client's prepend sends the opcode of append.
  equal(await client.prepend("k", "-more"), true, "prepend");
  equal(await text("k"), "w-end-more", "get after both");
  await refused(client.append("missing", "x"), /./, "append to nothing");
  equal(await text("missing"), null, "get of nothing");
  equal(await client.delete("k"), true, "delete");
  equal(await client.delete("k"), false, "delete of nothing");
  equal(await text("k"), null, "get after delete");
}

// Flags go through a serializer of the user's.
async function flags() {
  const serializer = {
    serialize: (_opcode, value, extras) => {
      if (extras.length === 8) extras.writeUInt32BE(0xdeadbeef, 0);
      return { value: JSON.stringify(value), extras };
    },
    deserialize: (_opcode, value, extras) => ({ value: JSON.parse(value.toString()), extras }),
  };
  const typed = memjs.Client.create(`127.0.0.1:${port}`, { timeout: 20, serializer });
  for (const value of [5, "text", [1, { a: null }], true]) {
    equal(await typed.set("typed", value, {}), true, "set");
    const found = await typed.get("typed");
    equal(found.value, value, "a typed value");
    equal(found.flags.readUInt32BE(0), 0xdeadbeef, "its flags");
  }
  typed.close();
}

async function counting() {
  equal(await client.increment("n", 3, { initial: 10 }), { success: true, value: 10 }, "begins with its initial value");
  equal(await client.increment("n", 5, {}), { success: true, value: 15 }, "increment");
  equal(await client.decrement("n", 6, {}), { success: true, value: 9 }, "decrement");
  equal(await client.decrement("n", 600, {}), { success: true, value: 0 }, "decrement stops at 0");
  // A number that became shorter keeps its length, filled with blanks.
  equal(await text("n"), "0 ", "get of a number");
  await client.set("word", "abc", {});
  await refused(client.increment("word", 1, {}), /./, "counting with a word");
  const steps = Array.from({ length: 2000 }, () => client.increment("sum", 3, { initial: 3 }));
  const values = (await Promise.all(steps)).map(({ value }) => value);
  equal(values, Array.from({ length: 2000 }, (_, step) => 3 * (step + 1)), "replies in the order of the requests");
}

async function lifetimes() {
  await client.set("short", "v", { expires: 1 });
  await client.set("long", "v", { expires: 1000 });
  await client.set("kept", "v", { expires: 3 }); // The clock may strike before the touch.
  equal(await client.touch("kept", 1000), true, "touch");
  equal(await client.touch("missing", 1000), false, "touch of nothing");
  await eventually(async () => (await text("short")) === null, "an item of one second");
  equal(await text("kept"), "v", "touched");
  equal(await text("long"), "v", "long");
}

async function sizes() {
  for (const size of [0, 1, 1023, 1024, 1025, 16_384, 65_536, 524_288, LARGEST_VALUE]) {
    const value = rng.bytes(size);
    equal(await client.set("size", value, {}), true, `set of ${size} bytes`);
    const found = (await client.get("size")).value;
    check(found !== null && found.equals(value), `value of ${size} bytes`);
  }
  await refused(client.set("size", Buffer.alloc(2 << 20), {}), /./, "two mebibytes");
  equal(await text("size"), null, "the old value after a set that failed");
  // The server hangs up after a key that is too long, on this connection only.
  const other = connect();
  await refused(other.set("x".repeat(251), "v", {}), /./, "a key of 251 bytes");
  equal(await text("long"), "v", "another connection after the hang-up");
}

async function random_data() {
  const model = new Map();
  while (model.size < 3000) model.set(rng.key(), rng.value());
  const keys = [...model.keys()];
  for (let start = 0; start < keys.length; start += 100) {
    const batch = keys.slice(start, start + 100);
    const stored = await Promise.all(batch.map((key) => client.set(key, model.get(key), {})));
    check(stored.every((outcome) => outcome === true), "sets at once");
  }
  let found = 0;
  for (let start = 0; start < keys.length; start += 100) {
    const batch = keys.slice(start, start + 100);
    const replies = await Promise.all(batch.map((key) => client.get(key)));
    replies.forEach(({ value }, at) => {
      if (value === null) return;
      check(value.equals(model.get(batch[at])), "a wrong value of", batch[at]);
      found += 1;
    });
  }
  console.log(`    ${keys.length - found} of ${keys.length} were evicted`);
  check(found > keys.length / 2, "more than half is gone", found);
}

async function connections() {
  const work = async (name) => {
    const mine = connect();
    for (let step = 0; step < 300; step += 1) {
      const key = `${name}-${step % 50}`;
      const value = Buffer.from(`${name} ${step}`.repeat(1 + (step % 40)));
      await mine.set(key, value, {});
      const found = (await mine.get(key)).value;
      check(found.equals(value), "a connection reads what it wrote", key);
    }
    mine.close();
  };
  await Promise.all(Array.from({ length: 8 }, (_, number) => work(`c${number}`)));
}

async function managing() {
  const stats = (name) =>
    new Promise((resolve, reject) => {
      const done = (error, _server, found) => (error ? reject(error) : resolve(found));
      if (name === "") client.stats(done);
      else client.statsWithKey(name, done);
    });
  const all = await stats("");
  check(Number(all.curr_items) > 0, "curr_items", all);
  check(Number(all.cmd_get) >= Number(all.get_hits), "get_hits", all);
  equal((await stats("settings")).cas_enabled, "yes", "stats settings");
  equal(Object.values(await client.flush()), [true], "flush");
  equal(await text("long"), null, "after flush");
  client.quit();
}

run([stores, flags, counting, lifetimes, sizes, random_data, connections, managing]);
