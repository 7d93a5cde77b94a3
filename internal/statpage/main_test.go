package statpage_test

import (
	"testing"

	"github.com/rdmanet/iwarp/internal/testkit/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }
