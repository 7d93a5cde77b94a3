package main

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
)

// A chart is drawn twice, for light and for dark pages.
type chart struct {
	Title string
	Keys  []key
	Light template.HTML
	Dark  template.HTML
}

// A key says which path has which colour.
type key struct{ Label, Colour string }

type theme struct {
	paper, ink, faint color.Color
}

var (
	light = theme{color.White, color.Gray{0x24}, color.Gray{0xdd}}
	dark  = theme{color.Gray{0x16}, color.Gray{0xe4}, color.Gray{0x40}}
)

// colours are those of Okabe and Ito, which the colour-blind can tell apart, on light and on dark.
var colours = map[string]string{
	lab.TCP:      "#888888",
	lab.TCPAgain: "#888888",
	lab.Fallback: "#cc79a7",
	lab.SoftCRC:  "#0072b2",
	lab.SoftPoll: "#9ec9e2",
	lab.Soft:     "#56b4e9",
	lab.TLS:      "#d55e00",
	lab.Shm:      "#009e73",
	lab.ShmPoll:  "#8fd1bd",
	lab.Unix:     "#e69f00",
}

func colourOf(path string) color.Color {
	c := color.RGBA{A: 0xff}
	_, _ = fmt.Sscanf(colours[path], "#%02x%02x%02x", &c.R, &c.G, &c.B)
	return c
}

// charts are the ratios of one kind side by side, and the rates of busy connections.
func (r *report) charts() (cs []chart, err error) {
	for _, kind := range []struct {
		title string
		units []string
	}{
		{"Time there and back, and of requests: ratio to plain TCP, less is better", []string{p50, p99, p999}},
		{"Throughput and rates: ratio to plain TCP, more is better", []string{rate, messages, operations, setUps}},
		{"Processor time of both ends: ratio to plain TCP, less is better", []string{cpuByte, cpuOp}},
	} {
		var groups [][]*result
		for _, of := range r.measures() {
			if slices.Contains(kind.units, of[0].Unit) && of[0].TCP.there() {
				groups = append(groups, of)
			}
		}
		if len(groups) == 0 {
			continue
		}
		c, err := both(kind.title, keysOf(groups), func(t theme) (*plot.Plot, error) { return ratios(groups, t) }, len(groups))
		if err != nil {
			return nil, err
		}
		cs = append(cs, c)
	}
	if len(r.busy(lab.TCP)) > 1 {
		keys := []key{{label(lab.TCP), colours[lab.TCP]}}
		for _, path := range iwarpWay {
			keys = append(keys, key{label(path), colours[path]})
		}
		c, err := both("64 B there and back, operations per second by connections at once", keys, r.crowds, 8)
		if err != nil {
			return nil, err
		}
		cs = append(cs, c)
	}
	return cs, nil
}

// keysOf returns the keys of the paths that the groups have.
func keysOf(groups [][]*result) (keys []key) {
	for _, path := range allColumns {
		if pointsOf(groups, path, 0, anyResult).Len() > 0 {
			keys = append(keys, key{label(path), colours[path]})
		}
	}
	return keys
}

func both(title string, keys []key, draw func(theme) (*plot.Plot, error), width int) (c chart, err error) {
	c.Title, c.Keys = title, keys
	if c.Light, err = svg(draw, light, width); err == nil {
		c.Dark, err = svg(draw, dark, width)
	}
	return c, err
}

func svg(drawn func(theme) (*plot.Plot, error), t theme, width int) (template.HTML, error) {
	p, err := drawn(t)
	if err != nil {
		return "", err
	}
	p.BackgroundColor = t.paper
	for _, s := range []*draw.TextStyle{&p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label} {
		s.Color = t.ink
	}
	for _, l := range []*draw.LineStyle{&p.X.LineStyle, &p.Y.LineStyle, &p.X.Tick.LineStyle, &p.Y.Tick.LineStyle} {
		l.Color = t.ink
	}
	c := vgsvg.NewWith(vgsvg.UseWH(vg.Length(2+width)*0.85*vg.Inch, 5*vg.Inch))
	p.Draw(draw.New(c))
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return "", err
	}
	s := b.String()
	return template.HTML(s[max(0, strings.Index(s, "<svg")):]), nil
}

// ratios draws a group of points for each measure, with their intervals, and a ring in place of a
// point that is not usable.
func ratios(groups [][]*result, t theme) (*plot.Plot, error) {
	p := plot.New()
	p.Y.Scale = plot.LogScale{}
	p.Y.Tick.Marker = plot.ConstantTicks(ratioTicks)
	names := make([]string, len(groups))
	for i, of := range groups {
		names[i] = strings.ReplaceAll(of[0].Workload, "/", "\n") + "\n" + of[0].Unit
	}
	p.NominalX(names...)
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = nil, t.faint
	one := plotter.NewFunction(func(float64) float64 { return 1 })
	one.Color = t.ink
	p.Add(grid, one)
	for k, path := range allColumns {
		shift := (float64(k) - float64(len(allColumns)-1)/2) * 0.09
		for shape, usable := range map[draw.GlyphDrawer]bool{draw.CircleGlyph{}: true, draw.RingGlyph{}: false} {
			at := pointsOf(groups, path, shift, func(x *result) bool { return x.Usable == usable })
			if at.Len() == 0 {
				continue
			}
			s, err := plotter.NewScatter(at)
			if err != nil {
				return nil, err
			}
			s.Color, s.Shape, s.Radius = colourOf(path), shape, vg.Points(3.5)
			e, err := plotter.NewYErrorBars(at)
			if err != nil {
				return nil, err
			}
			e.Color, e.CapWidth = colourOf(path), vg.Points(4)
			p.Add(e, s)
		}
	}
	p.X.Min, p.X.Max = -0.6, float64(len(groups))-0.4
	p.Y.Min, p.Y.Max = min(p.Y.Min, 0.5), max(p.Y.Max, 2)
	return p, nil
}

var ratioTicks = func() (ts []plot.Tick) {
	for v := 1.0 / 128; v <= 128; v *= 2 {
		name := fmt.Sprintf("%g", v)
		if v < 1 {
			name = fmt.Sprintf("1/%g", 1/v)
		}
		ts = append(ts, plot.Tick{Value: v, Label: name})
	}
	return ts
}()

// points are ratios and their intervals.
type points struct {
	plotter.XYs
	plotter.YErrors
}

func anyResult(*result) bool { return true }

func pointsOf(groups [][]*result, path string, shift float64, which func(*result) bool) (ps points) {
	for i, of := range groups {
		for _, x := range of {
			if label(x.Path) == label(path) && which(x) && x.Ratio.there() && x.Ratio > 0 && x.Low > 0 {
				v := float64(x.Ratio)
				ps.XYs = append(ps.XYs, plotter.XY{X: float64(i) + shift, Y: v})
				ps.YErrors = append(ps.YErrors, struct{ Low, High float64 }{v - float64(x.Low), float64(x.High) - v})
			}
		}
	}
	return ps
}

// busy returns the rate of busy connections by their number.
func (r *report) busy(path string) (xys plotter.XYs) {
	for _, x := range r.Results {
		var n int
		if _, err := fmt.Sscanf(x.Workload, "Busy/conns=%d", &n); err == nil && x.Path == path && x.Unit == operations && x.Value.there() {
			xys = append(xys, plotter.XY{X: float64(n), Y: float64(x.Value)})
		}
	}
	return xys
}

func (r *report) crowds(t theme) (*plot.Plot, error) {
	p := plot.New()
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, crowdTicks(r.busy(lab.TCP))
	p.Y.Min = 0
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = nil, t.faint
	p.Add(grid)
	for _, path := range append([]string{lab.TCP}, allColumns[1:]...) {
		xys := r.busy(path)
		if len(xys) == 0 {
			continue
		}
		l, s, err := plotter.NewLinePoints(xys)
		if err != nil {
			return nil, err
		}
		l.Color, s.Color, s.Shape = colourOf(path), colourOf(path), draw.CircleGlyph{}
		p.Add(l, s)
	}
	p.X.Max *= 1.2 // else the label of the last tick is cut off
	return p, nil
}

func crowdTicks(at plotter.XYs) (ts plot.ConstantTicks) {
	for _, v := range at {
		ts = append(ts, plot.Tick{Value: v.X, Label: fmt.Sprint(v.X)})
	}
	return ts
}
