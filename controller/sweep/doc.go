// Package sweep finds machines that carry this server's tag and that its
// database does not know: they would cost money for ever. It ends what it can
// prove to be nobody's, and a few others; whatever may be somebody's it only
// reports, until an administrator says that it shall end.
//
// # Who may lack knowledge
//
// A token is committed before its machine is asked for, so a database that
// was never set back knows every machine of its tag. One that does not know
// a machine was probably restored, and then the machine may be somebody's:
//
//   - A database that was copied or restored to another place meets a [Ground]
//     there that is not the one that it remembers. From then on its machines
//     carry a new tag. What carries the old one is only reported: it may be
//     the machines of the server that goes on elsewhere. That one never sees
//     ours.
//   - A database that was set back where it is finds its own ground. But it has
//     a time that it knows nothing about: from its newest row to the server's
//     start. Machines of such a [Blind] time are only reported.
//
// Both need nothing but the database and one small file beside it, so they
// hold for copies of a folder, for snapshots and for Litestream.
package sweep
