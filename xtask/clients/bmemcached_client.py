"""python-binary-memcached, which speaks the binary protocol and nothing else: every command, random data of every size, threads."""

import random

import bmemcached

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


def connect():
    """A client of its own connection, which leaves values as they are."""
    return bmemcached.Client(f"127.0.0.1:{options.port}", compression=None, socket_timeout=20)


client = connect()


def stores():
    check(client.set("k", b"v"), "set")
    equal(client.get("k"), b"v", "get")
    equal(client.add("k", b"x"), False, "add over an item")
    equal(client.add("new", b"x"), True, "add")
    equal(client.replace("k", b"w"), True, "replace")
    equal(client.replace("missing", b"w"), False, "replace of nothing")
    equal(client.get("k"), b"w", "get after replace")
    equal(client.get("missing"), None, "get of nothing")
    equal(client.delete("k"), True, "delete")
    equal(client.get("k"), None, "get after delete")


def flags():
    """The client tells types apart by flags."""
    for value in (5, "text", b"bytes", 1.5, [1, 2], {"a": 1}):
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
    equal(client.incr("n", 3, default=10), 10, "incr begins with its default")
    equal(client.incr("n", 5), 15, "incr")
    equal(client.decr("n", 6), 9, "decr")
    equal(client.decr("n", 600), 0, "decr stops at 0")
    equal(client.incr("n", 2**64 - 1), 2**64 - 1, "incr to the largest")
    equal(client.incr("n", 2), 1, "incr wraps")


def compare_and_swap():
    client.set("c", b"1")
    value, unique = client.gets("c")
    equal(value, b"1", "gets")
    equal(client.cas("c", b"2", unique), True, "cas")
    equal(client.cas("c", b"3", unique), False, "cas with an old unique")
    equal(client.get("c"), b"2", "after cas")
    _, unique = client.gets("c")
    equal(client.delete("c", cas=unique + 1), False, "delete with another unique")
    equal(client.delete("c", cas=unique), True, "delete with the unique")


def cas_race():
    client.set("race", 0)
    rounds, count = 200, 4

    def work():
        mine = connect()
        for _ in range(rounds):
            while True:
                value, unique = mine.gets("race")
                if mine.cas("race", value + 1, unique):
                    break

    in_threads(work, count)
    equal(client.get("race"), rounds * count, "increments by cas")


def lifetimes():
    client.set("short", b"v", time=1)
    client.set("long", b"v", time=1000)
    eventually_missing(lambda: client.get("short"), "an item of one second")
    equal(client.get("long"), b"v", "long")


def sizes():
    for size in (0, 1, 1023, 1024, 1025, 16384, 65536, 100_000, 524_288, LARGEST_VALUE):
        value = rng.randbytes(size)
        check(client.set("size", value), "set of", size)
        equal(client.get("size"), value, f"value of {size} bytes")
    try:
        client.set("size", rng.randbytes(2 << 20))
    except bmemcached.exceptions.MemcachedException as error:
        equal(error.code, 3, "the status of two mebibytes")
    else:
        raise AssertionError("two mebibytes were stored")
    equal(client.get("size"), None, "after a set that was refused")


def random_data():
    """5000 random keys and values, stored in batches and read in batches."""
    stores_batches(client, rng, 5000)


def threads():
    reads_its_own(connect, options.seed)


def managing():
    (stats,) = client.stats().values()
    check(int(stats["curr_items"]) > 0, "curr_items")
    (settings,) = client.stats("settings").values()
    equal(settings["cas_enabled"], b"yes", "stats settings")
    check(client.flush_all(), "flush_all")
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
        threads,
        managing,
    ]
)
