//go:build !unix

package iwarp

import "math"

func descriptorLimit() int { return math.MaxInt32 }
