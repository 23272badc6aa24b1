// The same fields by franz-go, encoding/json and COPY: what to write instead, for speed.
//
// One goroutine polls; as many decode a poll's records as there are processors. The rows go through a
// temporary table in one transaction, and only then are the offsets committed to Kafka.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/twmb/franz-go/pkg/kgo"
)

const batchRows = 5000

var unguarded = os.Getenv("UNGUARDED") != ""

var columns = strings.Fields("event_id execution_id event_type step status created_at worker_id " +
	"error context result meta kafka_partition kafka_offset")

var statuses = map[string]string{
	"running": "STARTED", "started": "STARTED", "claimed": "STARTED", "in_progress": "STARTED",
	"success": "COMPLETED", "ok": "COMPLETED", "done": "COMPLETED", "completed": "COMPLETED",
	"failure": "FAILED", "error": "FAILED", "failed": "FAILED",
	"pending": "PENDING", "initiated": "PENDING", "initialized": "PENDING", "issued": "PENDING",
}

type fields map[string]json.RawMessage

// first gives the first of these fields that is there and not null.
func (event fields) first(names ...string) json.RawMessage {
	for _, name := range names {
		if raw, ok := event[name]; ok && !bytes.Equal(raw, []byte("null")) {
			return raw
		}
	}
	return nil
}

// text gives a string as it is, any other value as its JSON, and nil for none.
func text(raw json.RawMessage) any {
	var word string
	switch {
	case raw == nil:
		return nil
	case raw[0] == '"' && json.Unmarshal(raw, &word) == nil:
		return word
	default:
		return string(raw)
	}
}

func asJSON(raw json.RawMessage) any {
	if raw == nil {
		return nil
	}
	return string(raw)
}

func timeOf(raw json.RawMessage, recorded time.Time) time.Time {
	word, ok := text(raw).(string)
	if !ok {
		return recorded
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999-07:00", "2006-01-02T15:04:05.999999"} {
		if at, err := time.Parse(layout, word); err == nil {
			return at
		}
	}
	number, err := strconv.ParseFloat(word, 64)
	if err != nil {
		return recorded
	}
	for number > 1e11 { // milli-, micro- or nanoseconds
		number /= 1e3
	}
	return time.UnixMicro(int64(number * 1e6))
}

// rowOf gives nil for a record that is no event.
func rowOf(record *kgo.Record) []any {
	var event fields
	if json.Unmarshal(record.Value, &event) != nil || event == nil {
		return nil
	}
	id, _ := text(event.first("event_id")).(string)
	if id == "" || id == "0" {
		id = strconv.Itoa(int(record.Partition)) + "-" + strconv.FormatInt(record.Offset, 10)
	}
	status, _ := text(event.first("status")).(string)
	if known, ok := statuses[strings.ToLower(status)]; ok {
		status = known
	} else {
		status = strings.ToUpper(status)
	}
	return []any{
		id, text(event.first("execution_id")), text(event.first("event_type", "name")),
		text(event.first("step", "node_name")), status,
		timeOf(event.first("created_at", "timestamp"), record.Timestamp),
		text(event.first("worker_id")), text(event.first("error")),
		asJSON(event.first("context", "payload")), asJSON(event.first("result")),
		asJSON(event.first("meta")), record.Partition, record.Offset,
	}
}

func decode(records []*kgo.Record) [][]any {
	decoded := make([][]any, len(records))
	workers := runtime.GOMAXPROCS(0)
	share := (len(records) + workers - 1) / workers
	var wait sync.WaitGroup
	for worker := range workers {
		from, to := min(worker*share, len(records)), min((worker+1)*share, len(records))
		wait.Add(1)
		go func() {
			defer wait.Done()
			for at := from; at < to; at++ {
				decoded[at] = rowOf(records[at])
			}
		}()
	}
	wait.Wait()
	rows := decoded[:0]
	for at, row := range decoded {
		if row != nil {
			rows = append(rows, row)
		} else if unguarded {
			log.Fatalf("stops at %d/%d", records[at].Partition, records[at].Offset)
		}
	}
	return rows
}

func write(ctx context.Context, db *pgx.Conn, rows [][]any) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"incoming"}, columns, pgx.CopyFromRows(rows))
		if err != nil {
			return err
		}
		names := strings.Join(columns, ", ")
		_, err = tx.Exec(ctx, "insert into events ("+names+") select "+names+
			" from incoming on conflict do nothing")
		return err // the temporary table empties itself
	})
}

// save halves what the database refuses until the refused rows stand alone, and drops those.
func save(ctx context.Context, db *pgx.Conn, rows [][]any) {
	if len(rows) == 0 {
		return
	}
	err := write(ctx, db, rows)
	if err == nil {
		return
	}
	var refused *pgconn.PgError
	if unguarded || !(errors.As(err, &refused) || strings.Contains(err.Error(), "encode")) {
		log.Fatalf("stops at a batch of %d: %v", len(rows), err)
	}
	if half := len(rows) / 2; half > 0 {
		save(ctx, db, rows[:half])
		save(ctx, db, rows[half:])
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	db, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	_, err = db.Exec(ctx, "create temporary table incoming (like events) on commit delete rows")
	if err != nil {
		log.Fatal(err)
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(os.Getenv("KAFKA_BOOTSTRAP_SERVERS")),
		kgo.ConsumerGroup(os.Getenv("KAFKA_GROUP_ID")),
		kgo.ConsumeTopics(os.Getenv("KAFKA_TOPIC")),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	for ctx.Err() == nil {
		records := client.PollRecords(ctx, batchRows).Records()
		save(ctx, db, decode(records))
		if err := client.CommitRecords(ctx, records...); err != nil && ctx.Err() == nil {
			log.Fatal(err)
		}
		client.AllowRebalance()
	}
}
