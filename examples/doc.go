// Package examples holds programs to copy from, each in a folder of its own, and the snippets of
// the README as tests.
package examples
