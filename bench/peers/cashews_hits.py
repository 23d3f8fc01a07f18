"""cashews hits alone: in memory, and on Redis with 64 readers. Values of 256 bytes."""
import array, asyncio, json, os, resource, time
from cashews import Cache

VALUE = "x" * 256


def cpu_us():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return (used.ru_utime + used.ru_stime) * 1e6


def emit(peer, ops, took, cpu):
    line = {"workload": "WCACHE", "peer": peer, "ops": ops, "ops_per_s": round(ops / took), "cpu_us_per_op": round(cpu / ops, 2)}
    print(json.dumps(line), flush=True)


def reading(cache):
    @cache(ttl="1h", key="item:{key}")
    async def get(key):
        return VALUE

    return get


async def memory():
    cache = Cache()
    cache.setup("mem://", size=200_000)
    get, order = reading(cache), array.array("I")
    with open(os.path.join(os.environ["BENCH_ENV"], "data", "zipf.u32"), "rb") as file:
        order.frombytes(file.read())
    for key in range(100_000):
        await get(key)
    ops, before, began = 200_000, cpu_us(), time.perf_counter()
    for at in range(ops):
        await get(order[at])
    emit("cashews-l1", ops, time.perf_counter() - began, cpu_us() - before)


async def shared():
    cache = Cache()
    cache.setup(os.environ["REDIS_URL"], max_connections=64, client_side=False)
    get = reading(cache)
    await asyncio.gather(*(get(key) for key in range(10_000)))
    ops, before, began = 0, cpu_us(), time.perf_counter()

    async def reader(key):
        nonlocal ops
        while time.perf_counter() - began < 5:
            await get(key)
            key, ops = (key + 104_729) % 10_000, ops + 1

    await asyncio.gather(*(reader(at * 7_919 % 10_000) for at in range(64)))
    emit("cashews-l2", ops, time.perf_counter() - began, cpu_us() - before)


asyncio.run(memory())
asyncio.run(shared())
