// Package firstdial holds tests against servers that know nothing of iWARP: what a first dial with
// OffloadPrefer to one of them costs, and that the plain connection that follows works. They are
// those of the Debian packages of the same names; a test whose server is not there is skipped.
package firstdial
