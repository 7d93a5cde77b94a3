// Package clients is for its programs: each shows how a client library in wide use dials by iWARP,
// with the difference to package net at its top. Their policy is the environment's: IWARP_OFFLOAD.
// A server that knows no iWARP is reached through iwarp-gateway.
package clients
