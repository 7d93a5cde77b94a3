//go:build !unix

package main

import (
	"errors"
	"os"
)

func notifyHangup(chan<- os.Signal) {}

func inherit() (ready func() error, err error) { return func() error { return nil }, nil }

func (g *gateway) handOver() error { return errors.ErrUnsupported }
