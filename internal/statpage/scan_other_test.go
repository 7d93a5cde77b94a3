//go:build !linux

package statpage_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/statpage"
)

func others(t *testing.T) []statpage.Entry {
	_, err := statpage.Scan()
	require.ErrorIs(t, err, errors.ErrUnsupported)
	return nil
}
