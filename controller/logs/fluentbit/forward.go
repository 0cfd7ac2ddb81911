package fluentbit

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/tinylib/msgp/msgp"

	"dstack/controller/logs/ship"
)

// eventTime is the type of the protocol's extension for times with nanoseconds.
const eventTime = 0

// timestamp is one: seconds and nanoseconds, big-endian.
type timestamp [8]byte

func (*timestamp) ExtensionType() int8 { return eventTime }
func (*timestamp) Len() int            { return len(timestamp{}) }

func (t *timestamp) MarshalBinaryTo(b []byte) error {
	copy(b, t[:])
	return nil
}

func (t *timestamp) UnmarshalBinary(b []byte) error {
	if len(b) != len(t) {
		return errors.New("not a time")
	}
	copy(t[:], b)
	return nil
}

func timestampOf(at time.Time) *timestamp {
	var t timestamp
	binary.BigEndian.PutUint32(t[:4], uint32(at.Unix()))
	binary.BigEndian.PutUint32(t[4:], uint32(at.Nanosecond()))
	return &t
}

// encode is a message in Forward mode: [tag, [[time, record], ...], {"chunk": id}].
func encode(m message) ([]byte, error) {
	chunk := base64.StdEncoding.EncodeToString([]byte(m.id))
	b := msgp.AppendArrayHeader(nil, 3)
	b = msgp.AppendString(b, m.tag)
	b = msgp.AppendArrayHeader(b, uint32(len(m.events)))
	for _, e := range m.events {
		var err error
		b = msgp.AppendArrayHeader(b, 2)
		if b, err = msgp.AppendExtension(b, timestampOf(e.At)); err != nil {
			return nil, fmt.Errorf("encode time: %w", err)
		}
		b = msgp.AppendMapHeader(b, 3)
		b = msgp.AppendString(msgp.AppendString(b, "message"), ship.Text(e.Data))
		b = msgp.AppendString(msgp.AppendString(b, "@timestamp"), at(e.At))
		b = msgp.AppendString(msgp.AppendString(b, "stream"), m.stream)
	}
	b = msgp.AppendMapHeader(b, 2)
	b = msgp.AppendString(msgp.AppendString(b, "chunk"), chunk)
	b = msgp.AppendInt(msgp.AppendString(b, "size"), len(m.events))
	return b, nil
}

// at is a time as Elasticsearch reads it.
func at(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

// forward sends a message on a connection of its own, and waits for its
// acknowledgement.
func (r *Receiver) forward(ctx context.Context, m message) error {
	content, err := encode(m)
	if err != nil {
		return err
	}
	conn, err := r.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // all is acknowledged, or failed
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(content); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	acknowledged, err := readAck(conn)
	if ctx.Err() != nil {
		return fmt.Errorf("it did not acknowledge within %s; its input must be forward", answerLimit)
	}
	if err != nil {
		return fmt.Errorf("wait for its acknowledgement: %w", err)
	}
	if want := base64.StdEncoding.EncodeToString([]byte(m.id)); acknowledged != want {
		return fmt.Errorf("it acknowledged %q instead of %q", acknowledged, want)
	}
	return nil
}

// readAck reads {"ack": id}; other fields are left out.
func readAck(from io.Reader) (string, error) {
	r := msgp.NewReader(limited(from))
	r.SetMaxStringLength(readLimit) // it makes room for what a length promises
	fields, err := r.ReadMapHeader()
	if err != nil {
		return "", err
	}
	ack := ""
	for range fields {
		name, err := r.ReadString()
		if err != nil {
			return "", err
		}
		if name != "ack" {
			err = r.Skip()
		} else {
			ack, err = r.ReadString()
		}
		if err != nil {
			return "", err
		}
	}
	return ack, nil
}
