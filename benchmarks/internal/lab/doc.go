// Package lab holds what the benchmarks and the report share: the paths under comparison, a peer
// that answers on all of them, in this process or another, and the measurements themselves.
package lab
