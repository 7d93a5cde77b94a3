//go:build linux

package kernel

import (
	"encoding/json"
	"os"
)

// kept is the form of a file of results.
type kept struct {
	Release  string
	Cells    []cellResult
	Sections map[string]string
	Decoded  dissected
}

type cellResult struct {
	Cell  cell
	Tally tally
}

// mergedRelease is the kernel of the runs whose results were merged.
var mergedRelease string

// saveResults keeps what this run has found, and what was merged before.
func saveResults(file string) error {
	results.Lock()
	defer results.Unlock()
	k := kept{Release: kernelRelease(), Sections: results.sections, Decoded: decoded}
	for c, n := range results.cells {
		k.Cells = append(k.Cells, cellResult{c, *n})
	}
	b, err := json.MarshalIndent(k, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o644)
}

// mergeResults adds those of other runs, which count as parts of one.
func mergeResults(files []string) error {
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var k kept
		if err := json.Unmarshal(b, &k); err != nil {
			return err
		}
		mergedRelease = k.Release
		for _, r := range k.Cells {
			r.Cell.tally(func(n *tally) {
				n.Passed += r.Tally.Passed
				n.Failed += r.Tally.Failed
				for why, times := range r.Tally.Faults {
					n.Faults[why] += times
				}
			})
		}
		for title, text := range k.Sections {
			section(title, text)
		}
		d := k.Decoded
		decoded.Captures += d.Captures
		decoded.Sessions += d.Sessions
		decoded.FPDUs += d.FPDUs
		decoded.Good += d.Good
		decoded.Beyond += d.Beyond
		decoded.Gaps += d.Gaps
	}
	return nil
}
