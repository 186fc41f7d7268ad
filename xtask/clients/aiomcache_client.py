"""aiomcache as its users use it: every command from many tasks over one pool of connections, and random data of every size."""

import asyncio
import random
import time

import aiomcache

from common import LARGEST_VALUE, arguments, check, equal, random_key, random_value, run

options = arguments()
rng = random.Random(options.seed)


async def raises(awaitable, what):
    """The client makes an error of what the server refuses, and gives up the connection."""
    try:
        await awaitable
    except aiomcache.ClientException:
        return
    raise AssertionError(f"{what} is no error")


async def eventually_missing(client, key):
    """Waits until there is no such key, for ten seconds at most."""
    deadline = time.monotonic() + 10
    while await client.get(key) is not None:
        check(time.monotonic() < deadline, key, "is still there")
        await asyncio.sleep(0.02)


async def stores(client):
    equal(await client.set(b"k", b"v"), True, "set")
    equal(await client.get(b"k"), b"v", "get")
    equal(await client.add(b"k", b"x"), False, "add over an item")
    equal(await client.add(b"new", b"x"), True, "add")
    equal(await client.replace(b"k", b"w"), True, "replace")
    equal(await client.replace(b"missing", b"w"), False, "replace of nothing")
    equal(await client.append(b"k", b"-end"), True, "append")
    equal(await client.prepend(b"k", b"start-"), True, "prepend")
    equal(await client.append(b"missing", b"x"), False, "append to nothing")
    equal(await client.get(b"k"), b"start-w-end", "get after append and prepend")
    equal(await client.get(b"missing"), None, "get of nothing")
    equal(await client.get(b"missing", b"5"), b"5", "default")
    equal(await client.delete(b"k"), True, "delete")
    equal(await client.delete(b"k"), False, "delete of nothing")


async def many(client):
    values = {b"many-%d" % number: b"value %d" % number for number in range(500)}
    stored = await asyncio.gather(*(client.set(key, value) for key, value in values.items()))
    check(all(stored), "sets")
    equal(await client.multi_get(*values), tuple(values.values()), "multi_get in the order asked")
    equal(await client.multi_get(b"missing", b"many-7", b"gone"), (None, b"value 7", None), "multi_get with misses")
    await asyncio.gather(*(client.delete(key) for key in values))
    equal(await client.multi_get(*values), (None,) * len(values), "multi_get after deletes")


async def counting(client):
    await client.set(b"n", b"10")
    equal(await client.incr(b"n", 5), 15, "incr")
    equal(await client.decr(b"n", 20), 0, "decr stops at 0")
    equal(await client.incr(b"n", 2**64 - 1), 2**64 - 1, "incr to the largest")
    equal(await client.incr(b"n", 2), 1, "incr wraps")
    await raises(client.incr(b"missing"), "incr of nothing")
    await client.set(b"word", b"abc")
    await raises(client.incr(b"word"), "counting with a word")
    await client.set(b"sum", b"0")
    await asyncio.gather(*(client.incr(b"sum", 3) for _ in range(2000)))
    equal(await client.get(b"sum"), b"6000", "every increment counts")


async def compare_and_swap(client):
    await client.set(b"c", b"1")
    value, unique = await client.gets(b"c")
    equal(value, b"1", "gets")
    equal(await client.cas(b"c", b"2", unique), True, "cas")
    equal(await client.cas(b"c", b"3", unique), False, "cas with an old unique")
    equal(await client.get(b"c"), b"2", "after cas")
    equal(await client.gets(b"missing"), (None, None), "gets of nothing")
    await client.set(b"race", b"0")

    async def count():
        for _ in range(50):
            while True:
                value, unique = await client.gets(b"race")
                if await client.cas(b"race", b"%d" % (int(value) + 1), unique):
                    break

    await asyncio.gather(*(count() for _ in range(8)))
    equal(await client.get(b"race"), b"400", "increments by cas")


async def lifetimes(client):
    await client.set(b"short", b"v", exptime=1)
    await client.set(b"long", b"v", exptime=1000)
    await client.set(b"kept", b"v", exptime=3)  # The clock may strike before the touch.
    equal(await client.touch(b"kept", 1000), True, "touch")
    equal(await client.touch(b"missing", 1000), False, "touch of nothing")
    await eventually_missing(client, b"short")
    equal(await client.get(b"kept"), b"v", "touched")
    equal(await client.get(b"long"), b"v", "long")


async def sizes(client):
    for size in (0, 1, 1023, 1024, 1025, 16384, 65536, 524_288, LARGEST_VALUE):
        value = rng.randbytes(size)
        equal(await client.set(b"size", value), True, f"set of {size} bytes")
        equal(await client.get(b"size"), value, f"value of {size} bytes")
    await raises(client.set(b"size", bytes(2 << 20)), "two mebibytes")
    equal(await client.get(b"size"), None, "the old value after a set that failed")


async def random_data(client):
    """4000 random keys and values, a hundred at a time over all connections."""
    model = {}
    while len(model) < 4000:
        model[random_key(rng).encode()] = random_value(rng)
    keys = list(model)
    found = 0
    for start in range(0, len(keys), 100):
        batch = keys[start : start + 100]
        check(all(await asyncio.gather(*(client.set(key, model[key]) for key in batch))), "sets")
    for start in range(0, len(keys), 100):
        batch = keys[start : start + 100]
        for key, value in zip(batch, await client.multi_get(*batch)):
            if value is not None:
                equal(value, model[key], key)
                found += 1
    print(f"    {len(model) - found} of {len(model)} were evicted", flush=True)
    check(found > len(model) // 2, "more than half is gone", found)


async def flags(_client):
    """A client that tells text from bytes by flags."""

    async def loads(value, mark):
        return {1: value.decode, 4_294_967_295: lambda: int(value)}[mark]()

    async def dumps(value):
        return (b"%d" % value, 4_294_967_295) if isinstance(value, int) else (value.encode(), 1)

    typed = aiomcache.FlagClient(
        "127.0.0.1", options.port, get_flag_handler=loads, set_flag_handler=dumps
    )
    for value in ("schl\u00fcssel", 42, b"bytes"):
        equal(await typed.set(b"typed", value), True, "set")
        equal(await typed.get(b"typed"), value, "a typed value")
    await typed.close()


async def managing(client):
    check(await client.version(), "version")
    stats = await client.stats()
    check(int(stats[b"curr_items"]) > 0, "curr_items")
    equal((await client.stats(b"settings"))[b"cas_enabled"], b"yes", "stats settings")
    await client.flush_all()
    equal(await client.get(b"long"), None, "after flush_all")


def alone(test):
    """A test in an event loop and with connections of its own."""

    async def connected():
        client = aiomcache.Client("127.0.0.1", options.port, pool_size=8)
        await asyncio.wait_for(test(client), 60)
        await client.close()

    def named():
        asyncio.run(connected())

    named.__name__ = test.__name__
    return named


run(
    [
        alone(test)
        for test in (
            stores,
            many,
            counting,
            compare_and_swap,
            lifetimes,
            sizes,
            random_data,
            flags,
            managing,
        )
    ]
)
