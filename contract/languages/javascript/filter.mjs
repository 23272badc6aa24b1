// Reads canonical lines and writes them again: normalizer conform -- node filter.mjs

import { createInterface } from "node:readline";
import { read, write } from "./envelope.mjs";

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${write(read(line))}\n`);
}
