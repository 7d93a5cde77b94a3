package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// replayCorpus sends each entry of a fuzz corpus on a connection of its own, and prints what the
// peer makes of it.
func replayCorpus(addr, folder string, handshake bool) error {
	files, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil || len(files) == 0 {
		return errors.Join(err, fmt.Errorf("no corpus in %s", folder))
	}
	for _, file := range files {
		data, err := entry(file)
		if err != nil {
			return err
		}
		p, err := dial(addr, false)
		if err != nil {
			return fmt.Errorf("before %s: %w", filepath.Base(file), err)
		}
		if handshake {
			if err := p.handshake(false); err != nil {
				return fmt.Errorf("before %s: %w", filepath.Base(file), err)
			}
		}
		outcome := ""
		if err := p.put(data); err != nil {
			outcome = ending(err)
		} else if handshake {
			outcome = p.outcome()
		} else {
			outcome = p.answer()
			// A peer that closes while iw_cm of Linux 6.1 is still accepting makes its worker stop, by a bug
			// of its own.
			time.Sleep(between)
		}
		fmt.Printf("%s: %s\n", filepath.Base(file), outcome)
		_ = p.Close()
	}
	return nil
}

// answer is how the peer answers a request.
func (p *peer) answer() string {
	b := make([]byte, 1024)
	n, err := p.Read(b)
	if n == 0 {
		return ending(err)
	}
	return fmt.Sprintf("%d bytes of answer", n)
}

// entry returns the first value of a corpus file that is bytes.
func entry(file string) ([]byte, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		if quoted, ok := strings.CutPrefix(strings.TrimSpace(line), "[]byte("); ok {
			s, err := strconv.Unquote(strings.TrimSuffix(quoted, ")"))
			return []byte(s), err
		}
	}
	return nil, fmt.Errorf("%s has no bytes to send", file)
}
