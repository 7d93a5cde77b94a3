// Package reuseport replaces servers that each have a socket of their own at one port.
package reuseport
