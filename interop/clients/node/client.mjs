// Makes the calls that it is told to, one JSON object a line, and reports them: the protocol of interop/.
import { createInterface } from 'node:readline';
import { call, health, reflect, watch } from './actions.mjs';

const actions = { call, health, reflect, watch };

for await (const line of createInterface({ input: process.stdin })) {
  let report;
  try {
    const order = JSON.parse(line);
    report = await actions[order.action](order);
  } catch (failure) {
    console.error(failure);
    report = { failed: String(failure) };
  }
  process.stdout.write(`${JSON.stringify(report)}\n`);
}
// Open connections keep a program running.
process.stdout.write('', () => process.exit());
