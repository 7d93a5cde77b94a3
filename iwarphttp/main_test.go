package iwarphttp_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	os.Unsetenv("IWARP_OFFLOAD") // which would change the policies
	os.Unsetenv("IWARP_LISTEN_OFFLOAD")
	goleak.VerifyTestMain(m)
}
