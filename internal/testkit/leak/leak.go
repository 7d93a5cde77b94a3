// Package leak ends the tests of a package with a look for goroutines that they have left behind.
package leak

import (
	"time"

	"go.uber.org/goleak"
)

// patience is how long goroutines have to come to their end after the last test. A busy machine
// needs it, and what goes on after Close takes a second by itself.
const patience = 20 * time.Second

// Main is to be called by TestMain, and does not return.
func Main(m goleak.TestingM) { goleak.VerifyTestMain(settling{m}) }

type settling struct{ goleak.TestingM }

func (m settling) Run() int {
	code := m.TestingM.Run()
	for end := time.Now().Add(patience); code == 0 && goleak.Find() != nil && time.Now().Before(end); {
	}
	return code
}
