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
const WORDS = ["step", "worker_id", "command_id", "node_type", "error"];
const ORDER = [
  ..."event_id execution_id event_type step status created_at context worker_id meta".split(" "),
  ..."command_id catalog_id node_type parent_event_id parent_execution_id result error duration".split(" "),
];
const CALL_ENDS = ["call.done", "action_done", "call_done"];
const OUTCOMES = ["COMPLETED", "FAILED", "ERROR", "CANCELLED"];
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/;

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

/**
 * Write the canonical line of an event. Fields that it doesn't know follow, in their order. It leaves
 * out what counts as absent, and throws if a value may be in no line (C11 of the envelope).
 */
export function write(event) {
  const known = { ...event, result: event.result ?? undefined, created_at: event.created_at ?? undefined };
  for (const name of IDS) known[name] = id(name, event[name]);
  for (const name of WORDS) known[name] = word(name, event[name]) || undefined;
  if (known.step === undefined || known.step === "unknown") known.step = "";
  known.worker_id ??= null;
  known.context ??= null;
  known.duration = event.duration == null ? undefined : seconds(Number(String(event.duration)));
  need(known.execution_id !== undefined, "execution_id: expected an id above 0");
  need(word("event_type", event.event_type), "event_type: expected a word");
  need(word("status", event.status), "status: expected a word");
  need(
    !CALL_ENDS.includes(event.event_type) || OUTCOMES.includes(event.status),
    `status: expected one of ${OUTCOMES}, got ${event.status}`,
  );
  need(known.created_at === undefined || TIME.test(known.created_at), "created_at: expected six digits and Z");
  const attempts = event.meta?.attempts;
  const isCount = typeof attempts !== "string" && /^\d{1,5}$/.test(String(attempts)) && Number(attempts) <= 32767;
  need(isCount && !Array.isArray(event.meta), "meta.attempts: expected an integer from 0 to 32767");
  const names = [...ORDER, ...Object.keys(event).filter((name) => !ORDER.includes(name))];
  const members = names
    .filter((name) => known[name] !== undefined)
    .map((name) => `${quote(name)}:${canonical(known[name])}`);
  return `{${members.join(",")}}`;
}

function need(isSo, message) {
  if (!isSo) throw new RangeError(message);
}

function id(name, value) {
  if (value == null) return undefined;
  if (typeof value !== "bigint") throw new TypeError(`${name}: expected a BigInt, got ${typeof value}`);
  need(value < 2n ** 63n, `${name}: expected an id below 2^63`);
  return value < 1n ? undefined : value;
}

function word(name, value) {
  if (value != null && typeof value !== "string") throw new TypeError(`${name}: expected a string`);
  return value;
}

/** Seconds have the shortest digits of their double, and a point. */
function seconds(value) {
  need(value >= 0 && value < Infinity, "duration: expected a number from 0");
  const text = decimal(String(value));
  return new Num(text.includes(".") ? text : `${text}.0`);
}

/** JSON with sorted keys, minimal escapes, and numbers without an exponent. */
export function canonical(value, level = 0) {
  if (["number", "bigint"].includes(typeof value) || value instanceof Num) return decimal(String(value));
  if (typeof value === "string") return quote(value);
  if (value === null || typeof value === "boolean") return String(value);
  need(level < 126, "expected at most 126 levels in a field");
  // As JSON.stringify does it: undefined is null in a list, and no member of an object.
  if (Array.isArray(value)) return `[${Array.from(value, (item) => canonical(item ?? null, level + 1)).join(",")}]`;
  if (typeof value === "object") {
    const members = Object.entries(value).filter(([, inner]) => inner !== undefined);
    const texts = members.map(([key, inner]) => [storable(key), canonical(inner, level + 1)]);
    texts.sort(([left], [right]) => byCodePoints(left, right));
    return `{${texts.map(([key, text]) => `${quote(key)}:${text}`).join(",")}}`;
  }
  throw new TypeError(`expected JSON, got ${typeof value}`);
}

/** PostgreSQL can't hold U+0000 or half of a surrogate pair, so the service stores U+FFFD. */
function storable(text) {
  return text.replace(/\u0000|\p{Surrogate}/gu, "\ufffd");
}

function quote(text) {
  return JSON.stringify(storable(text));
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

/** The digits as they are, without an exponent. */
function decimal(text) {
  const parts = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(text);
  need(parts !== null && Math.abs(Number(text)) < 1e308, `${text} is no number of JSON below 1e308`);
  const [, sign, whole, rest = "", exponent = "0"] = parts;
  const places = Math.max(rest.length - Number(exponent), 0);
  need(Math.abs(Number(exponent)) <= 400 && whole.length + places <= 400, "expected at most 400 digits");
  const digits = (whole + rest + "0".repeat(Math.max(Number(exponent) - rest.length, 0))).padStart(places + 1, "0");
  const point = digits.length - places;
  const front = digits.slice(0, point).replace(/^0+(?=\d)/, "");
  const minus = /[1-9]/.test(digits) ? sign : "";
  return `${minus}${front}${places > 0 ? `.${digits.slice(point)}` : ""}`;
}
