// What to do while nothing has been received.

import { command, h } from "./dom.js";
import { plural } from "./format.js";

/** freshness: its answer, or null. Gives null once there is a record. */
export function firstRun(freshness) {
  if (!freshness) return null;
  const records = freshness.rows.reduce((total, row) => total + Number(row.records ?? 0), 0);
  if (records > 0) return null;
  const topics = [...new Set(freshness.rows.map((row) => row.topic))];
  const read = freshness.rows.some((row) => row.heartbeat_at);
  return h("section", { class: "panel first-run", "data-key": "first-run", "aria-busy": "false", "aria-labelledby": "first-run-title" },
    h("header", {}, h("h2", { id: "first-run-title" }, "Nothing received yet")),
    h("div", { class: "body" }, !topics.length ? [
      h("p", {}, "No normalizer has read a topic into this database. It reads the topic ", h("code", {}, "KAFKA_TOPICS"), " (default ",
        h("code", {}, "noetl.events"), ") from the brokers ", h("code", {}, "KAFKA_BOOTSTRAP_SERVERS"), ". This starts it:"),
      command("normalizer run", "Start the normalizer"),
    ] : [
      h("p", {}, read ? "A normalizer reads " : "No normalizer reads ", topics.map((topic, n) => [n ? ", " : "", h("code", {}, topic)]),
        ` (${plural(freshness.rows.length, "partition")}), and no record has come yet. This says whether topic and brokers answer:`),
      command("normalizer check", "Check topic, brokers and database"),
    ]));
}
