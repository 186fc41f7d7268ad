"""pylibmc, the Python face of libmemcached, in either protocol: every command, random data of every size, threads."""

import random

import pylibmc

from common import (
    LARGEST_VALUE,
    arguments,
    check,
    equal,
    eventually_missing,
    in_threads,
    reads_its_own,
    run,
    stores_batches,
)

options = arguments()
rng = random.Random(options.seed)


def connect(**behaviors):
    """A client of its own connection."""
    behaviors = {"cas": True, "tcp_nodelay": True, "receive_timeout": 20_000_000, **behaviors}
    return pylibmc.Client([f"127.0.0.1:{options.port}"], binary=options.binary, behaviors=behaviors)


client = connect()


def stores():
    check(client.set("k", b"v"), "set")
    equal(client.get("k"), b"v", "get")
    equal(client.add("k", b"x"), False, "add over an item")
    equal(client.add("new", b"x"), True, "add")
    equal(client.replace("k", b"w"), True, "replace")
    # The binary protocol says why, and the client makes an error of it.
    try:
        equal(client.replace("missing", b"w"), False, "replace of nothing")
    except pylibmc.NotFound:
        check(options.binary, "replace of nothing is an error")
    equal(client.append("k", b"-end"), True, "append")
    equal(client.prepend("k", b"start-"), True, "prepend")
    equal(client.get("k"), b"start-w-end", "get after append and prepend")
    equal(client.get("missing"), None, "get of nothing")
    equal(client.delete("k"), True, "delete")
    equal(client.delete("k"), False, "delete of nothing")


def flags():
    """The client tells types apart by flags."""
    for value in (5, True, "text", b"bytes", 1.5, [1, 2], {"a": 1}, None):
        check(client.set("typed", value), "set", value)
        equal(client.get("typed"), value, "a typed value")


def many():
    values = {f"many-{number}": f"value {number}".encode() for number in range(500)}
    equal(client.set_multi(values), [], "set_multi")
    equal(client.get_multi(list(values)), values, "get_multi")
    equal(client.get_multi([*values, "missing"]), values, "get_multi with a miss")
    check(client.delete_multi(list(values)), "delete_multi")
    equal(client.get_multi(list(values)), {}, "get_multi after delete_multi")


def counting():
    client.set("n", 10)
    equal(client.incr("n"), 11, "incr")
    equal(client.incr("n", 5), 16, "incr by 5")
    equal(client.decr("n", 6), 10, "decr")
    equal(client.decr("n", 600), 0, "decr stops at 0")
    try:
        client.incr("missing")
    except pylibmc.NotFound:
        pass
    else:
        raise AssertionError("nothing was counted with")


def compare_and_swap():
    client.set("c", b"1")
    value, unique = client.gets(b"c")
    equal(value, b"1", "gets")
    equal(client.cas("c", b"2", unique), True, "cas")
    equal(client.cas("c", b"3", unique), False, "cas with an old unique")
    equal(client.get("c"), b"2", "after cas")


def cas_race():
    # Keys are bytes here: of a str, gets can send memory that other threads have written to since.
    key = b"race"
    client.set(key, 0)
    rounds, count = 200, 4

    def work():
        mine = connect()
        for _ in range(rounds):
            while True:
                value, unique = mine.gets(key)
                if mine.cas(key, value + 1, unique):
                    break

    in_threads(work, count)
    equal(client.get(key), rounds * count, "increments by cas")


def lifetimes():
    client.set("short", b"v", time=1)
    client.set("long", b"v", time=1000)
    equal(client.touch("long", 2000), True, "touch")
    equal(client.touch("missing", 2000), False, "touch of nothing")
    eventually_missing(lambda: client.get("short"), "an item of one second")
    equal(client.get("long"), b"v", "long")


def sizes():
    for size in (0, 1, 1023, 1024, 1025, 16384, 65536, 100_000, 524_288, LARGEST_VALUE):
        value = rng.randbytes(size)
        check(client.set("size", value), "set of", size)
        equal(client.get("size"), value, f"value of {size} bytes")
    try:
        client.set("size", bytes(2 << 20))
    except pylibmc.Error:
        pass
    else:
        raise AssertionError("two mebibytes were stored")


def random_data():
    """10 000 random keys and values, stored in batches and read in batches."""
    stores_batches(client, rng, 10_000)


def without_replies():
    quiet = connect(_noreply=True)
    for number in range(2000):
        quiet.set(f"quiet-{number}", b"%d" % number)
    quiet.delete("quiet-1000")
    # The last request on the same connection, so that everything before it has been done once it is answered.
    equal(quiet.get("quiet-1999"), b"1999", "a set without reply")
    equal(client.get("quiet-1000"), None, "after a delete without reply")
    quiet.disconnect_all()


def threads():
    reads_its_own(connect, options.seed)


def managing():
    (_, stats), = client.get_stats()
    check(int(stats["curr_items"]) > 0, "curr_items")
    check(client.get_stats("settings"), "stats settings")
    equal(client.flush_all(), True, "flush_all")
    equal(client.get("long"), None, "after flush_all")
    client.disconnect_all()


run(
    [
        stores,
        flags,
        many,
        counting,
        compare_and_swap,
        cas_race,
        lifetimes,
        sizes,
        random_data,
        without_replies,
        threads,
        managing,
    ]
)
