"""Reads entries of one stream as a member of a group with redis-py and prints each as one JSON
object a line.

Usage: redis_consumer.py URL STREAM COUNT
"""

import json
import sys

import redis

url, stream, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
client = redis.from_url(url, decode_responses=True)
client.xgroup_create(stream, "python", id="0", mkstream=True)
while count > 0:
    got = client.xreadgroup("python", "one", {stream: ">"}, count=100, block=20_000)
    if not got:
        sys.exit(f"{count} entries are missing")
    # A list of pairs, or a mapping of lists where the client speaks RESP3.
    batches = got.items() if isinstance(got, dict) else got
    for _, entries in batches:
        if entries and isinstance(entries[0], list):
            entries = [entry for part in entries for entry in part]
        for entry, fields in entries:
            fields["data"] = json.loads(fields["data"])
            print(json.dumps(fields), flush=True)
            client.xack(stream, "python", entry)
            count -= 1
