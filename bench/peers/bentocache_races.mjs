// BentoCache's correctness, as RateBox's cases `races-2p` and `crowd` of WCACHE: two processes with memory, Redis and its bus;
// rows with versions on Redis. Without arguments this is the parent, which tells two copies of itself what to do.
import { createRequire } from 'node:module';
import { fork } from 'node:child_process';
import { fileURLToPath, pathToFileURL } from 'node:url';
import path from 'node:path';
const env = process.env.BENCH_ENV || path.join(process.env.TMPDIR || '/tmp', 'bench-env');
const need = createRequire(path.join(env, process.env.BENCH_NODE || 'node-bento', 'package.json'));
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const RACES = Number(process.env.WCACHE_RACES || 1000), AT_ONCE = 100, LOAD_MS = 20, CHANGES_MS = 24, HEARD_WITHIN_MS = 500;
const CROWDS = 20, READERS = 500, CROWD_LOAD_MS = 100;

async function child() {
  const imp = (name) => import(pathToFileURL(need.resolve(name)).href);
  const { BentoCache, bentostore } = await imp('bentocache');
  const { redisDriver, redisBusDriver } = await imp('bentocache/drivers/redis');
  const { memoryDriver } = await imp('bentocache/drivers/memory');
  const { Redis } = need('ioredis');
  const connection = { host: '127.0.0.1', port: Number(process.env.REDIS_PORT) };
  const store = bentostore().useL1Layer(memoryDriver({ maxItems: 200000 })).useL2Layer(redisDriver({ connection: new Redis(connection) }));
  const bento = new BentoCache({ default: 'c', stores: { c: store.useBus(redisBusDriver({ connection })) } });
  const rows = new Redis(connection), counted = { loads: 0, outrun: 0 };
  const load = async (key, takes) => {
    counted.loads++;
    const version = Number(await rows.get('row:' + key)) || 0;
    await sleep(takes);
    if (Number(await rows.get('told:' + key)) > version) counted.outrun++;
    return version;
  };
  const does = {
    read: (key, takes) => bento.getOrSet({ key, ttl: '1h', factory: () => load(key, takes) }),
    write: async (key) => { const version = await rows.incr('row:' + key); await bento.delete({ key }); await rows.incr('told:' + key); return version; },
    crowd: async (key, readers, takes) => { await Promise.all(Array.from({ length: readers }, () => does.read(key, takes))); return 0; },
    figures: async () => counted,
  };
  await does.read('first', 0);
  await sleep(300); // The bus subscribes behind the first call.
  process.on('message', async ([id, verb, ...words]) => process.send([id, await does[verb](...words)]));
  process.send([0, 'ready']);
}

async function start() {
  const started = fork(fileURLToPath(import.meta.url), ['child']), asked = new Map();
  let next = 1;
  started.on('exit', (code) => { if (code) process.exit(1); });
  started.on('message', ([id, answer]) => { asked.get(id)(answer); asked.delete(id); });
  await new Promise((ready) => asked.set(0, ready));
  const ask = (...words) => new Promise((done) => { const id = next++; asked.set(id, done); started.send([id, ...words]); });
  return { ask, end: () => started.kill() };
}

async function isOld(node, key, version, patience) {
  const began = performance.now();
  for (;;) {
    if (await node.ask('read', key, 0) >= version) return false;
    if (performance.now() - began >= patience) return true;
    await sleep(1);
  }
}

async function race(reader, writer, number) {
  const key = `race-${number}`;
  await writer.ask('write', key);
  const change = sleep(1 + number % CHANGES_MS).then(() => writer.ask('write', key));
  const [, version] = await Promise.all([reader.ask('read', key, LOAD_MS), change]);
  const old = await Promise.all([isOld(reader, key, version, HEARD_WITHIN_MS), isOld(writer, key, version, 0)]);
  return old.includes(true) ? 1 : 0;
}

async function parent() {
  const nodes = [await start(), await start()];
  const sum = async (figure) => { const all = await Promise.all(nodes.map((node) => node.ask('figures'))); return all.reduce((so_far, one) => so_far + one[figure], 0); };
  const emit = (peer, figures) => console.log(JSON.stringify({ workload: 'WCACHE', peer, ...figures }));
  let tries = 0, stale = 0;
  while (await sum('outrun') < RACES && tries < 10 * RACES) {
    const [reader, writer] = tries / AT_ONCE % 2 ? nodes : [nodes[1], nodes[0]];
    const seen = await Promise.all(Array.from({ length: AT_ONCE }, (_, at) => race(reader, writer, tries + at)));
    tries += AT_ONCE; stale += seen.reduce((so_far, one) => so_far + one, 0);
  }
  emit('bentocache-races-2p', { races: await sum('outrun'), stale, tries, loads: await sum('loads') });
  const calls = [];
  for (let number = 0; number < CROWDS; number++) {
    const before = await sum('loads');
    await Promise.all(nodes.map((node) => node.ask('crowd', `cold-${number}`, READERS, CROWD_LOAD_MS)));
    calls.push(await sum('loads') - before);
  }
  emit('bentocache-crowd', { crowds: CROWDS, loads: calls.reduce((a, b) => a + b, 0), loader_calls: Math.max(...calls) });
  nodes.forEach((node) => node.end());
}

await (process.argv[2] === 'child' ? child() : parent());
