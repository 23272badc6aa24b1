// Package envelope reads and writes canonical events without losing a digit. ../go.md says how to use it.
package envelope

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

// Event is a canonical event. Numbers inside Context, Meta and Result are json.Number.
type Event struct {
	EventID           *int64         `json:"event_id"`
	ExecutionID       int64          `json:"execution_id"`
	EventType         string         `json:"event_type"`
	Step              string         `json:"step"`
	Status            string         `json:"status"`
	CreatedAt         *string        `json:"created_at"`
	Context           any            `json:"context"`
	WorkerID          *string        `json:"worker_id"`
	Meta              map[string]any `json:"meta"`
	CommandID         *string        `json:"command_id"`
	CatalogID         *int64         `json:"catalog_id"`
	NodeType          *string        `json:"node_type"`
	ParentEventID     *int64         `json:"parent_event_id"`
	ParentExecutionID *int64         `json:"parent_execution_id"`
	Result            any            `json:"result"`
	Error             *string        `json:"error"`
	Duration          *json.Number   `json:"duration"`
}

// Read reads a line. Without UseNumber, numbers inside any become float64 and lose digits.
func Read(line []byte) (Event, error) {
	var event Event
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.UseNumber()
	err := decoder.Decode(&event)
	return event, err
}

var (
	callEnds = map[string]bool{"call.done": true, "action_done": true, "call_done": true}
	outcomes = map[string]bool{"COMPLETED": true, "FAILED": true, "ERROR": true, "CANCELLED": true}
	timeForm = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$`)
	numberAt = regexp.MustCompile(`^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$`)
)

// check returns an error for values that may be in no line (C11 of the envelope).
func check(event Event) error {
	attempts, err := strconv.Atoi(fmt.Sprint(event.Meta["attempts"]))
	if _, isText := event.Meta["attempts"].(string); isText || err != nil || attempts < 0 || attempts > 32767 {
		return errors.New("meta.attempts: expected an integer from 0 to 32767")
	}
	switch {
	case event.ExecutionID < 1:
		return errors.New("execution_id: expected an id above 0")
	case event.EventType == "" || event.Status == "":
		return errors.New("event_type, status: expected a word")
	case callEnds[event.EventType] && !outcomes[event.Status]:
		return fmt.Errorf("status: expected COMPLETED, FAILED, ERROR, or CANCELLED, got %s", event.Status)
	case event.CreatedAt != nil && !timeForm.MatchString(*event.CreatedAt):
		return errors.New("created_at: expected six digits and Z")
	}
	return nil
}

// Write returns the canonical line of an event, without a line feed. It leaves out what counts as absent.
func Write(event Event) ([]byte, error) {
	if err := check(event); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	var failed error
	add := func(name string, value any) {
		if out.Len() > 0 {
			out.WriteByte(',')
		}
		fmt.Fprintf(&out, "%q:", name)
		if err := canonical(&out, value, 0); err != nil && failed == nil {
			failed = fmt.Errorf("%s: %w", name, err)
		}
	}
	text := func(name string, value *string) {
		if value != nil && *value != "" {
			add(name, *value)
		}
	}
	id := func(name string, value *int64) {
		if value != nil && *value > 0 {
			add(name, *value)
		}
	}
	id("event_id", event.EventID)
	add("execution_id", event.ExecutionID)
	add("event_type", event.EventType)
	if event.Step == "unknown" {
		event.Step = ""
	}
	add("step", event.Step)
	add("status", event.Status)
	text("created_at", event.CreatedAt)
	add("context", event.Context)
	if event.WorkerID == nil || *event.WorkerID == "" {
		add("worker_id", nil)
	}
	text("worker_id", event.WorkerID)
	add("meta", event.Meta)
	text("command_id", event.CommandID)
	id("catalog_id", event.CatalogID)
	text("node_type", event.NodeType)
	id("parent_event_id", event.ParentEventID)
	id("parent_execution_id", event.ParentExecutionID)
	if event.Result != nil {
		add("result", event.Result)
	}
	text("error", event.Error)
	if event.Duration != nil {
		// The shortest digits of the double, with a point.
		seconds, err := event.Duration.Float64()
		if err != nil || seconds < 0 || seconds >= 1e308 || math.IsNaN(seconds) {
			return nil, errors.New("duration: expected a number from 0")
		}
		digits := strconv.FormatFloat(seconds, 'f', -1, 64)
		if !strings.Contains(digits, ".") {
			digits += ".0"
		}
		add("duration", json.Number(digits))
	}
	if failed != nil {
		return nil, failed
	}
	return append(append([]byte("{"), out.Bytes()...), '}'), nil
}

// canonical writes JSON with keys in the order of their bytes. json.Marshal escapes <, >, &,
// U+2028 and U+2029, so it cannot write the strings.
func canonical(out *bytes.Buffer, value any, level int) error {
	switch value.(type) {
	case map[string]any, []any:
		if level++; level > 126 {
			return errors.New("expected at most 126 levels")
		}
	}
	switch value := value.(type) {
	case map[string]any:
		keys := make([]string, 0, len(value))
		for key := range value {
			keys = append(keys, key)
		}
		sort.Slice(keys, func(a, b int) bool { return storable(keys[a]) < storable(keys[b]) })
		out.WriteByte('{')
		for at, key := range keys {
			if at > 0 {
				out.WriteByte(',')
			}
			quote(out, key)
			out.WriteByte(':')
			if err := canonical(out, value[key], level); err != nil {
				return err
			}
		}
		out.WriteByte('}')
	case []any:
		out.WriteByte('[')
		for at, item := range value {
			if at > 0 {
				out.WriteByte(',')
			}
			if err := canonical(out, item, level); err != nil {
				return err
			}
		}
		out.WriteByte(']')
	case string:
		quote(out, value)
	case json.Number:
		digits, err := decimal(value.String())
		if err != nil {
			return err
		}
		out.WriteString(digits)
	case nil:
		out.WriteString("null")
	case bool, int, int64:
		fmt.Fprint(out, value)
	default:
		return fmt.Errorf("%T: use json.Number for fractions", value)
	}
	return nil
}

// decimal returns the digits as they are, without an exponent.
func decimal(text string) (string, error) {
	parts := numberAt.FindStringSubmatch(text)
	if parts == nil {
		return "", fmt.Errorf("%q is no number", text)
	}
	exponent, _ := strconv.Atoi(parts[4])
	places := len(parts[3]) - exponent
	if places < 0 {
		places = 0
	}
	size, err := strconv.ParseFloat(text, 64)
	if err != nil || math.Abs(size) >= 1e308 || exponent < -400 || exponent > 400 || len(parts[2])+places > 400 {
		return "", fmt.Errorf("%s: expected a number below 1e308, and at most 400 digits", text)
	}
	digits := parts[2] + parts[3]
	if more := exponent - len(parts[3]); more > 0 {
		digits += strings.Repeat("0", more)
	}
	if missing := places + 1 - len(digits); missing > 0 {
		digits = strings.Repeat("0", missing) + digits
	}
	front := strings.TrimLeft(digits[:len(digits)-places], "0")
	if front == "" {
		front = "0"
	}
	if places > 0 {
		front += "." + digits[len(digits)-places:]
	}
	if strings.Trim(digits, "0") == "" {
		return front, nil
	}
	return parts[1] + front, nil
}

// storable replaces what PostgreSQL can't hold, as the service does.
func storable(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\ufffd"), "\x00", "\ufffd")
}

func quote(out *bytes.Buffer, text string) {
	short := map[rune]string{'"': `\"`, '\\': `\\`, '\b': `\b`, '\t': `\t`, '\n': `\n`, '\f': `\f`, '\r': `\r`}
	out.WriteByte('"')
	for _, letter := range storable(text) {
		if escaped, found := short[letter]; found {
			out.WriteString(escaped)
		} else if letter < 0x20 {
			fmt.Fprintf(out, `\u%04x`, letter)
		} else {
			out.WriteRune(letter)
		}
	}
	out.WriteByte('"')
}
