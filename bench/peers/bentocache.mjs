// BentoCache hits alone: in memory (its default, which serialises values there), and on Redis with 64 readers. Values of 256 bytes.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import path from 'node:path';
const env = process.env.BENCH_ENV || path.join(process.env.TMPDIR || '/tmp', 'bench-env');
const need = createRequire(path.join(env, process.env.BENCH_NODE || 'node-bento', 'package.json'));
const imp = (name) => import(pathToFileURL(need.resolve(name)).href);
const { BentoCache, bentostore } = await imp('bentocache');
const { redisDriver } = await imp('bentocache/drivers/redis');
const { memoryDriver } = await imp('bentocache/drivers/memory');
const { Redis } = need('ioredis');
const bytes = readFileSync(path.join(env, 'data/zipf.u32'));
const order = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
const value = 'x'.repeat(256);
const cpu = () => { const used = process.cpuUsage(); return used.user + used.system; };
const emit = (peer, figures) => console.log(JSON.stringify({ workload: 'WCACHE', peer, ...figures }));
const get = (bento, key) => bento.getOrSet({ key: `item:${key}`, ttl: '1h', factory: () => value });

// `held` = the keys that are in memory, `reads` = reads of these alone.
async function memory(name, serialize, held, reads) {
  const store = bentostore().useL1Layer(memoryDriver({ maxItems: held.length, serialize }));
  const bento = new BentoCache({ default: 'c', stores: { c: store } });
  for (const key of held) await get(bento, key);
  const OPS = 1000000, before = cpu(), began = performance.now();
  for (let at = 0; at < OPS; at++) await get(bento, reads[at]);
  const ms = performance.now() - began;
  emit(name, { ops: OPS, held: held.length, ops_per_s: Math.round(OPS / ms * 1e3), cpu_us_per_op: Math.round((cpu() - before) / OPS * 1e3) / 1e3 });
}

function mostRead(count) {
  const times = new Uint32Array(100000);
  for (const key of order) times[key]++;
  return Array.from(times.keys()).sort((a, b) => times[b] - times[a]).slice(0, count);
}

async function shared() {
  const connection = new Redis({ host: '127.0.0.1', port: Number(process.env.REDIS_PORT) });
  const bento = new BentoCache({ default: 'c', stores: { c: bentostore().useL2Layer(redisDriver({ connection })) } });
  for (let key = 0; key < 10000; key++) await get(bento, key);
  const before = cpu(), began = performance.now();
  let ops = 0;
  const reader = async (from) => {
    for (let key = from; performance.now() - began < 5000; key = (key + 104729) % 10000) { await get(bento, key); ops++; }
  };
  await Promise.all(Array.from({ length: 64 }, (_, reader_at) => reader(reader_at * 7919 % 10000)));
  const ms = performance.now() - began;
  emit('bentocache-l2', { ops, ops_per_s: Math.round(ops / ms * 1e3), cpu_us_per_op: Math.round((cpu() - before) / ops * 1e2) / 1e2 });
}

const capped = mostRead(20000), isCapped = new Set(capped);
const reads = order.filter((key) => isCapped.has(key));
await memory('bentocache-l1', true, capped, reads);
await memory('bentocache-l1-references', false, capped, reads);
await memory('bentocache-l1-all', true, Array.from({ length: 100000 }, (_, key) => key), order);
await shared();
process.exit(0);
