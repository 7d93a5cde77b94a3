//go:build !unix

package main

import (
	"errors"
	"os"

	"github.com/rdmanet/iwarp"
)

func notifyHangup(chan<- os.Signal) {}

func inherit() (passed []*iwarp.Reservation, ready func() error, err error) {
	return nil, func() error { return nil }, nil
}

func (g *gateway) handOver() error { return errors.ErrUnsupported }
