package iwarp

import "github.com/rdmanet/iwarp/rdmanet"

// Range of a stream's buffer, in bytes.
const minReadBuffer, maxReadBuffer = 4 << 10, 512 << 20

// buffered returns what the user has set for what peers send ahead.
func buffered(bytes int, budget *rdmanet.Budget) *rdmanet.Config {
	conf := rdmanet.Config{Budget: budget}
	if bytes > 0 {
		conf.RingSize = min(max(bytes, minReadBuffer), maxReadBuffer)
	}
	return &conf
}
