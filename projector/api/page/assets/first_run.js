// What to do while nothing has been received.

import { command, h } from "./dom.js";
import { plural } from "./format.js";

const ONE_EVENT = JSON.stringify({ execution_id: "333895119667515392", event_type: "playbook.started", node_name: "hello", status: "STARTED" });

/** The answers of freshness and settings, or null. Gives null once there is a record. */
export function firstRun(freshness, settings) {
  if (!freshness) return null;
  const records = freshness.rows.reduce((total, row) => total + Number(row.records ?? 0), 0);
  if (records > 0) return null;
  const topics = [...new Set(freshness.rows.map((row) => row.topic))];
  const read = freshness.rows.some((row) => row.heartbeat_at);
  const brokers = settings?.brokers?.length ? [" from ", words(settings.brokers, "")] : null;
  return h("section", { class: "panel first-run", "data-key": "first-run", "aria-busy": "false", "aria-labelledby": "first-run-title" },
    h("header", {}, h("h2", { id: "first-run-title" }, "Nothing received yet")),
    h("div", { class: "body" }, !topics.length ? [
      h("p", {}, "No normalizer has read a topic into this database yet. It would read ", words(settings?.topics, "KAFKA_TOPICS"),
        " from ", words(settings?.brokers, "KAFKA_BOOTSTRAP_SERVERS"), ". This starts it:"),
      command("normalizer run", "Start the normalizer"),
    ] : [
      h("p", {}, read ? "A normalizer reads " : "No normalizer reads ", words(topics, ""), brokers,
        ` (${plural(freshness.rows.length, "partition")}), and no record has come yet. This says whether topic and brokers answer:`),
      command("normalizer check", "Check topic, brokers and database"),
      h("p", {}, "This sends one event with the script that comes with Kafka:"),
      command(`echo '${ONE_EVENT}' | kafka-console-producer.sh --bootstrap-server ${settings?.brokers?.[0] ?? "localhost:9092"} --topic ${topics[0]}`, "Send one event"),
    ]));
}

/** Names as code; without any, the setting that has them. */
function words(names, setting) {
  return names?.length ? names.map((name, n) => [n ? ", " : "", h("code", {}, name)]) : ["what ", h("code", {}, setting), " says"];
}
