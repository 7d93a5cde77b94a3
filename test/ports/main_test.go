package ports_test

import (
	"os"
	"testing"

	"github.com/rdmanet/iwarp/internal/testkit"
)

func TestMain(m *testing.M) {
	_ = os.Unsetenv("IWARP_OFFLOAD")
	_ = os.Unsetenv("IWARP_LISTEN_OFFLOAD")
	testkit.Run(m)
}

const patience = testkit.Patience

// What several packages' tests need.
var (
	errTest, policies = testkit.ErrTest, testkit.Policies

	listen, accept, dial, dialTCP    = testkit.Listen, testkit.Accept, testkit.Dial, testkit.DialTCP
	exchange, exchangeWithEcho, echo = testkit.Exchange, testkit.ExchangeWithEcho, testkit.Echo
	reserve, closedPort              = testkit.Reserve, testkit.ClosedPort
	opError, requireSameError        = testkit.OpError, testkit.RequireSameError
	eventually, canceled, openFiles  = testkit.Eventually, testkit.Canceled, testkit.OpenFiles
	nameServer, needLocalhost        = testkit.NameServer, testkit.NeedLocalhost
)
