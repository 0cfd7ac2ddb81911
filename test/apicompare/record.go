package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
)

// A recording keeps the real server's answers, for working on ours without
// waiting for it. The proof itself never uses one.
type recording struct {
	// answers are by the call as it is written, with its variables.
	answers map[string]recorded
	// file, if set, gets every answer.
	file io.WriteCloser
}

// recorded is one line of the file.
type recorded struct {
	Key    string          `json:"key"`
	Status int             `json:"status"`
	Header http.Header     `json:"header"`
	Body   json.RawMessage `json:"body"`
	Missed []string        `json:"missed"`
}

// key is the call as it is written.
func (c call) key() (string, error) {
	data, err := json.Marshal(c) //nolint:musttag // only compared with itself
	if err != nil {
		return "", fmt.Errorf("encode call: %w", err)
	}
	return string(data), nil
}

func openRecording(path string) (r *recording, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open recording: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	r = &recording{answers: map[string]recorded{}}
	lines := bufio.NewReader(file)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return r, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read recording: %w", err)
		}
		var a recorded
		if err := json.Unmarshal(line, &a); err != nil {
			return nil, fmt.Errorf("read recording: %w", err)
		}
		r.answers[a.Key] = a
	}
}

// write adds an answer to the file.
func (r *recording) write(c call, a answer, missed []string) error {
	key, err := c.key()
	if err != nil {
		return err
	}
	body, err := json.Marshal(a.body)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	line, err := json.Marshal(recorded{key, a.status, a.header, body, missed})
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	if _, err := r.file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write recording: %w", err)
	}
	return nil
}

var errNotRecorded = errors.New("not recorded")

// find is the answer to a call, and saves from it what is to be saved.
func (r *recording) find(s *server, c call) (answer, []string, error) {
	key, err := c.key()
	if err != nil {
		return answer{}, nil, err
	}
	a, ok := r.answers[key]
	if !ok {
		return answer{}, nil, errNotRecorded
	}
	got := answer{a.Status, a.Header, decode(a.Body)}
	s.save(c, got.body)
	return got, a.Missed, nil
}

// ask has the real server answer a call, or the recording of it.
func (r *report) ask(ctx context.Context, real *server, c call) (answer, []string, error) {
	if r.replay != nil {
		return r.replay.find(real, c)
	}
	got, missed, err := real.do(ctx, c)
	if err == nil && r.record != nil {
		err = r.record.write(c, got, missed)
	}
	return got, missed, err
}
