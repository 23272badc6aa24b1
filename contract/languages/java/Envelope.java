import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.cfg.JsonNodeFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.math.BigDecimal;
import java.math.MathContext;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** Reads and writes canonical events without losing a digit. ../java.md says how to use it. */
public final class Envelope {
    private static final List<String> ORDER = List.of(
            "event_id", "execution_id", "event_type", "step", "status", "created_at", "context",
            "worker_id", "meta", "command_id", "catalog_id", "node_type", "parent_event_id",
            "parent_execution_id", "result", "error", "duration");

    private static final List<String> CALL_ENDS = List.of("call.done", "action_done", "call_done");
    private static final List<String> OUTCOMES = List.of("COMPLETED", "FAILED", "ERROR", "CANCELLED");
    private static final BigDecimal NUMBERS_END = new BigDecimal("1e308");
    private static final DateTimeFormatter TIME =
            DateTimeFormatter.ofPattern("uuuu-MM-dd'T'HH:mm:ss.SSSSSS'Z'").withZone(ZoneOffset.UTC);

    /** Jackson rounds fractions to double, and cuts trailing zeros, unless both are said here. */
    private static final JsonMapper JSON = JsonMapper.builder()
            .enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS)
            .disable(JsonNodeFeature.STRIP_TRAILING_BIGDECIMAL_ZEROES)
            .build();

    private Envelope() {}

    /** Read a line: `event.get("event_id").longValue()` has all digits. */
    public static ObjectNode read(String line) throws IOException {
        return (ObjectNode) JSON.readTree(line);
    }

    /** A time as `created_at` has it. Instant.toString drops zeros. */
    public static String time(Instant at) {
        return TIME.format(at);
    }

    /**
     * Write the canonical line of an event. Fields that it does not know follow, in their order. It
     * leaves out what counts as absent, and throws if a value may be in no line (C11 of the envelope).
     */
    public static String write(ObjectNode event) {
        ObjectNode known = event.deepCopy();
        for (String name : List.of(
                "event_id", "execution_id", "catalog_id", "parent_event_id", "parent_execution_id")) {
            JsonNode id = known.get(name);
            if (isNull(id)) {
                known.remove(name);
            } else {
                need(id.isIntegralNumber() && id.canConvertToLong(), name, "a long");
                if (id.longValue() < 1) {
                    known.remove(name);
                }
            }
        }
        for (String name : List.of(
                "event_type", "step", "status", "created_at", "worker_id", "command_id", "node_type",
                "error")) {
            JsonNode word = known.get(name);
            need(isNull(word) || word.isTextual(), name, "a string");
            if (isNull(word) || word.textValue().isEmpty()) {
                known.remove(name);
            }
        }
        if (isNull(known.get("result"))) {
            known.remove("result");
        }
        if (known.path("step").asText("unknown").equals("unknown")) {
            known.put("step", "");
        }
        for (String name : List.of("context", "worker_id")) {
            if (!known.has(name)) {
                known.putNull(name);
            }
        }
        JsonNode duration = known.remove("duration");
        if (!isNull(duration)) {
            double seconds = duration.doubleValue();
            need(duration.isNumber() && seconds >= 0 && seconds < 1e308, "duration", "a number from 0");
            known.put("duration", shortest(seconds));
        }
        for (String name : List.of("execution_id", "event_type", "status")) {
            need(known.has(name), name, "a value");
        }
        need(!CALL_ENDS.contains(known.get("event_type").textValue())
                || OUTCOMES.contains(known.get("status").textValue()), "status", "one of " + OUTCOMES);
        need(known.path("created_at").asText("0000-00-00T00:00:00.000000Z").matches(
                "\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{6}Z"), "created_at", "six digits and Z");
        JsonNode attempts = known.path("meta").path("attempts");
        need(attempts.isIntegralNumber() && attempts.canConvertToInt()
                && attempts.intValue() >= 0 && attempts.intValue() <= 32767,
                "meta.attempts", "an integer from 0 to 32767");

        List<String> names = new ArrayList<>(ORDER);
        known.fieldNames().forEachRemaining(name -> {
            if (!names.contains(name)) {
                names.add(name);
            }
        });
        names.removeIf(name -> !known.has(name));
        StringBuilder out = new StringBuilder("{");
        for (String name : names) {
            member(out, name, known.get(name), 0);
        }
        return out.append('}').toString();
    }

    private static boolean isNull(JsonNode value) {
        return value == null || value.isNull();
    }

    private static void need(boolean isSo, String name, String expected) {
        if (!isSo) {
            throw new IllegalArgumentException(name + ": expected " + expected);
        }
    }

    /** The fewest digits that give the same double. Double.toString(2e-5) has an exponent and a zero more. */
    private static BigDecimal shortest(double value) {
        BigDecimal exact = new BigDecimal(value);
        BigDecimal found = exact;
        for (int digits = 17; digits > 0; digits--) {
            BigDecimal rounded = exact.round(new MathContext(digits));
            if (rounded.doubleValue() != value) {
                break;
            }
            found = rounded;
        }
        found = found.stripTrailingZeros();
        return found.setScale(Math.max(found.scale(), 1));
    }

    private static void canonical(StringBuilder out, JsonNode value, int level) {
        need(!value.isContainerNode() || level < 126, "a field", "at most 126 levels");
        if (value.isObject()) {
            // String.compareTo goes by UTF-16, which puts some letters in another order.
            Map<String, JsonNode> members = new TreeMap<>((a, b) -> Arrays.compareUnsigned(
                    a.getBytes(StandardCharsets.UTF_8), b.getBytes(StandardCharsets.UTF_8)));
            value.properties().forEach(one -> members.put(storable(one.getKey()), one.getValue()));
            out.append('{');
            members.forEach((key, inner) -> member(out, key, inner, level + 1));
            out.append('}');
        } else if (value.isArray()) {
            out.append('[');
            for (int at = 0; at < value.size(); at++) {
                out.append(at > 0 ? "," : "");
                canonical(out, value.get(at), level + 1);
            }
            out.append(']');
        } else if (value.isTextual()) {
            quote(out, value.textValue());
        } else if (value.isNumber()) {
            BigDecimal number = value.decimalValue();
            int places = Math.max(number.scale(), 0);
            need(number.abs().compareTo(NUMBERS_END) < 0
                    && Math.max(number.precision(), places + 1) <= 400, number.toString(),
                    "below 1e308, and at most 400 digits");
            out.append(number.toPlainString());
        } else {
            need(value.isBoolean() || value.isNull(), value.getNodeType().toString(), "JSON");
            out.append(value.asText());
        }
    }

    private static void member(StringBuilder out, String name, JsonNode value, int level) {
        out.append(out.charAt(out.length() - 1) == '{' ? "" : ",");
        quote(out, name);
        out.append(':');
        canonical(out, value, level);
    }

    /** PostgreSQL cannot hold U+0000 or half of a surrogate pair, so the service stores U+FFFD. */
    private static String storable(String text) {
        return text.replaceAll("\\x00|\\p{Cs}", "\ufffd");
    }

    /** Jackson's own writer escapes controls in upper case: this one writes them in lower case. */
    private static void quote(StringBuilder out, String text) {
        out.append('"');
        for (char letter : storable(text).toCharArray()) {
            int named = "\"\\\b\t\n\f\r".indexOf(letter);
            if (named >= 0) {
                out.append('\\').append("\"\\btnfr".charAt(named));
            } else if (letter < 0x20) {
                out.append(String.format("\\u%04x", (int) letter));
            } else {
                out.append(letter);
            }
        }
        out.append('"');
    }

    /** A filter: canonical lines in, the same lines out. */
    public static void main(String[] arguments) throws IOException {
        BufferedReader lines =
                new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            out.print(write(read(line)) + "\n");
            out.flush();
        }
    }
}
