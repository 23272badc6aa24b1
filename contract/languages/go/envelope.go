// Package envelope reads and writes canonical events without losing a digit. ../go.md says how to use it.
package envelope

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sort"
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

// Write returns the canonical line of an event, without a line feed.
func Write(event Event) ([]byte, error) {
	var out bytes.Buffer
	var failed error
	add := func(name string, value any) {
		if out.Len() > 0 {
			out.WriteByte(',')
		}
		fmt.Fprintf(&out, "%q:", name)
		if err := canonical(&out, value); err != nil && failed == nil {
			failed = fmt.Errorf("%s: %w", name, err)
		}
	}
	text := func(name string, value *string) {
		if value != nil {
			add(name, *value)
		}
	}
	id := func(name string, value *int64) {
		if value != nil {
			add(name, *value)
		}
	}
	id("event_id", event.EventID)
	add("execution_id", event.ExecutionID)
	add("event_type", event.EventType)
	add("step", event.Step)
	add("status", event.Status)
	text("created_at", event.CreatedAt)
	add("context", event.Context)
	if event.WorkerID == nil {
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
		duration := *event.Duration
		if !strings.Contains(duration.String(), ".") {
			duration += ".0"
		}
		add("duration", duration)
	}
	return append(append([]byte("{"), out.Bytes()...), '}'), failed
}

// canonical writes JSON with keys in the order of their bytes. json.Marshal escapes <, >, &,
// U+2028 and U+2029, so it cannot write the strings.
func canonical(out *bytes.Buffer, value any) error {
	switch value := value.(type) {
	case map[string]any:
		keys := make([]string, 0, len(value))
		for key := range value {
			keys = append(keys, key)
		}
		sort.Strings(keys)
		out.WriteByte('{')
		for at, key := range keys {
			if at > 0 {
				out.WriteByte(',')
			}
			quote(out, key)
			out.WriteByte(':')
			if err := canonical(out, value[key]); err != nil {
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
			if err := canonical(out, item); err != nil {
				return err
			}
		}
		out.WriteByte(']')
	case string:
		quote(out, value)
	case json.Number:
		if strings.ContainsAny(value.String(), "eE") {
			return fmt.Errorf("%s has an exponent: write the number out", value)
		}
		out.WriteString(value.String())
	case nil:
		out.WriteString("null")
	case bool, int, int64:
		fmt.Fprint(out, value)
	default:
		return fmt.Errorf("%T: use json.Number for fractions", value)
	}
	return nil
}

func quote(out *bytes.Buffer, text string) {
	short := map[rune]string{'"': `\"`, '\\': `\\`, '\b': `\b`, '\t': `\t`, '\n': `\n`, '\f': `\f`, '\r': `\r`}
	out.WriteByte('"')
	for _, letter := range text {
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
