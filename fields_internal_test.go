package iwarp

import (
	"context"
	"net"
	"reflect"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestFieldsReachNet fails when a field is not passed on to package net.
func TestFieldsReachNet(t *testing.T) {
	control := func(string, string, syscall.RawConn) error { return nil }
	d := Dialer{
		Timeout: 1, Deadline: time.Unix(1, 0), LocalAddr: &net.TCPAddr{}, DualStack: true, FallbackDelay: 2, KeepAlive: 3,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 4}, Resolver: &net.Resolver{}, Cancel: make(chan struct{}),
		Control: control, ControlContext: func(context.Context, string, string, syscall.RawConn) error { return nil },
	}
	lc := ListenConfig{Control: control, KeepAlive: 3, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 4}}
	for _, v := range []reflect.Value{reflect.ValueOf(*d.netDialer()), reflect.ValueOf(*lc.netConfig())} {
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				require.Falsef(t, v.Field(i).IsZero(), "%v.%s", v.Type(), f.Name)
			}
		}
	}
	require.False(t, d.netDialer().MultipathTCP())
	require.False(t, lc.netConfig().MultipathTCP())
}
