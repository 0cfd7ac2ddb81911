// Command ring is what tests run on the nodes of a task: an all-reduce over
// the addresses that the node was given, and a meeting at the master, as
// torchrun does it.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	ringPort = ":29400"
	meetPort = ":29500"
	// patience is how long a node waits for another one.
	patience = time.Minute
	// perNode is how many numbers of the vector each node adds up.
	perNode = 1000
)

type node struct {
	rank, size int
	ips        []string
	master     string
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	rank, errRank := strconv.Atoi(os.Getenv("DSTACK_NODE_RANK"))
	size, errSize := strconv.Atoi(os.Getenv("DSTACK_NODES_NUM"))
	n := node{rank, size, strings.Split(os.Getenv("DSTACK_NODES_IPS"), "\n"), os.Getenv("DSTACK_MASTER_NODE_IP")}
	if err := errors.Join(errRank, errSize); err != nil || len(n.ips) != size {
		return fmt.Errorf("no node of a task: %d addresses for %d nodes, %w", len(n.ips), size, err)
	}
	switch {
	case slices.Equal(args, []string{"reduce"}):
		return n.reduce(1)
	case slices.Equal(args, []string{"forever"}):
		if err := n.reduce(math.MaxInt); err != nil {
			fmt.Println("lost a node:", err)
		}
		// As many libraries do, it hangs until somebody ends it.
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
		<-stop
		return nil
	case slices.Equal(args, []string{"meet"}):
		return n.meet()
	}
	return fmt.Errorf("unknown arguments %q: reduce, forever or meet", args)
}

// reduce adds up the vectors of all nodes around a ring, times times.
func (n node) reduce(times int) error {
	listener, err := net.Listen("tcp", n.ips[n.rank]+ringPort)
	if err != nil {
		return err
	}
	defer listener.Close()
	to, err := dial(n.ips[(n.rank+1)%n.size] + ringPort)
	if err != nil {
		return err
	}
	defer to.Close()
	from, err := listener.Accept()
	if err != nil {
		return err
	}
	defer from.Close()
	for i := range times {
		vector := make([]float64, n.size*perNode)
		for k := range vector {
			vector[k] = float64(n.rank + 1)
		}
		if err := n.round(vector, to, from); err != nil {
			return err
		}
		want := float64(n.size * (n.size + 1) / 2)
		if slices.ContainsFunc(vector, func(v float64) bool { return v != want }) {
			return fmt.Errorf("the sum is not %g everywhere", want)
		}
		if i == 0 {
			fmt.Printf("rank %d of %d: sum %g\n", n.rank, n.size, want)
		}
		if times > 1 {
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}

// round is one ring all-reduce: each part goes around once to be added up,
// and once more to be known everywhere.
func (n node) round(vector []float64, to io.Writer, from io.Reader) error {
	part := func(i int) []float64 {
		i = (i%n.size + n.size) % n.size
		return vector[i*perNode : (i+1)*perNode]
	}
	got := make([]float64, perNode)
	for step := range 2 * (n.size - 1) {
		sent := make(chan error, 1)
		go func() { sent <- binary.Write(to, binary.BigEndian, part(n.rank-step)) }()
		err := binary.Read(from, binary.BigEndian, got)
		if err := errors.Join(err, <-sent); err != nil {
			return err
		}
		into := part(n.rank - step - 1)
		for k, v := range got {
			if step < n.size-1 {
				v += into[k]
			}
			into[k] = v
		}
	}
	return nil
}

// meet knows the master's address and its own rank only: the master waits for
// all, adds up what they bring, and tells them.
func (n node) meet() error {
	if n.rank > 0 {
		c, err := dial(n.master + meetPort)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := fmt.Fprintf(c, "%d\n", n.rank+1); err != nil {
			return err
		}
		return n.tell(c)
	}
	listener, err := net.Listen("tcp", n.master+meetPort)
	if err != nil {
		return err
	}
	defer listener.Close()
	sum := 1
	var others []net.Conn
	for len(others) < n.size-1 {
		c, err := listener.Accept()
		if err != nil {
			return err
		}
		defer c.Close()
		var value int
		if _, err := fmt.Fscan(c, &value); err != nil {
			return err
		}
		sum += value
		others = append(others, c)
	}
	for _, c := range others {
		if _, err := fmt.Fprintf(c, "%d\n", sum); err != nil {
			return err
		}
	}
	return n.tell(strings.NewReader(strconv.Itoa(sum)))
}

func (n node) tell(r io.Reader) error {
	var sum int
	if _, err := fmt.Fscan(r, &sum); err != nil {
		return err
	}
	fmt.Printf("rank %d of %d: sum %d\n", n.rank, n.size, sum)
	return nil
}

// dial waits until somebody listens.
func dial(address string) (net.Conn, error) {
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		c, err := net.DialTimeout("tcp", address, patience)
		if err == nil || time.Now().After(end) {
			return c, err
		}
	}
}
