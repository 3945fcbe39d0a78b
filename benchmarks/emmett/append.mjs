// Appends through Emmett, driven by lines of JSON: the first tells the connection string, each one
// after it holds the commits of every writer. Each is answered with a line once it is done.
import { createInterface } from 'node:readline';
import { getPostgreSQLEventStore } from '@event-driven-io/emmett-postgresql';

const answer = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
let store;

const append = async (commits) => {
  for (const { stream, version, events } of commits)
    await store.appendToStream(stream, events, { expectedStreamVersion: BigInt(version) });
};

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  if (order.connect !== undefined) {
    store = getPostgreSQLEventStore(order.connect, { schema: { autoMigration: 'CreateOrUpdate' } });
    await store.schema.migrate();
    answer({ ready: true });
    continue;
  }
  const begin = process.hrtime.bigint();
  await Promise.all(order.writers.map(append));
  answer({ seconds: Number(process.hrtime.bigint() - begin) / 1e9 });
}
await store?.close();
