import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.cfg.JsonNodeFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** Reads and writes canonical events without losing a digit. ../java.md says how to use it. */
public final class Envelope {
    private static final List<String> ORDER = List.of(
            "event_id", "execution_id", "event_type", "step", "status", "created_at", "context",
            "worker_id", "meta", "command_id", "catalog_id", "node_type", "parent_event_id",
            "parent_execution_id", "result", "error", "duration");

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

    /** Write the canonical line of an event. Fields that it does not know follow, in their order. */
    public static String write(ObjectNode event) {
        List<String> names = new ArrayList<>(ORDER);
        event.fieldNames().forEachRemaining(name -> {
            if (!names.contains(name)) {
                names.add(name);
            }
        });
        StringBuilder out = new StringBuilder("{");
        for (String name : names) {
            if (event.has(name)) {
                member(out, name, event.get(name));
            }
        }
        return out.append('}').toString();
    }

    private static void canonical(StringBuilder out, JsonNode value) {
        if (value.isObject()) {
            List<String> keys = new ArrayList<>();
            value.fieldNames().forEachRemaining(keys::add);
            // String.compareTo goes by UTF-16, which puts some letters in another order.
            keys.sort((a, b) -> Arrays.compareUnsigned(
                    a.getBytes(StandardCharsets.UTF_8), b.getBytes(StandardCharsets.UTF_8)));
            out.append('{');
            keys.forEach(key -> member(out, key, value.get(key)));
            out.append('}');
        } else if (value.isArray()) {
            out.append('[');
            for (int at = 0; at < value.size(); at++) {
                out.append(at > 0 ? "," : "");
                canonical(out, value.get(at));
            }
            out.append(']');
        } else if (value.isTextual()) {
            quote(out, value.textValue());
        } else if (value.isFloatingPointNumber()) {
            out.append(value.decimalValue().toPlainString());
        } else {
            out.append(value.asText());
        }
    }

    private static void member(StringBuilder out, String name, JsonNode value) {
        out.append(out.charAt(out.length() - 1) == '{' ? "" : ",");
        quote(out, name);
        out.append(':');
        canonical(out, value);
    }

    /** Jackson's own writer escapes controls in upper case: this one writes them in lower case. */
    private static void quote(StringBuilder out, String text) {
        out.append('"');
        for (char letter : text.toCharArray()) {
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
