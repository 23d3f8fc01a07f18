"""Walks the cache service's contract, and knows nothing else of it: section 11, line by line.

usage: cache_client.py URL [TOKEN]
Prints one line for each promise; ends with 1 when one is not kept.
"""

import itertools
import json
import sys
import threading
import time
import urllib.error
import urllib.request

BASE, TOKEN = sys.argv[1].rstrip("/"), (sys.argv[2] if len(sys.argv) > 2 else None)
WALKER = f"walker-{time.time()}"
sent_until_now = itertools.count()
broken = []


def call(method, path, body=None, headers=None):
    """Status, headers and JSON of an answer."""
    sent = {"Content-Type": "application/json"} if body is not None else {}
    if TOKEN:
        sent["Authorization"] = "Bearer " + TOKEN
    else:
        # No more than 50 requests each: a caller may make 100 in a minute.
        sent["X-User"] = f"{WALKER}-{next(sent_until_now) // 50}"
    sent.update(headers or {})
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(BASE + path, data=data, headers=sent, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            status, head, text = answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        status, head, text = error.code, error.headers, error.read()
    try:
        return status, head, json.loads(text)
    except ValueError:
        return status, head, text.decode(errors="replace")


def get(path, **more):
    return call("GET", path, **more)


def post(path, body=None, **more):
    return call("POST", path, body, **more)


def promise(what, kept, seen=None):
    print(("kept    " if kept else "BROKEN  ") + what + ("" if kept else f": {seen!r}"))
    if not kept:
        broken.append(what)


def problem(what, answer, status):
    """Errors are problem+json, with `detail`."""
    got, head, body = answer
    kind = head.get("Content-Type", "").split(";")[0]
    kept = got == status and kind == "application/problem+json" and bool(body.get("detail"))
    promise(f"{what}: {status} as problem+json with a detail", kept, (got, kind, body))
    return body


def health():
    status, _, body = get("/healthz")
    known = ("closed", "open", "half_open")
    promise("/healthz answers 200 and ok", status == 200 and body["ok"] is True, body)
    promise("/healthz tells of valkey", body["valkey"] is True, body)
    promise("/healthz knows three states", body["circuit_breaker"] in known, body)


def reads():
    ada, grace = ("Ada", "Engineer"), ("Grace", "Scientist")
    for uid, (name, title) in ((1, ada), (2, grace)):
        status, _, body = get(f"/users/{uid}")
        same = status == 200 and (body["name"], body["title"]) == (name, title)
        promise(f"user {uid} is {name}, {title}", same, body)
    for strategy in ("cache-aside", "singleflight", "swr", "negative"):
        for _ in range(2):
            status, _, body = get(f"/users/1?strategy={strategy}")
            promise(f"strategy {strategy} finds user 1", (status, body["name"]) == (200, "Ada"), body)
            problem(f"strategy {strategy} misses user 9999", get(f"/users/9999?strategy={strategy}"), 404)
    detail = problem("an unknown strategy", get("/users/1?strategy=lru"), 400)["detail"]
    names = ("cache-aside", "singleflight", "swr", "negative")
    promise("it names the valid ones", all(name in detail for name in names), detail)
    for good in ("ttl=1", "ttl=86400", "stale_grace=0", "stale_grace=3600", "ttl=5&stale_grace=7"):
        promise(f"{good} is taken", get(f"/users/1?{good}")[0] == 200)
    for bad in ("ttl=0", "ttl=86401", "ttl=x", "stale_grace=-1", "stale_grace=3601"):
        problem(f"{bad} is out of range", get(f"/users/1?{bad}"), 422)
    problem("an id that is no number", get("/users/ada"), 422)


def writes():
    uid = int(time.time()) % 1_000_000 + 1_000
    status, _, body = post(f"/users/{uid}", {"name": "Lin", "title": "Poet", "mode": "write-through"})
    promise("a write-through answers ok and its mode",
            status == 200 and body["ok"] is True and body["mode"] == "write-through", body)
    promise("with the user as it is now",
            (body["user"]["name"], body["user"]["title"]) == ("Lin", "Poet"), body)
    promise("and is read at once", get(f"/users/{uid}")[2]["name"] == "Lin")
    status, _, body = post(f"/users/{uid}", {"title": "Printer", "mode": "write-behind"})
    promise("a write-behind answers ok and its mode",
            status == 200 and body["ok"] is True and body["mode"] == "write-behind", body)
    promise("and is read at once", get(f"/users/{uid}")[2]["title"] == "Printer")
    promise("what it did not name stays", get(f"/users/{uid}")[2]["name"] == "Lin")
    promise("name and title may be left out", post(f"/users/{uid}", {})[0] == 200)
    for body in ({"name": ""}, {"name": "x" * 101}, {"title": ""}, {"title": "x" * 101}, {"name": 5}):
        shown = json.dumps(body)[:24]
        problem(f"{shown} is out of range", post(f"/users/{uid}", body), 422)
    promise("100 characters are taken", post(f"/users/{uid}", {"name": "ữ" * 100})[0] == 200)
    problem("an unknown mode", post(f"/users/{uid}", {"mode": "around"}), 422)


def invalidation():
    promise("/invalidate answers 200", post("/invalidate/1")[0] == 200)
    promise("and the value is there again", get("/users/1")[2]["name"] == "Ada")


def recomputation():
    statuses = []
    threads = [threading.Thread(target=lambda: statuses.append(post("/recompute")[0])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    promise("of four recomputations one runs and 423 is told the others",
            sorted(statuses) == [200, 423, 423, 423], statuses)


def bulk():
    status, _, body = get("/bulk/users?ids=1,2,9999&ttl=60")
    promise("a bulk read is a map without the missing", status == 200 and sorted(body) == ["1", "2"], body)
    promise("of objects", body["2"]["name"] == "Grace", body)
    many = ",".join(str(uid) for uid in range(1, 501))
    promise("500 ids are taken", get(f"/bulk/users?ids={many}")[0] == 200)
    problem("501 ids", get(f"/bulk/users?ids={many},501"), 422)


def heavy():
    promise("/calc/heavy answers", get("/calc/heavy?n=20")[0] == 200)
    promise("n = 90 is taken", get("/calc/heavy?n=90")[0] == 200)
    problem("n = 91 is out of range", get("/calc/heavy?n=91"), 422)


def statistics():
    status, _, body = get("/stats")
    promise("/stats answers 200", status == 200, body)
    promise("with keys, memory, connection and time",
            all(name in body for name in ("total_keys", "memory_usage", "connected", "uptime_seconds")), body)
    promise("with a hit ratio", any("hit_ratio" in name for name in body), body)
    promise("with counters for each strategy",
            all(name in body["strategies"] for name in ("cache-aside", "singleflight", "swr", "negative")), body)
    problem("an unknown path", get("/nothing"), 404)


def limit(per_window):
    """As the caller that a header names, until the limiter refuses."""
    user = {"X-User": f"{WALKER}-often"}
    began, asked, refused = time.monotonic(), 0, []
    while not refused and asked < 20 * per_window:
        answer = get("/users/1", headers=user)
        asked += 1
        refused = [answer] if answer[0] == 429 else []
    # Tokens come back meanwhile, and a process counts by itself while its server is slow to answer.
    most = 2 * per_window * (1 + (time.monotonic() - began) / 60) + 5
    promise(f"after {per_window} requests a caller is refused", refused and per_window < asked <= most, (asked, most))
    if refused:
        problem("a caller who asks too often", refused[0], 429)
        wait = refused[0][1].get("Retry-After", "")
        promise("with Retry-After in seconds", wait.isdigit() and int(wait) >= 1, wait)
    other = get("/users/1", headers={"X-User": f"{WALKER}-other"})
    promise("another caller is served", other[0] == 200, other[0])


for walk in (health, reads, writes, invalidation, bulk, heavy, recomputation, statistics):
    walk()
if not TOKEN:
    limit(100)
print(f"{len(broken)} broken")
sys.exit(1 if broken else 0)
