// Package tunnel is one live connection to a running job: the SSH login of
// the agent in its container, reached through the job's host, through jump
// hosts, or through any other [Way].
//
// [Open] logs in. From then on the tunnel stays up by itself: a connection
// that broke (sleep, another network, a restart at the other end) is made
// again until [Tunnel.Close], or until it can never work again. Whoever dials
// meanwhile waits. [Listeners] forward local ports, and stay open all along;
// [Tunnel.Logs] reads the job's output without gaps or repeats.
//
// Hosts and agents have keys that nobody told the user's machine: the first
// key of each is trusted, as 0.22.5 does, but it must stay the same as long
// as the tunnel lives. Facts: spec job-execution.md 12, cli.md 12.
package tunnel
