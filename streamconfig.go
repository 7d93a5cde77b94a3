package iwarp

import "github.com/rdmanet/iwarp/rdmanet"

// Range of a stream's buffer, in bytes.
const minReadBuffer, maxReadBuffer = 4 << 10, 512 << 20

// buffered returns conf with what the user has set for what peers send ahead.
func buffered(conf rdmanet.Config, bytes int, budget *rdmanet.Budget) *rdmanet.Config {
	if bytes > 0 {
		conf.RingSize = min(max(bytes, minReadBuffer), maxReadBuffer)
	}
	conf.Budget = budget
	return &conf
}
