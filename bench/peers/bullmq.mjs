// BullMQ in Node, with its packages in $BENCH_ENV/node. `preload` fills the queue by addBulk, `work` drains it with 100 jobs at a time.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import path from 'node:path';
const env = process.env.BENCH_ENV || path.join(process.env.TMPDIR || '/tmp', 'bench-env');
const { Queue, Worker } = createRequire(path.join(env, 'node', 'package.json'))('bullmq');
const connection = { host: '127.0.0.1', port: Number(process.env.REDIS_PORT) };
const N = Number(process.env.BUS_MESSAGES || 100000), CONC = 100;
const queue = new Queue('bus_bench', { connection });
const dataset = () => new Promise((resolve, reject) => {
  let told = '';
  createConnection(connection.port, connection.host, function () { this.write('INFO memory\r\nQUIT\r\n'); })
    .on('data', (bytes) => (told += bytes)).on('error', reject)
    .on('close', () => resolve(Number(told.match(/used_memory_dataset:(\d+)/)[1])));
});
const redisCpu = () => {
  const fields = readFileSync(`/proc/${process.env.REDIS_PID}/stat`, 'utf8').split(') ').pop().split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
};
const ownCpu = () => { const used = process.cpuUsage(); return (used.user + used.system) / 1e6; };
if (process.argv[2] === 'preload') {
  const job = { name: 'v', data: { data: 'x'.repeat(289) }, opts: { removeOnComplete: true, attempts: 3 } };
  for (let at = 0; at < N; at += 1000) await queue.addBulk(Array.from({ length: Math.min(1000, N - at) }, () => job));
} else {
  const stored = await dataset() / N;
  let done = 0, fin; const end = new Promise((resolve) => (fin = resolve));
  const [began, own, redis] = [performance.now(), ownCpu(), redisCpu()];
  const worker = new Worker('bus_bench', async () => {}, { connection: { ...connection, maxRetriesPerRequest: null }, concurrency: CONC });
  worker.on('completed', () => { if (++done === N) fin(); });
  worker.on('failed', (job, error) => { console.error(error); process.exit(1); });
  await end;
  const seconds = (performance.now() - began) / 1000, each = (s) => Math.round(s / N * 1e8) / 100;
  const figures = { messages: N, msg_per_s: Math.round(N / seconds), client_cpu_us: each(ownCpu() - own), server_cpu_us: each(redisCpu() - redis) };
  await worker.close();
  console.log(JSON.stringify({ workload: 'BUS', peer: `bullmq-c${CONC}`, case: 'drain', ...figures, stored_bytes: Math.round(stored), left_bytes: Math.round(await dataset() / N) }));
}
await queue.close();
process.exit(0);
