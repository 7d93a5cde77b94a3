// Package transport is the contract between a queue pair and those who use it, in the words of RFC
// 5040 and of verbs.
//
// A Transport reaches peers through its devices. Dial and Listen yield connections in the making, a
// Connector or a Request; each already owns a QueuePair, so that memory is registered and receives
// are posted before the peer learns of them. Connect and Accept then exchange private data and
// bring the queue pair to StateRTS.
//
// Work is posted to a queue pair in batches (one doorbell), completions are polled, and Wait blocks
// until there is something to poll. A software transport does its protocol work inside Post, Wait
// and Drain, on the goroutines of its callers; a hardware one does it by itself. Code written
// against this package cannot tell which, except by Attributes.
package transport
