//go:build linux

package kernel

import (
	"encoding/json"
	"maps"
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
	for c, n := range allCells() {
		k.Cells = append(k.Cells, cellResult{c, *n})
	}
	b, err := json.MarshalIndent(k, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o644)
}

// allCells are those of this run, and of the others where this one has none. The caller holds the lock.
func allCells() map[cell]*tally {
	all := maps.Clone(results.merged)
	if all == nil {
		all = make(map[cell]*tally)
	}
	maps.Copy(all, results.cells)
	return all
}

// mergeResults adds those of other runs, which count as parts of one. What was run again counts by its last result.
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
			if results.merged == nil {
				results.merged = make(map[cell]*tally)
			}
			results.merged[r.Cell] = &r.Tally
		}
		for title, text := range k.Sections {
			section(title, text)
		}
		decoded.add(k.Decoded)
	}
	return nil
}
