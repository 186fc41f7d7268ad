"""meta-memcache as its users use it: leases, recaching, stale values, uniques, counters, and keys that go in base64."""

import random
import threading

from meta_memcache import (
    CacheClient,
    Key,
    LeasePolicy,
    RecachePolicy,
    RequestFlags,
    ServerAddress,
    SetMode,
    StalePolicy,
    connection_pool_factory_builder,
)

from common import arguments, check, equal, eventually_missing, in_threads, random_key, run

options = arguments()
rng = random.Random(options.seed)


def connect():
    return CacheClient.cache_client_from_servers(
        servers=[ServerAddress(host="127.0.0.1", port=options.port)],
        connection_pool_factory_fn=connection_pool_factory_builder(
            connection_timeout=20, recv_timeout=20, max_pool_size=16
        ),
    )


client = connect()


def stores():
    equal(client.set("k", b"v", ttl=100), True, "set")
    equal(client.get("k"), b"v", "get")
    equal(client.set("k", b"x", ttl=100, set_mode=SetMode.ADD), False, "add over an item")
    equal(client.set("new", b"x", ttl=100, set_mode=SetMode.ADD), True, "add")
    equal(client.set("missing", b"x", ttl=100, set_mode=SetMode.REPLACE), False, "replace of nothing")
    equal(client.set("k", b"-end", ttl=100, set_mode=SetMode.APPEND), True, "append")
    equal(client.set("k", b"start-", ttl=100, set_mode=SetMode.PREPEND), True, "prepend")
    equal(client.get("k"), b"start-v-end", "get after append and prepend")
    equal(client.set("missing", b"x", ttl=100, set_mode=SetMode.APPEND), False, "append to nothing")
    for value in ["text", 42, {"a": [1, 2.5, None]}]:
        equal(client.set("typed", value, ttl=100), True, "set of an object")
        equal(client.get("typed"), value, "get of an object")
    equal(client.delete("k"), True, "delete")
    equal(client.delete("k"), False, "delete of nothing")
    equal(client.get("k"), None, "get of nothing")
    equal(client.touch("typed", ttl=200), True, "touch")
    equal(client.touch("missing", ttl=200), False, "touch of nothing")


def anything():
    values = {}
    for _ in range(200):
        key, value = random_key(rng), rng.randbytes(rng.randrange(500))
        equal(client.set(key, value, ttl=0), True, f"set {key}")
        values[key] = value
    for key, value in values.items():
        equal(client.get(key), value, f"get {key}")
    found = client.multi_get([Key(key) for key in values])
    equal({key.key: value for key, value in found.items()}, values, "multi_get")
    # The client itself takes seconds to read a megabyte.
    large = rng.randbytes(40_000)
    equal(client.set("large", large, ttl=0), True, "a large value")
    equal(client.get("large"), large, "a large value")


def keys_in_base64():
    keys = ["schl\u00fcssel", "\u9375" * 40, "with blank", "line\r\nend", "\x00\x01"]
    for number, key in enumerate(keys):
        equal(client.set(key, number, ttl=100), True, f"set {key!r}")
    found = client.multi_get([Key(key) for key in keys])
    equal([found[Key(key)] for key in keys], list(range(len(keys))), "multi_get")
    for key in keys:
        equal(client.delete(key), True, f"delete {key!r}")
        equal(client.get(key), None, f"get {key!r}")


def uniques():
    client.set("u", b"1", ttl=100)
    value, unique = client.get_cas("u")
    equal(value, b"1", "get_cas")
    equal(client.set("u", b"2", ttl=100, cas_token=unique), True, "set with the unique")
    equal(client.set("u", b"3", ttl=100, cas_token=unique), False, "set with an old unique")
    equal(client.delete("u", cas_token=unique), False, "delete with an old unique")
    _, unique = client.get_cas("u")
    equal(client.delete("u", cas_token=unique), True, "delete with the unique")
    client.set("counted", 0, ttl=100)

    def add_up():
        mine = connect()
        for _ in range(50):
            while True:
                number, token = mine.get_cas("counted")
                if mine.set("counted", number + 1, ttl=100, cas_token=token):
                    break

    in_threads(add_up, 4)
    equal(client.get("counted"), 200, "every step is kept")


def numbers():
    equal(client.delta("the-number", 1), False, "counting nothing")
    equal(client.delta_initialize_and_get("the-number", 5, initial_value=9, initial_ttl=100), 9, "made")
    equal(client.delta_initialize_and_get("the-number", 5, initial_value=9, initial_ttl=100), 14, "counted")
    equal(client.delta_and_get("the-number", -4), 10, "down")
    equal(client.delta("the-number", -40, refresh_ttl=50), True, "below zero")
    equal(client.delta_and_get("the-number", 0), 0, "stops at zero")
    in_threads(lambda: [connect().delta("the-number", 3) for _ in range(20)], 4)
    equal(client.delta_and_get("the-number", 0), 240, "counted by many")


def leases():
    winners, filled = [], threading.Event()
    policy = LeasePolicy(ttl=30, miss_retries=100, miss_retry_wait=0.01, wait_backoff_factor=1.0)

    def reader():
        mine = connect()
        value = mine.get_or_lease("leased", lease_policy=policy)
        if value is None:
            winners.append(1)
            mine.set("leased", b"filled", ttl=100)
            filled.set()
        else:
            equal(value, b"filled", "what those who wait are given")

    in_threads(reader, 8)
    equal(len(winners), 1, "one client fills a miss")
    check(filled.is_set(), "filled")


def recaching():
    client.set("r", b"old", ttl=20)
    policy = RecachePolicy(ttl=60)
    found = []
    in_threads(lambda: found.append(connect().get("r", recache_policy=policy)), 8)
    equal(sorted(found, key=str), sorted([None] + [b"old"] * 7, key=str), "one client is to make it anew")
    client.set("r", b"new", ttl=100)
    equal(client.get("r", recache_policy=policy), b"new", "made anew")


def stale_values():
    policy = StalePolicy(mark_stale_on_deletion_ttl=30, mark_stale_on_cas_mismatch=True)
    client.set("s", b"one", ttl=100)
    _, before = client.get_cas("s")
    equal(client.delete("s", stale_policy=policy), True, "delete that leaves a stale value")
    found = []
    in_threads(lambda: found.append(connect().get("s")), 8)
    equal(sorted(found, key=str), sorted([None] + [b"one"] * 7, key=str), "one client misses, the others get the old")
    # Invalidated meanwhile: what was computed from the old state is stored, but is stale.
    equal(client.set("s", b"late", ttl=100, cas_token=before, stale_policy=policy), True, "set with an older unique")
    equal(client.get("s"), b"late", "stale, and somebody is at it")
    equal(client.set("s", b"fresh", ttl=100), True, "set")
    flags = RequestFlags(return_value=True, return_ttl=True)
    equal(client.meta_get(Key("s"), flags).flags.stale, False, "fresh")
    equal(client.invalidate("s"), True, "invalidate")
    equal(client.get("s"), None, "gone")


def expiry():
    client.set("short", b"x", ttl=1)
    eventually_missing(lambda: client.get("short"), "an item with a ttl of 1")


run([stores, anything, keys_in_base64, uniques, numbers, leases, recaching, stale_values, expiry])
