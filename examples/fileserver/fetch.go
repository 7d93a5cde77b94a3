package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/rdmanet/iwarp"
)

// fetch downloads name from the server at address, to the file save if it is not empty, and checks
// its SHA-256.
func fetch(ctx context.Context, out io.Writer, address, name, save string, dialer *iwarp.Dialer) error {
	fmt.Fprintf(out, "fetching %s with policy %v\n", name, dialer.Offload)

	// This is all that an HTTP client needs to use iWARP: another DialContext.
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dialer.DialContext(ctx, network, address)
		if err == nil {
			fmt.Fprintf(out, "  client: connected from %v over %s\n", c.LocalAddr(), describe(c))
		}
		return c, err
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}

	want, err := checksum(ctx, client, address, name)
	if err != nil {
		return err
	}
	got, err := download(ctx, client, out, address, name, save)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%s is damaged: its SHA-256 is %s, the server's file has %s", name, got, want)
	}
	fmt.Fprintf(out, "  SHA-256 agrees: %s\n", got)
	return nil
}

// checksum asks the server for the SHA-256 of the file.
func checksum(ctx context.Context, client *http.Client, address, name string) (string, error) {
	body, _, err := get(ctx, client, address, "/sha256/"+name)
	if err != nil {
		return "", err
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, 1<<10))
	return strings.TrimSpace(string(b)), err
}

// download returns the SHA-256 of what it received.
func download(ctx context.Context, client *http.Client, out io.Writer, address, name, save string) (sum string, err error) {
	body, size, err := get(ctx, client, address, "/files/"+name)
	if err != nil {
		return "", err
	}
	defer body.Close()

	h := sha256.New()
	p := newProgress(out, size)
	to := []io.Writer{h, p}
	if save != "" {
		f, err := os.Create(save)
		if err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		to = append(to, f)
	}
	start := time.Now()
	n, err := io.Copy(io.MultiWriter(to...), body)
	took := time.Since(start)
	p.finish()
	if err != nil {
		return "", fmt.Errorf("after %d bytes: %w", n, err)
	}
	fmt.Fprintf(out, "  received %.1f MB in %v, %.0f MB/s\n", float64(n)/1e6, took.Round(time.Millisecond), float64(n)/1e6/took.Seconds())
	return hex.EncodeToString(h.Sum(nil)), nil
}

// get returns the body and its length, -1 if that is not known.
func get(ctx context.Context, client *http.Client, address, path string) (io.ReadCloser, int64, error) {
	u := url.URL{Scheme: "http", Host: address, Path: path}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, 0, fmt.Errorf("get %v: %s", &u, resp.Status)
	}
	return resp.Body, resp.ContentLength, nil
}
