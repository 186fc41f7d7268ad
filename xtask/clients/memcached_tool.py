"""memcached-tool, the Perl script that comes with memcached: what it prints about a server is what the server holds."""

import argparse
import random
import re
import subprocess
import time

from pymemcache.client.base import Client

from common import LARGEST_VALUE, check, equal, random_key, random_value, run

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
parser.add_argument("--tool", required=True, help="where memcached-tool is")
options = parser.parse_args()
print(f"seed {options.seed}", flush=True)
rng = random.Random(options.seed)
client = Client(("127.0.0.1", options.port), default_noreply=False, timeout=20, connect_timeout=20)
model = {}
"""What was stored: value, flags, exptime as a point in time or 0, for each key."""


def tool(*words):
    """What the tool prints; its errors are ours."""
    command = ["perl", options.tool, f"127.0.0.1:{options.port}", *words]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    equal(done.returncode, 0, f"{words}: {done.stderr.decode(errors='replace')}")
    # The tool says what it does there; anything else is a warning of Perl's about an answer.
    said = [line for line in done.stderr.decode().splitlines() if not line.startswith("Dumping memcache")]
    equal(said, [], f"{words}: warnings")
    return done.stdout


def fields(output, first_line):
    """Name and value of each line of a table, after its first line."""
    lines = output.decode().splitlines()
    check(first_line in lines[0], "the first line", lines[0])
    return dict(line.split(None, 1) for line in lines[1:])


def parse_dump(output):
    """The `add` commands that a dump consists of."""
    found, at = {}, 0
    while at < len(output):
        end = output.index(b"\r\n", at)
        word, key, flags, exptime, length = output[at:end].split(b" ")
        equal(word, b"add", "the command of a dump")
        value = output[end + 2 : end + 2 + int(length)]
        at = end + 2 + int(length)
        equal(output[at : at + 2], b"\r\n", "the end of a value")
        at += 2
        check(key not in found, key, "twice")
        found[key] = (value, int(flags), int(exptime))
    return found


def same_items(found, wanted):
    """Keys, values and flags are the same, and points in time to the second."""
    equal(sorted(found), sorted(wanted), "keys")
    for key, (value, flags, exptime) in wanted.items():
        equal(found[key][:2], (value, flags), key)
        # A server's seconds begin when it was started, so a point in time can be one off.
        check(abs(found[key][2] - exptime) <= 1, key, found[key][2], exptime)


def empty():
    """A server without an item has a table without a row, and a dump without a command."""
    lines = tool("display").decode().splitlines()
    equal(lines[0].split()[:5], ["#", "Item_Size", "Max_age", "Pages", "Count"], "the head of the table")
    equal(sum(int(line.split()[4]) for line in lines[1:]), 0, "items")
    equal(tool("dump"), b"", "dump")
    equal(tool("keys"), b"", "keys")


def fill():
    """Keys that a dump has to escape, values that look like answers, and random ones."""
    hour = int(time.time()) + 3600
    for key in ("plain", "per%cent", "a=b&c+d", "schl\u00fcssel", "\"quoted\"", "x" * 250):
        name = key.encode()
        model[name] = (b"END\r\nVALUE x 0 1\r\n", rng.randrange(1 << 32), rng.choice((0, hour)))
    while len(model) < 600:
        exptime = rng.choice((0, hour + rng.randrange(100_000)))
        model[random_key(rng).encode()] = (random_value(rng), rng.randrange(1 << 16), exptime)
    model[b"large"] = (rng.randbytes(LARGEST_VALUE // 2), 0, 0)
    for key, (value, flags, exptime) in model.items():
        equal(client.set(key, value, expire=exptime, flags=flags), True, f"set {key}")


def display():
    """A row for each class that has pages, and all items in them."""
    rows = tool("display").decode().splitlines()[1:]
    check(rows, "a row")
    count = 0
    for row in rows:
        line = row.split()
        equal(len(line), 9, row)
        check(re.fullmatch(r"\d+(\.\d)?[BK]", line[1]), "Item_Size", row)
        check(re.fullmatch(r"\d+s", line[2]) and int(line[2][:-1]) < 1000, "Max_age", row)
        check(int(line[3]) > 0, "Pages", row)
        check(line[5] in ("yes", "no"), "Full?", row)
        equal([int(word) for word in line[6:]], [0, 0, 0], f"nothing was evicted: {row}")
        count += int(line[4])
    equal(count, len(model), "items in the table")
    equal(tool(), tool("display"), "display without its name")


def stats():
    table = fields(tool("stats"), "Value")
    asked = {name.decode(): value for name, value in client.stats().items()}
    equal(sorted(table), sorted(asked), "names")
    equal(int(table["curr_items"]), len(model), "curr_items")
    equal(int(table["cmd_set"]), len(model), "cmd_set")
    equal(int(table["evictions"]), 0, "evictions")
    check(int(table["bytes"]) > sum(len(value) for value, _, _ in model.values()), "bytes")
    asked = {name.decode() for name in client.stats("settings")}
    table = fields(tool("settings"), "Value")
    equal(set(table) - asked, set(), "settings")
    equal(table["cas_enabled"], "yes", "cas_enabled")
    equal(fields(tool("sizes"), "Count"), {"sizes_status": "disabled"}, "sizes")


def dump():
    same_items(parse_dump(tool("dump")), model)
    # A server that says OK before its lines, as memcached's later versions do, has the tool count that as one.
    uncounted = 1 - len(parse_dump(tool("dump", "1")))
    check(uncounted in (0, 1), "keys of a dump of one", uncounted)
    for limit in (2, 17, 100):
        some = parse_dump(tool("dump", str(limit)))
        equal(len(some), limit - uncounted, "keys of a limited dump")
        check(all(model[key][0] == value for key, (value, _, _) in some.items()), "a limited dump")


def keys():
    lines = tool("keys").decode().splitlines()
    escaped = [re.match(r"key=(\S+) exp=(-?\d+) la=\d+ cas=\d+ fetch=(yes|no) cls=\d+ size=\d+", line) for line in lines]
    check(all(escaped), "lines", lines[:2])
    plain = [re.sub(b"%(..)", lambda hit: bytes([int(hit[1], 16)]), line[1].encode()) for line in escaped]
    equal(sorted(plain), sorted(model), "keys")
    check(all((model[key][2] == 0) == (line[2] == "-1") for key, line in zip(plain, escaped)), "exp of -1 means never")
    check(len(tool("keys", "25").splitlines()) in (24, 25), "a limit")


def restore():
    """A dump is made of commands: they bring an emptied server back to what it held."""
    output = tool("dump")
    check(client.flush_all(), "flush_all")
    equal(client.get("plain"), None, "after flush_all")
    # On a connection where all is sent before an answer is read, as `nc` does it.
    answers = []
    for key, (value, flags, exptime) in parse_dump(output).items():
        answers.append(client.add(key, value, expire=exptime, flags=flags))
    equal(answers, [True] * len(model), "adds")
    same_items(parse_dump(tool("dump")), model)


run([empty, fill, display, stats, dump, keys, restore])
