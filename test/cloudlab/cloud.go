//go:build e2e

// Package cloudlab is an EC2 whose machines boot: moto answers the API
// (package moto), and behind each instance stands a machine of test/lab that
// runs the request's user-data through cloud-init. It has EBS volumes, the
// metadata address, and faults by request. docs/development/labs.md tells how
// to use it by hand.
package cloudlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"dstack/test/cloudlab/moto"
	"dstack/test/lab"
)

// Region is where a server should rent; moto knows one more, OtherRegion.
const (
	Region      = "us-east-1"
	OtherRegion = "eu-west-1"
)

// Cloud is the account of one tester.
type Cloud struct {
	// URL is the endpoint, for AWS_ENDPOINT_URL.
	URL string
	// Control takes orders by HTTP, see serve.
	Control string

	lab     *lab.Lab
	double  *moto.Double
	dir     string
	image   string
	servers []*http.Server

	// ctx ends with the cloud; work are the goroutines of machines.
	ctx    context.Context //nolint:containedctx // the life of the cloud, not of a call
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu       sync.Mutex
	machines map[string]*Machine
	volumes  map[string]*volume
	boots    []Boot
	failed   []error
}

// Open starts a cloud on a lab.
func Open(ctx context.Context, l *lab.Lab) (*Cloud, error) {
	dir, err := os.MkdirTemp("", "cloudlab")
	if err != nil {
		return nil, fmt.Errorf("make cloud folder: %w", err)
	}
	c := &Cloud{lab: l, dir: dir, machines: map[string]*Machine{}, volumes: map[string]*volume{}}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := c.open(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Cloud) open(ctx context.Context) (err error) {
	if c.image, err = c.lab.DeriveMachineImage(ctx, "lab-cloud", imageScript); err != nil {
		return err
	}
	if c.Control, err = c.serve("127.0.0.1:0", c.orders(), nil); err != nil {
		return err
	}
	if _, err = c.serve(metadataAddress, c.metadata(), withConn); err != nil {
		return err
	}
	if err := redirectMetadata(ctx); err != nil {
		return err
	}
	folder := filepath.Join(c.dir, "moto")
	if err := os.Mkdir(folder, 0o700); err != nil {
		return fmt.Errorf("make moto's folder: %w", err)
	}
	if c.double, err = moto.Launch(c.ctx, folder, c.Control+"/hook"); err != nil {
		return err
	}
	c.URL = c.double.URL
	return nil
}

func (c *Cloud) serve(address string, h http.Handler, conn func(context.Context, net.Conn) context.Context) (url string, err error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return "", fmt.Errorf("listen for the cloud: %w", err)
	}
	s := &http.Server{Handler: h, ConnContext: conn}
	c.servers = append(c.servers, s)
	c.work.Go(func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			c.report(err)
		}
	})
	return "http://" + l.Addr().String(), nil
}

// Close ends all machines and the cloud. It fails if something went wrong on
// the way that no test asked for.
func (c *Cloud) Close() error {
	if c.double != nil {
		c.double.Stop()
	}
	c.cancel()
	for _, s := range c.servers {
		c.fail(s.Close())
	}
	c.work.Wait()
	for _, m := range c.machines {
		if m.state != gone {
			c.fail(m.Host.Remove())
		}
	}
	for _, v := range c.volumes {
		c.fail(v.release(context.WithoutCancel(c.ctx)))
	}
	c.fail(os.RemoveAll(c.dir))
	return errors.Join(c.failed...)
}

// report keeps an error of something that runs by itself; what Close cuts off
// is none.
func (c *Cloud) report(err error) {
	if c.ctx.Err() == nil {
		c.fail(err)
	}
}

func (c *Cloud) fail(err error) {
	if err == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = append(c.failed, err)
}

// Env is what a server needs in its environment to rent here.
func (c *Cloud) Env() []string { return []string{"AWS_ENDPOINT_URL=" + c.URL} }

// Config is a config.yml for a server that rents here in the regions.
func Config(regions ...string) string {
	return strings.Join([]string{
		"projects:",
		"  - name: main",
		"    backends:",
		"      - type: aws",
		"        creds: {type: access_key, access_key: lab, secret_key: lab}",
		"        regions: [" + strings.Join(regions, ", ") + "]",
		"",
	}, "\n")
}

// Fault lets calls of the API go wrong.
func (c *Cloud) Fault(f moto.Fault) error { return c.double.Fault(f) }

// Calm forgets all faults and plans for machines.
func (c *Cloud) Calm() error {
	c.mu.Lock()
	c.boots = nil
	c.mu.Unlock()
	return c.double.Tell("calm", struct{}{})
}

// Quota sets a limit of the account, by AWS's code ("L-1216C47A").
func (c *Cloud) Quota(code string, value int) error {
	return c.double.Tell("quota", map[string]any{"code": code, "value": value})
}
