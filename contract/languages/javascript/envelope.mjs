// Reads and writes canonical events without losing a digit. It needs no package, and runs in
// Node 18 and in browsers. ../javascript.md says how to use it.

/** A number as it was written: 333895119839481857 and 1.50 stay what they are. */
export class Num {
  constructor(text) {
    this.text = text;
  }
  toString() {
    return this.text;
  }
}

const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g;
const MARK = "\u0000";
const IDS = ["event_id", "execution_id", "catalog_id", "parent_event_id", "parent_execution_id"];
const FIRST = [
  ..."event_id execution_id event_type step status created_at context worker_id meta".split(" "),
];
const REST = [
  ..."command_id catalog_id node_type parent_event_id parent_execution_id result error duration".split(" "),
];

/** Parse JSON with every number as a Num. JSON.parse alone rounds ids to 53 bits, silently. */
export function parse(text) {
  const marked = text.replace(TOKEN, (token) =>
    token[0] === '"' ? token : `{"\\u0000":"${token}"}`,
  );
  return JSON.parse(marked, (_, value) =>
    value !== null && typeof value === "object" && Object.hasOwn(value, MARK)
      ? new Num(value[MARK])
      : value,
  );
}

/** Read a line: ids are BigInt, numbers inside context, meta and result are Num. */
export function read(line) {
  const event = parse(line);
  for (const name of IDS) {
    if (event[name] !== undefined) event[name] = BigInt(event[name].text);
  }
  return event;
}

/** Write the canonical line of an event. Fields that it doesn't know follow, in their order. */
export function write(event) {
  for (const name of IDS) {
    if (event[name] !== undefined && typeof event[name] !== "bigint") {
      throw new TypeError(`${name}: expected a BigInt, got ${typeof event[name]}`);
    }
  }
  const known = [...FIRST, ...REST];
  const names = [...known, ...Object.keys(event).filter((name) => !known.includes(name))];
  const members = names
    .filter((name) => event[name] !== undefined)
    .map((name) => {
      const text = canonical(event[name]);
      const isWhole = name === "duration" && !text.includes(".");
      return `${JSON.stringify(name)}:${isWhole ? `${text}.0` : text}`;
    });
  return `{${members.join(",")}}`;
}

/** JSON with sorted keys, minimal escapes, and numbers without an exponent. */
export function canonical(value) {
  if (value instanceof Num || typeof value === "bigint") return value.toString();
  if (typeof value === "number") return decimal(value);
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value !== null && typeof value === "object") {
    const keys = Object.keys(value).sort(byCodePoints);
    return `{${keys.map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`).join(",")}}`;
  }
  return JSON.stringify(value);
}

/** UTF-8 bytes and code points have the same order. JavaScript's own order, UTF-16, differs. */
function byCodePoints(left, right) {
  const [a, b] = [[...left], [...right]];
  for (let at = 0; at < Math.min(a.length, b.length); at += 1) {
    const difference = a[at].codePointAt(0) - b[at].codePointAt(0);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

function decimal(value) {
  if (!Number.isFinite(value)) throw new RangeError(`${value} is no JSON number`);
  const text = Object.is(value, -0) ? "0" : String(value);
  const parts = /^(-?)(\d)(?:\.(\d+))?e([+-]\d+)$/.exec(text);
  if (parts === null) return text;
  const [, sign, digit, rest = "", exponent] = parts;
  const digits = digit + rest;
  const point = 1 + Number(exponent);
  if (point <= 0) return `${sign}0.${"0".repeat(-point)}${digits}`;
  return `${sign}${digits.padEnd(point, "0")}`;
}
