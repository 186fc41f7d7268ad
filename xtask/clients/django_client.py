"""Django's cache framework over pymemcache, as a site uses it: versions, prefixes, expiry, sessions, cached pages, and the async names."""

import asyncio
import random

import django
from django.conf import settings

from common import arguments, check, equal, eventually_missing, in_threads, random_key, run

options = arguments()
rng = random.Random(options.seed)
BACKEND = {
    "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
    "LOCATION": f"127.0.0.1:{options.port}",
    "OPTIONS": {"timeout": 20, "connect_timeout": 20},
}
settings.configure(
    CACHES={
        "default": BACKEND,
        "other": {**BACKEND, "KEY_PREFIX": "other", "VERSION": 7, "TIMEOUT": None},
        "brief": {**BACKEND, "KEY_PREFIX": "brief", "TIMEOUT": 1},
    },
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    SECRET_KEY="only the tests know it",
    INSTALLED_APPS=["django.contrib.sessions"],
    ALLOWED_HOSTS=["testserver"],
    USE_TZ=True,
)
django.setup()

# These read the settings when they are imported.
from django.contrib.sessions.backends.cache import SessionStore  # noqa: E402
from django.core.cache import cache, caches  # noqa: E402
from django.core.cache.backends.base import InvalidCacheKey  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.test import RequestFactory  # noqa: E402
from django.views.decorators.cache import cache_page  # noqa: E402


def stores():
    cache.set("k", "v")
    equal(cache.get("k"), "v", "get")
    equal(cache.add("k", "x"), False, "add over an item")
    equal(cache.add("new", "x"), True, "add")
    equal(cache.get("missing"), None, "get of nothing")
    equal(cache.get("missing", 5), 5, "default")
    check("k" in cache and "missing" not in cache, "in")
    cache.set("none", None)
    equal(cache.get("none", 5), None, "None is a value")
    equal(cache.get_or_set("made", lambda: [1, 2]), [1, 2], "get_or_set makes")
    equal(cache.get_or_set("made", lambda: 0), [1, 2], "get_or_set keeps")
    equal(cache.delete("k"), True, "delete")
    equal(cache.delete("k"), False, "delete of nothing")
    equal(cache.get("k"), None, "get after delete")


def objects():
    """Django marks integers apart from pickles by flags, so that they can be counted with."""
    for value in (1, -5, 2**70, True, "schl\u00fcssel", b"\r\nEND\r\n", 1.5, {"a": [1, (2, 3)]}, {1, 2}, ""):
        cache.set("typed", value)
        found = cache.get("typed")
        equal(found, value, "an object")
        check(type(found) is type(value), "its type", type(found), type(value))


def many():
    values = {f"many-{number}": {"number": number} for number in range(500)}
    equal(cache.set_many(values), [], "set_many")
    equal(cache.get_many(values), values, "get_many")
    equal(cache.get_many(["missing", "many-3"]), {"many-3": {"number": 3}}, "get_many with a miss")
    cache.delete_many(values)
    equal(cache.get_many(values), {}, "get_many after delete_many")


def counting():
    cache.set("n", 10)
    equal(cache.incr("n"), 11, "incr")
    equal(cache.incr("n", 9), 20, "incr by 9")
    equal(cache.decr("n", 15), 5, "decr")
    equal(cache.decr("n", 15), 0, "decr stops at 0")
    equal(cache.get("n"), 0, "get of what was counted with")
    for count in (cache.incr, cache.decr):
        try:
            count("missing")
        except ValueError:
            pass
        else:
            raise AssertionError("nothing was counted with")
    cache.set("sum", 0)
    in_threads(lambda: [cache.incr("sum") for _ in range(200)], 4)
    equal(cache.get("sum"), 800, "every increment counts")


def versions():
    cache.set("v", "one")
    cache.set("v", "two", version=2)
    equal(cache.get("v"), "one", "version 1 is the default")
    equal(cache.get("v", version=2), "two", "version 2")
    equal(cache.get("v", version=3), None, "version 3")
    equal(cache.get_many(["v"], version=2), {"v": "two"}, "get_many of a version")
    equal(cache.delete("v", version=2), True, "delete of a version")
    equal(cache.incr_version("v"), 2, "incr_version")
    equal(cache.get("v"), None, "the old version is gone")
    equal(cache.get("v", version=2), "one", "it moved")
    equal(cache.decr_version("v", version=2), 1, "decr_version")
    equal(cache.get("v"), "one", "it moved back")


def prefixes():
    other = caches["other"]
    cache.set("p", "default")
    other.set("p", "other")
    equal(cache.get("p"), "default", "the default cache")
    equal(other.get("p"), "other", "the cache with a prefix")
    equal(other.make_key("p"), "other:7:p", "the key on the wire")
    equal(other.delete("p"), True, "delete")
    equal(cache.get("p"), "default", "the default cache after the other's delete")


def lifetimes():
    cache.set("short", 1, timeout=1)
    cache.set("long", 1, timeout=1000)
    cache.set("months", 1, timeout=90 * 24 * 3600)  # Sent as a point in time.
    cache.set("ever", 1, timeout=None)
    cache.set("kept", 1, timeout=3)  # The clock may strike before the touch.
    cache.set("at-once", 1, timeout=0)
    equal(cache.get("at-once"), None, "a timeout of 0")
    cache.set("past", 1, timeout=-1)
    equal(cache.get("past"), None, "a timeout that is over")
    equal(cache.touch("kept", 1000), True, "touch")
    equal(cache.touch("missing", 1000), False, "touch of nothing")
    cache.set("ended", 1)
    # memcached touches with a deadline that is over, and says that it did.
    equal(cache.touch("ended", 0), True, "touch with a timeout of 0")
    equal(cache.get("ended"), None, "after a touch with a timeout of 0")
    caches["brief"].set("by-default", 1)
    caches["brief"].set_many({"by-default-2": 2})
    eventually_missing(lambda: cache.get("short"), "a timeout of one second")
    eventually_missing(lambda: caches["brief"].get("by-default"), "the default timeout")
    eventually_missing(lambda: caches["brief"].get("by-default-2"), "the default timeout of set_many")
    for key in ("long", "months", "ever", "kept"):
        equal(cache.get(key), 1, key)


def sessions():
    session = SessionStore()
    session["user"] = 42
    session["basket"] = ["apple", {"pear": rng.random()}]
    session.save(must_create=True)
    again = SessionStore(session.session_key)
    equal(dict(again.items()), dict(session.items()), "a session read by another process")
    check(again.exists(session.session_key), "exists")
    before = session.session_key
    again.cycle_key()
    equal(SessionStore(before).get("user"), None, "the old key after cycle_key")
    equal(SessionStore(again.session_key)["user"], 42, "the new key")
    again.flush()
    equal(SessionStore(again.session_key or before).get("user"), None, "after flush")
    brief = SessionStore()
    brief["user"] = 1
    brief.set_expiry(1)
    brief.save(must_create=True)
    key = brief.session_key
    eventually_missing(lambda: SessionStore(key).get("user"), "a session of one second")


def pages():
    """The decorator that keeps whole pages: the view runs once for each address."""
    calls = []

    @cache_page(100, key_prefix=f"pages-{options.seed}")
    def view(request):
        calls.append(request.get_full_path())
        return HttpResponse(f"page {len(calls)} of {request.get_full_path()}")

    requests = RequestFactory()
    first = view(requests.get("/a")).content
    equal(view(requests.get("/a")).content, first, "the page again")
    check(view(requests.get("/b")).content != first, "another page")
    equal(calls, ["/a", "/b"], "calls of the view")


def random_data():
    values = {random_key(rng)[:200]: rng.randbytes(rng.randrange(3000)) for _ in range(2000)}
    values["a-large-one"] = rng.randbytes(900_000)
    keys = list(values)
    for start in range(0, len(keys), 100):
        equal(cache.set_many({key: values[key] for key in keys[start : start + 100]}), [], "set_many")
    found = {}
    for start in range(0, len(keys), 100):
        found.update(cache.get_many(keys[start : start + 100]))
    equal({key: value for key, value in found.items() if values[key] != value}, {}, "wrong values")
    check(len(found) > len(values) // 2, "more than half is gone", len(found))
    for key in ("with blank", "x" * 251, "line\r\nend"):
        try:
            cache.set(key, 1)
        except InvalidCacheKey:
            continue
        raise AssertionError(f"{key!r} is a key")


def asynchronously():
    async def work():
        await cache.aset("async", 1)
        equal(await cache.aget("async"), 1, "aget")
        equal(await cache.aincr("async", 4), 5, "aincr")
        await cache.aset_many({"a1": 1, "a2": 2})
        equal(await cache.aget_many(["a1", "a2"]), {"a1": 1, "a2": 2}, "aget_many")
        equal(await cache.atouch("a1", 100), True, "atouch")
        equal(await cache.adelete("a1"), True, "adelete")

    asyncio.run(work())


def clearing():
    cache.set("cleared", 1)
    caches["other"].set("cleared", 1)
    cache.clear()
    equal(cache.get("cleared"), None, "after clear")
    equal(caches["other"].get("cleared"), None, "clear empties the server, whatever the prefix")
    cache.set("cleared", 2)
    equal(cache.get("cleared"), 2, "set after clear")
    cache.close()


run(
    [
        stores,
        objects,
        many,
        counting,
        versions,
        prefixes,
        lifetimes,
        sessions,
        pages,
        random_data,
        asynchronously,
        clearing,
    ]
)
