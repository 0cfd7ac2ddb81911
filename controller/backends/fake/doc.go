// Package fake is a cloud in memory, with faults by request: for tests, and
// for people who write drivers. On the wire its type is "dstack", since the
// Python client knows no other names.
//
// A [Cloud] is the provider, where machines cost money whoever forgot them; an
// account of it, made by [Cloud.Open], is a [backends.Backend]. What a cloud
// does behind our back is part of it: it answers late, twice, or not at all
// after it has acted; it shows a machine some time after it was made, and goes
// on showing it when it is gone.
package fake
