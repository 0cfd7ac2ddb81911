package config

import "dstack/protocol/internal/decode"

// Error is one fault of a document: where, what, and what is allowed.
type Error = decode.Error

// Errors are the faults of one document. Functions of this package return it
// as an error; get it back with [errors.As]. It prints one line for each
// fault and gives the body of a 422 answer with Details.
type Errors = decode.Errors //nolint:errname // it is a list of errors
