package iwarp

import (
	"context"
	"reflect"
)

// untraced is a context without net/http/httptrace's functions, which have been told of the lookup
// of the name already.
type untraced struct{ context.Context }

func (c untraced) Value(key any) any {
	if isTrace(key) {
		return nil
	}
	return c.Context.Value(key)
}

// lookingUp is a context whose functions of net/http/httptrace are told of a lookup, but not of the
// connections to name servers that it takes, as with package net.
type lookingUp struct{ context.Context }

func (c lookingUp) Value(key any) any {
	v := c.Context.Value(key)
	trace := reflect.ValueOf(v)
	if !isTrace(key) || trace.Kind() != reflect.Pointer || trace.IsNil() {
		return v
	}
	lookups := reflect.New(trace.Type().Elem())
	lookups.Elem().Set(trace.Elem())
	for _, name := range []string{"ConnectStart", "ConnectDone"} {
		if f := lookups.Elem().FieldByName(name); f.CanSet() {
			f.SetZero()
		}
	}
	return lookups.Interface()
}

// isTrace reports whether key is that of a context for what net/http/httptrace has package net do.
func isTrace(key any) bool {
	t := reflect.TypeOf(key)
	return t != nil && t.PkgPath() == "internal/nettrace"
}
