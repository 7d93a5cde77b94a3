package iwarp_test

import (
	"net"
	"reflect"
	"testing"

	"github.com/rdmanet/iwarp"
)

// TestFieldsOfNet fails when package net has a field that ours lacks, or gives it another type.
func TestFieldsOfNet(t *testing.T) {
	for _, tt := range []struct{ net, ours reflect.Type }{
		{reflect.TypeFor[net.Dialer](), reflect.TypeFor[iwarp.Dialer]()},
		{reflect.TypeFor[net.ListenConfig](), reflect.TypeFor[iwarp.ListenConfig]()},
	} {
		for f := range fields(tt.net) {
			ours, ok := tt.ours.FieldByName(f.Name)
			switch {
			case !ok:
				t.Errorf("%v lacks the field %s of %v", tt.ours, f.Name, tt.net)
			case ours.Type != f.Type:
				t.Errorf("%v.%s has the type %v, in package net %v", tt.ours, f.Name, ours.Type, f.Type)
			case ours.Anonymous:
				t.Errorf("%v.%s is embedded", tt.ours, f.Name)
			}
		}
	}
}

func fields(t reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() && !yield(f) {
				return
			}
		}
	}
}
