"""Fills the stream that a RustStream service reads: `preload.py COUNT`, 300 bytes of JSON an entry."""
import os, sys
import redis

COUNT, CHUNK = int(sys.argv[1]), 1000
BODY = '{"data":"' + "x" * 289 + '"}'
server = redis.Redis(port=int(os.environ["REDIS_PORT"]))
for at in range(0, COUNT, CHUNK):
    with server.pipeline(transaction=False) as pipe:
        for _ in range(min(CHUNK, COUNT - at)):
            pipe.execute_command("XADD", "bus_bench", "*", "_payload", BODY)
        pipe.execute()
