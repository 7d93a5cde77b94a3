package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// print lists what a look has found.
func (g *guard) print(out io.Writer) error {
	var rows []string
	for _, list := range g.ports {
		for _, h := range list {
			// A place that is held in part only is among the troubles.
			if g.troubles[h.why.place] == nil {
				rows = append(rows, fmt.Sprintf("free\t%s\t%s\t%s\tno socket has it; portguard would", h.place, h.why.devices(), h.why.programs()))
			}
		}
	}
	for _, t := range g.troubles {
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s", t.reason, t.place, t.devices(), t.programs(), t.detail))
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintln(out, "no ids of rdma_cm with a port, on devices with ports of their own")
		return err
	}
	slices.SortFunc(rows, strings.Compare)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "STATE\tPORT\tDEVICE\tPROGRAM\tDETAIL")
	for _, r := range rows {
		fmt.Fprintln(w, r)
	}
	return w.Flush()
}
