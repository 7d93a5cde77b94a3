//go:build !unix

package limits

import "math"

// Descriptors returns how many descriptors the process may have, which the system does not say.
func Descriptors() int { return math.MaxInt32 }
