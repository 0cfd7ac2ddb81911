package api

// Streams are ours; 0.22.5 has none. Both are POST with a JSON body and answer
// 200 with `application/x-ndjson`: one JSON object a line, flushed at once.
// An empty line every 15 seconds keeps proxies and the reader's time-out calm.
// A stream that breaks off without its last line is opened again; nothing is
// lost by that. Errors before the first line have the usual status and body.
//
//	POST /api/project/{project}/logs/follow   FollowLogsRequest → lines of LogChunk
//	POST /api/project/{project}/runs/watch    WatchRunRequest   → lines of Run
//
// An old server answers 404 or 405: fall back to logs/poll and runs/get.

// FollowLogsRequest reads the log of one job submission from a byte offset on.
// Since, if set, skips what was written at or before it and replaces Offset.
type FollowLogsRequest struct {
	JobSubmissionID string `json:"job_submission_id" as:"uuid"`
	Offset          int64  `json:"offset,omitempty"`
	Since           *Time  `json:"since,omitempty"`
}

// LogChunk is one line of logs/follow. The next chunk starts at Offset plus
// the length of Message (bytes; base64 in JSON). Timestamp is when the server
// sent it; when the job wrote it is in logs/poll. The last line has End set
// and no Message: the submission is finished and its log complete.
type LogChunk struct {
	Offset    int64  `json:"offset"`
	Timestamp Time   `json:"timestamp"`
	Message   []byte `json:"message"`
	End       bool   `json:"end"`
}

// WatchRunRequest names a run of the project, like runs/get: ID wins.
type WatchRunRequest struct {
	RunName *string `json:"run_name,omitempty"`
	ID      *string `json:"id,omitempty" as:"uuid"`
}

// The lines of runs/watch are Run: the first one at once, then one for each
// change; intermediate states may be skipped, the last state never is. The
// stream ends after the line whose status is final.
