package rnic_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Queue pairs are seen off after Close, for some seconds at most.
const farewell = 20 * time.Second

func TestMain(m *testing.M) {
	code := m.Run()
	var err error
	for end := time.Now().Add(farewell); code == 0 && time.Now().Before(end); {
		if err = goleak.Find(); err == nil {
			break
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
