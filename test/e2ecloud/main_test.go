//go:build e2e

// Package e2ecloud rents machines: the binaries of `make build` and a cloud
// that is moto with lab machines behind it (test/cloudlab).
package e2ecloud

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"dstack/test/cloudlab"
	"dstack/test/lab"
)

// shared is what all tests of this package use, one after the other.
var shared struct {
	lab   *lab.Lab
	cloud *cloudlab.Cloud
}

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	if shared.lab, err = lab.Open(ctx); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, shared.lab.Close()) }()
	if shared.cloud, err = cloudlab.Open(ctx, shared.lab); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, shared.cloud.Close()) }()
	return m.Run(), nil
}
