// Package replication keeps the server's SQLite database in an object storage
// by Litestream: it restores the database where there is none, uploads every
// change soon after its commit, and holds a lease there, so that only one
// server at a time writes. See docs/development/replication.md.
package replication
