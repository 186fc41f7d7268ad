"""What the client scripts share: the address they are given, random keys and values from a printed seed, and checks.

A check that fails raises, so that a script ends with an error at the first thing that is wrong.
"""

import argparse
import random
import string
import threading
import time

LARGEST_VALUE = (1 << 20) - 512
"""Bytes of the largest value that fits the default item size together with a key."""


def arguments():
    """Reads `--port`, `--seed`, `--ca` and `--binary`; prints the seed, so that a failure can be repeated."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--ca", help="speak TLS; the certificate that vouches for the server")
    parser.add_argument("--binary", action="store_true", help="speak the binary protocol")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    return options


def check(condition, *what):
    """Raises unless the condition holds."""
    if not condition:
        raise AssertionError(" ".join(repr(word) for word in what))


def equal(found, wanted, what):
    """Raises unless both are the same; large values are cut in the message."""
    if found != wanted:
        raise AssertionError(f"{what}: found {str(found)[:200]}, wanted {str(wanted)[:200]}")


def random_key(rng):
    """A key of 1 to 250 printable characters."""
    length = rng.choice((1, 8, 16, 32, 100, 250))
    return "".join(rng.choices(string.ascii_letters + string.digits + "-_.:/", k=length))


def random_value(rng):
    """A value of random bytes: mostly small, now and then up to a mebibyte, and sometimes empty."""
    kind = rng.random()
    if kind < 0.05:
        return b""
    if kind < 0.95:
        return rng.randbytes(rng.randrange(1, 1000))
    if kind < 0.995:
        return rng.randbytes(rng.randrange(1000, 100_000))
    return rng.randbytes(rng.randrange(100_000, LARGEST_VALUE))


def eventually_missing(get, what):
    """Waits until `get` finds nothing, for ten seconds at most."""
    deadline = time.monotonic() + 10
    while get() is not None:
        check(time.monotonic() < deadline, what, "is still there")
        time.sleep(0.02)


def in_threads(work, count):
    """Runs `work` in so many threads; what one raises is raised here."""
    errors = []

    def guarded():
        try:
            work()
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=guarded) for _ in range(count)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if errors:
        raise errors[0]


def stores_batches(client, rng, count):
    """So many random keys and values, stored in batches and read in batches by a client with `set_multi` and `get_multi`:
    nothing is ever wrong, and most of it is there."""
    model = {}
    while len(model) < count:
        model[random_key(rng)] = random_value(rng)
    keys = list(model)
    for start in range(0, len(keys), 100):
        batch = {key: model[key] for key in keys[start : start + 100]}
        equal(client.set_multi(batch), [], "set_multi")
    found = 0
    for start in range(0, len(keys), 100):
        for key, value in client.get_multi(keys[start : start + 100]).items():
            equal(value, model[key], key)
            found += 1
    print(f"    {len(model) - found} of {len(model)} were evicted", flush=True)
    check(found > len(model) // 2, "more than half is gone", found)


def reads_its_own(connect, seed):
    """Eight threads at once, each with keys of its own and a client that `connect` gives it: each reads what it wrote."""
    failures = []

    def work():
        client = connect()
        generator = random.Random(seed ^ threading.get_ident())
        name = f"t{threading.get_ident()}"
        for number in range(500):
            key, value = f"{name}-{number % 50}", generator.randbytes(generator.randrange(2000))
            client.set(key, value)
            if client.get(key) != value:
                failures.append(key)

    in_threads(work, 8)
    equal(failures, [], "values that another thread's replaced")


def run(tests):
    """Runs the tests in their order and prints each with its time."""
    for test in tests:
        start = time.monotonic()
        test()
        print(f"  {test.__name__}: {time.monotonic() - start:.2f} s", flush=True)
