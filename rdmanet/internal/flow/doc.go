// Package flow keeps the accounts of a stream: what each end lets the other send, in bytes of space
// and in messages, and the bytes that have arrived. It does no I/O and takes no locks: whoever has
// an account guards it.
package flow
