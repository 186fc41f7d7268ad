"""pymemcache as its users use it: every command, random data of every size, threads, and races."""

import random
import ssl

from pymemcache.client.base import Client, PooledClient
from pymemcache.client.hash import HashClient
from pymemcache.exceptions import MemcacheClientError, MemcacheServerError

from common import (
    LARGEST_VALUE,
    arguments,
    check,
    equal,
    eventually_missing,
    in_threads,
    random_key,
    random_value,
    reads_its_own,
    run,
)

options = arguments()
tls = {"tls_context": ssl.create_default_context(cafile=options.ca)} if options.ca else {}
address = ("127.0.0.1", options.port)
client = Client(address, default_noreply=False, timeout=20, connect_timeout=20, **tls)
rng = random.Random(options.seed)


def stores():
    check(client.set("k", b"v", flags=7), "set")
    equal(client.get("k"), b"v", "get")
    equal(client.add("k", b"x"), False, "add over an item")
    equal(client.add("new", b"x"), True, "add")
    equal(client.replace("k", b"w"), True, "replace")
    equal(client.replace("missing", b"w"), False, "replace of nothing")
    equal(client.append("k", b"-end"), True, "append")
    equal(client.prepend("k", b"start-"), True, "prepend")
    equal(client.get("k"), b"start-w-end", "get after append and prepend")
    equal(client.append("missing", b"x"), False, "append to nothing")
    equal(client.prepend("missing", b"x"), False, "prepend to nothing")
    equal(client.get("missing"), None, "get of nothing")
    equal(client.get("missing", default=5), 5, "default")
    equal(client.delete("k"), True, "delete")
    equal(client.delete("k"), False, "delete of nothing")


def many():
    values = {f"many-{number}": f"value {number}".encode() for number in range(200)}
    equal(client.set_many(values), [], "set_many")
    equal(client.get_many(values), values, "get_many")
    found = client.gets_many(list(values)[:50])
    equal({key: value for key, (value, _) in found.items()}, dict(list(values.items())[:50]), "gets_many")
    check(client.delete_many(list(values)), "delete_many")
    equal(client.get_many(values), {}, "get_many after delete_many")


def large_multiget():
    values = {f"large-multiget-key-{number}": str(number).encode() for number in range(3000)}
    equal(client.set_many(values, noreply=True), [], "set_many without replies")
    equal(client.get_many(values), values, "3000 keys at once")
    equal(client.get_many([f"nothing-{number}" for number in range(3000)]), {}, "3000 misses at once")


def without_replies():
    client.set("quiet", b"5", noreply=True)
    client.incr("quiet", 4, noreply=True)
    client.decr("quiet", 1, noreply=True)
    client.append("quiet", b"0", noreply=True)
    client.touch("quiet", 0, noreply=True)
    equal(client.get("quiet"), b"80", "after commands without replies")
    client.delete("quiet", noreply=True)
    equal(client.get("quiet"), None, "after a delete without reply")
    for number in range(5000):
        client.set(f"quiet-{number}", b"%d" % number, noreply=True)
    equal(client.get("quiet-4999"), b"4999", "the last of 5000 sets without replies")


def counting():
    client.set("n", b"10")
    equal(client.incr("n", 5), 15, "incr")
    equal(client.decr("n", 20), 0, "decr stops at 0")
    equal(client.incr("n", 2**64 - 1), 2**64 - 1, "incr to the top")
    equal(client.incr("n", 2), 1, "incr wraps")
    equal(client.incr("missing", 1), None, "incr of nothing")
    equal(client.decr("missing", 1), None, "decr of nothing")
    client.set("word", b"abc")
    try:
        client.incr("word", 1)
    except MemcacheClientError:
        pass
    else:
        raise AssertionError("a word was counted with")


def compare_and_swap():
    client.set("c", b"1")
    value, unique = client.gets("c")
    equal(value, b"1", "gets")
    equal(client.cas("c", b"2", unique), True, "cas")
    equal(client.cas("c", b"3", unique), False, "cas with an old unique")
    equal(client.cas("missing", b"3", unique), None, "cas of nothing")
    equal(client.get("c"), b"2", "after cas")


def cas_race():
    """Threads count with gets and cas; no increment is lost."""
    client.set("race", b"0")
    rounds, threads = 200, 4

    def count():
        mine = Client(address, default_noreply=False, timeout=20, **tls)
        for _ in range(rounds):
            while True:
                value, unique = mine.gets("race")
                if mine.cas("race", b"%d" % (int(value) + 1), unique):
                    break
        mine.close()

    in_threads(count, threads)
    equal(client.get("race"), b"%d" % (rounds * threads), "increments by cas")


def incr_race():
    """Threads count with incr; no increment is lost."""
    client.set("sum", b"0")

    def count():
        mine = Client(address, default_noreply=False, timeout=20, **tls)
        for _ in range(1000):
            mine.incr("sum", 1)
        mine.close()

    in_threads(count, 4)
    equal(client.get("sum"), b"4000", "increments by incr")


def lifetimes():
    client.set("short", b"v", expire=1)
    client.set("long", b"v", expire=1000)
    client.set("kept", b"v", expire=3)  # The clock may strike before the touch.
    equal(client.touch("kept", 1000), True, "touch")
    equal(client.touch("missing", 1000), False, "touch of nothing")
    # The library has no method for these two.
    equal(client.raw_command("gat 2000 long", b"END\r\n"), b"VALUE long 0 1\r\nv\r\n", "gat")
    unique = client.gets("long")[1]
    equal(client.raw_command("gats 2000 long", b"END\r\n"), b"VALUE long 0 1 %s\r\nv\r\n" % unique, "gats")
    client.set("past", b"v", expire=-1)
    equal(client.get("past"), None, "what expired before it was set")
    eventually_missing(lambda: client.get("short"), "an item of one second")
    equal(client.get("kept"), b"v", "touched")
    equal(client.get("long"), b"v", "long")


def sizes():
    for size in (0, 1, 2, 100, 1023, 1024, 1025, 4095, 4096, 16383, 16384, 65536, 100_000, 524_288, LARGEST_VALUE):
        value = rng.randbytes(size)
        check(client.set("size", value), "set of", size)
        equal(client.get("size"), value, f"value of {size} bytes")
    client.set("size", b"\r\nEND\r\nVALUE size 0 1\r\n")
    equal(client.get("size"), b"\r\nEND\r\nVALUE size 0 1\r\n", "a value that looks like an answer")
    try:
        client.set("size", bytes(2 << 20))
    except MemcacheServerError:
        pass
    else:
        raise AssertionError("two mebibytes were stored")
    equal(client.get("size"), None, "the old value after a set that failed")


def random_data():
    """10 000 random keys and values: nothing is ever wrong, and what was just stored is there."""
    model = {}
    while len(model) < 10_000:
        key, value = random_key(rng), random_value(rng)
        check(client.set(key, value), "set", key)
        model[key] = value
    missing = 0
    for key, value in model.items():
        found = client.get(key)
        if found is None:
            missing += 1
        else:
            equal(found, value, key)
    print(f"    {missing} of {len(model)} were evicted", flush=True)
    check(missing < len(model) // 2, "more than half is gone", missing)


def threads():
    """Each thread's own keys, all at once, through one pool."""
    pool = PooledClient(address, default_noreply=False, timeout=20, max_pool_size=8, **tls)
    reads_its_own(lambda: pool, options.seed)
    pool.close()


def hashed():
    """The client that spreads keys over servers, with one server."""
    spread = HashClient([address], timeout=20, default_noreply=False, **tls)
    values = {f"spread-{number}": b"x" * number for number in range(100)}
    equal(spread.set_many(values), [], "set_many")
    equal(spread.get_many(values), values, "get_many")
    spread.close()


def managing():
    check(client.version(), "version")
    stats = client.stats()
    check(stats[b"curr_items"] > 0, "curr_items")
    check(stats[b"cmd_get"] >= stats[b"get_hits"] > 0, "get_hits")
    check(client.stats("settings")[b"maxbytes"] > 0, "maxbytes")
    check(client.stats("items"), "stats items")
    check(client.stats("slabs"), "stats slabs")
    equal(client.raw_command("verbosity 0"), b"OK", "verbosity")
    equal(client.flush_all(), True, "flush_all")
    equal(client.get("long"), None, "after flush_all")
    equal(client.flush_all(delay=1000), True, "flush_all with a delay")
    client.quit()


run(
    [
        stores,
        many,
        large_multiget,
        without_replies,
        counting,
        compare_and_swap,
        cas_race,
        incr_race,
        lifetimes,
        sizes,
        random_data,
        threads,
        hashed,
        managing,
    ]
)
