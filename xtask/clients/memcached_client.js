// The npm package `memcached`, which speaks text over a pool of connections: every command, random data of every size, many at once.
"use strict";

const { promisify } = require("node:util");
const Memcached = require("memcached");
const { LARGEST_VALUE, Rng, check, equal, eventually, parseArguments, refused, run } = require("./common.js");

const { port, seed } = parseArguments();
const rng = new Rng(seed);
const server = `127.0.0.1:${port}`;
const COMMANDS = "touch get gets getMulti set replace add cas append prepend incr decr del version flush stats settings slabs items";

// The client with promises for its callbacks. It refuses large values itself unless it is told otherwise.
function connect(options) {
  const raw = new Memcached(server, { timeout: 20_000, maxValue: 4 << 20, retries: 0, ...options });
  const client = { end: () => raw.end() };
  for (const name of COMMANDS.split(" ")) client[name] = promisify(raw[name].bind(raw));
  return client;
}

const client = connect();

async function stores() {
  equal(await client.set("k", "v", 0), true, "set");
  equal(await client.get("k"), "v", "get");
  await refused(client.add("k", "x", 0), /not stored/i, "add over an item");
  equal(await client.add("new", "x", 0), true, "add");
  equal(await client.replace("k", "w", 0), true, "replace");
  await refused(client.replace("missing", "w", 0), /not stored/i, "replace of nothing");
  equal(await client.append("k", "-end"), true, "append");
  equal(await client.prepend("k", "start-"), true, "prepend");
  equal(await client.get("k"), "start-w-end", "get after append and prepend");
  await refused(client.append("missing", "x"), /not stored/i, "append to nothing");
  equal(await client.get("missing"), undefined, "get of nothing");
  equal(await client.del("k"), true, "del");
  equal(await client.del("k"), false, "del of nothing");
}

// The client tells types apart by flags.
async function flags() {
  for (const value of [5, -1.5, "text", "schl\u00fcssel", [1, { a: null }], { b: true }, rng.bytes(500), ""]) {
    equal(await client.set("typed", value, 0), true, "set");
    equal(await client.get("typed"), value, "a typed value");
  }
}

async function many() {
  const values = {};
  for (let number = 0; number < 500; number += 1) values[`many-${number}`] = `value ${number}`;
  const stored = await Promise.all(Object.entries(values).map(([key, value]) => client.set(key, value, 0)));
  check(stored.every((outcome) => outcome === true), "sets at once");
  equal({ ...(await client.getMulti(Object.keys(values))) }, values, "getMulti");
  equal({ ...(await client.getMulti(["missing", "many-3"])) }, { "many-3": "value 3" }, "getMulti with a miss");
  await Promise.all(Object.keys(values).map((key) => client.del(key)));
  equal({ ...(await client.getMulti(Object.keys(values))) }, {}, "getMulti after del");
}

async function counting() {
  await client.set("n", 10, 0);
  equal(await client.incr("n", 5), 15, "incr");
  equal(await client.decr("n", 20), 0, "decr stops at 0");
  equal(await client.incr("missing", 1), false, "incr of nothing");
  await client.set("word", "abc", 0);
  await refused(client.incr("word", 1), /non-numeric/, "counting with a word");
  await client.set("sum", 0, 0);
  await Promise.all(Array.from({ length: 1000 }, () => client.incr("sum", 3)));
  equal(await client.get("sum"), 3000, "every increment counts");
}

async function compare_and_swap() {
  await client.set("c", "1", 0);
  const { c, cas } = await client.gets("c");
  equal(c, "1", "gets");
  equal(await client.cas("c", "2", cas, 0), true, "cas");
  equal(await client.cas("c", "3", cas, 0), false, "cas with an old unique");
  equal(await client.get("c"), "2", "after cas");
  await client.set("race", 0, 0);
  const count = async () => {
    for (let step = 0; step < 40; step += 1) {
      for (;;) {
        const found = await client.gets("race");
        if (await client.cas("race", found.race + 1, found.cas, 0)) break;
      }
    }
  };
  await Promise.all([count(), count(), count(), count()]);
  equal(await client.get("race"), 160, "increments by cas");
}

async function lifetimes() {
  await client.set("short", "v", 1);
  await client.set("long", "v", 1000);
  await client.set("kept", "v", 3); // The clock may strike before the touch.
  equal(await client.touch("kept", 1000), true, "touch");
  equal(await client.touch("missing", 1000), false, "touch of nothing");
  await eventually(async () => (await client.get("short")) === undefined, "an item of one second");
  equal(await client.get("kept"), "v", "touched");
  equal(await client.get("long"), "v", "long");
}

async function sizes() {
  for (const size of [0, 1, 1023, 1024, 1025, 16_384, 65_536, 524_288, LARGEST_VALUE]) {
    const value = "x".repeat(size);
    equal(await client.set("size", value, 0), true, `set of ${size} bytes`);
    check((await client.get("size")) === value, `value of ${size} bytes`);
  }
  // A client that is told of a server's error believes the server gone, so another one meets it.
  const other = connect();
  equal(await other.set("size", "x".repeat(2 << 20), 0), false, "two mebibytes");
  await refused(other.get("size"), /not available/, "a get after a server's error");
  equal(await client.get("size"), undefined, "the old value after a set that failed");
}

async function random_data() {
  const model = new Map();
  while (model.size < 2000) model.set(rng.key(), rng.value());
  const keys = [...model.keys()];
  // Bytes from 128 up travel as two, so a value takes half as much again; the largest still fits an item.
  const stored = [];
  for (let start = 0; start < keys.length; start += 100) {
    const batch = keys.slice(start, start + 100);
    stored.push(...(await Promise.all(batch.map((key) => client.set(key, model.get(key), 0)))));
  }
  check(stored.every((outcome) => outcome === true), "sets at once");
  let found = 0;
  for (let start = 0; start < keys.length; start += 100) {
    const batch = keys.slice(start, start + 100);
    const replies = await Promise.all(batch.map((key) => client.get(key)));
    replies.forEach((value, at) => {
      if (value === undefined) return;
      check(Buffer.from(value).equals(model.get(batch[at])), "a wrong value of", batch[at]);
      found += 1;
    });
  }
  console.log(`    ${keys.length - found} of ${keys.length} were evicted`);
  check(found > keys.length / 2, "more than half is gone", found);
}

async function namespaces() {
  const spaced = connect({ namespace: "space:" });
  await spaced.set("a", "1", 0);
  equal(await client.get("space:a"), "1", "the key on the wire");
  equal({ ...(await spaced.getMulti(["a", "b"])) }, { a: "1" }, "getMulti in a namespace");
  spaced.end();
}

async function managing() {
  const [version] = await client.version();
  equal(Number(version.major), 1, "version");
  const [stats] = await client.stats();
  check(stats.curr_items > 0 && stats.cmd_get >= stats.get_hits, "stats", stats);
  const [settings] = await client.settings();
  equal(settings.cas_enabled, "yes", "stats settings");
  const [items] = await client.items();
  check(Object.values(items).some((line) => line.number > 0), "stats items", items);
  check((await client.slabs()).length === 1, "stats slabs");
  equal(await client.flush(), [true], "flush");
  equal(await client.get("long"), undefined, "after flush");
  client.end();
}

run([stores, flags, many, counting, compare_and_swap, lifetimes, sizes, random_data, namespaces, managing]);
