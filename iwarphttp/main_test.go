package iwarphttp_test

import (
	"os"
	"testing"

	"github.com/rdmanet/iwarp/internal/testkit/leak"
)

func TestMain(m *testing.M) {
	os.Unsetenv("IWARP_OFFLOAD") // which would change the policies
	os.Unsetenv("IWARP_LISTEN_OFFLOAD")
	leak.Main(m)
}
