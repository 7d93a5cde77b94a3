// Package soak keeps connections busy for long, and checks that nothing grows: random traffic of
// which every byte is compared, with connections that are killed and made anew; connections that
// are made and closed at once; and a listener that starts again and again under load. In a network
// namespace no port of others is in the way:
//
//	unshare -n sh -c 'ip link set lo up; exec "$@"' - go test -count=1 -v ./test/soak \
//	    -timeout 60m -duration 30m -conns 10000 -storm 100000 -restarts 100
package soak
