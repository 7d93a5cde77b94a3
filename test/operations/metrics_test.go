// Package operations checks what operators get: the dashboard and the alert rules against what the
// collector really has, and the manifest for Kubernetes against its types.
package operations

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	iwarpprom "github.com/rdmanet/iwarp/metrics/prometheus"
)

const (
	dashboardFile = "../../metrics/dashboard.json"
	alertsFile    = "../../metrics/alerts.yml"
)

// series has the values of each label of each metric; those of a histogram have its three names.
type series map[string]map[string][]string

func collected(t *testing.T) series {
	r := prometheus.NewRegistry()
	r.MustRegister(iwarpprom.NewCollector())
	families, err := r.Gather()
	require.NoError(t, err)
	all := make(series)
	for _, f := range families {
		with := make(map[string][]string)
		names := []string{f.GetName()}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				with[l.GetName()] = append(with[l.GetName()], l.GetValue())
			}
			if m.Histogram != nil {
				names = []string{f.GetName() + "_bucket", f.GetName() + "_sum", f.GetName() + "_count"}
				with["le"] = nil
			}
		}
		for _, name := range names {
			all[name] = with
		}
	}
	return all
}

// check parses a query and returns the metrics in it. All that it selects must be there.
func (s series) check(t *testing.T, query string) (metrics []string) {
	t.Helper()
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(strings.ReplaceAll(query, "$__rate_interval", "5m"))
	require.NoError(t, err, query)
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		switch n := n.(type) {
		case *parser.VectorSelector:
			metrics = append(metrics, n.Name)
			require.Contains(t, s, n.Name)
			for _, m := range n.LabelMatchers {
				s.matches(t, n.Name, m)
			}
		case *parser.AggregateExpr:
			require.False(t, n.Without)
			for _, label := range n.Grouping {
				parser.Inspect(n.Expr, func(inner parser.Node, _ []parser.Node) error {
					if v, ok := inner.(*parser.VectorSelector); ok && label != "job" && label != "instance" {
						require.Contains(t, s[v.Name], label, v.Name)
					}
					return nil
				})
			}
		}
		return nil
	})
	require.NotEmpty(t, metrics, query)
	return metrics
}

func (s series) matches(t *testing.T, metric string, m *labels.Matcher) {
	t.Helper()
	if m.Name == model.MetricNameLabel || m.Name == "job" || m.Name == "instance" {
		return
	}
	values := []string{m.Value}
	if m.Type == labels.MatchRegexp || m.Type == labels.MatchNotRegexp {
		values = strings.Split(m.Value, "|")
	}
	for _, v := range values {
		require.Contains(t, s[metric][m.Name], v, "%s has no %s %q", metric, m.Name, v)
	}
}

type dashboard struct {
	UID        string `json:"uid"`
	Templating struct {
		List []struct{ Name, Query any } `json:"list"`
	} `json:"templating"`
	Panels []struct {
		ID      int    `json:"id"`
		Type    string `json:"type"`
		Title   string `json:"title"`
		GridPos struct{ X, Y, W, H int }
		Targets []struct{ Expr, LegendFormat, RefID string }
	} `json:"panels"`
}

// TestDashboard has every metric of the collector in the dashboard, and none that it has not.
func TestDashboard(t *testing.T) {
	b, err := os.ReadFile(dashboardFile)
	require.NoError(t, err)
	var d dashboard
	require.NoError(t, json.Unmarshal(b, &d))
	require.NotEmpty(t, d.UID)
	all := collected(t)
	unused := make(map[string]bool)
	for name := range all {
		unused[name] = !strings.HasSuffix(name, "_sum") && !strings.HasSuffix(name, "_count")
	}
	ids := make(map[int]bool)
	cells := make(map[[2]int]string)
	for _, p := range d.Panels {
		require.False(t, ids[p.ID], p.Title)
		ids[p.ID] = true
		require.NotEmpty(t, p.Title)
		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24)
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				require.Empty(t, cells[at], p.Title)
				cells[at] = p.Title
			}
		}
		require.Equal(t, p.Type == "row", len(p.Targets) == 0, p.Title)
		for _, target := range p.Targets {
			for _, metric := range all.check(t, target.Expr) {
				unused[metric] = false
			}
			require.Contains(t, target.Expr, `job=~"$job",instance=~"$instance"`)
		}
	}
	for name, is := range unused {
		require.False(t, is, "%s is on no panel", name)
	}
}

// TestAlerts parses the rules as Prometheus does.
func TestAlerts(t *testing.T) {
	groups, errs := rulefmt.ParseFile(alertsFile, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	require.Empty(t, errs)
	all := collected(t)
	var names []string
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			require.NotContains(t, names, r.Alert)
			names = append(names, r.Alert)
			all.check(t, r.Expr)
			for _, key := range []string{"summary", "action"} {
				require.NotEmpty(t, r.Annotations[key], r.Alert)
			}
			require.True(t, slices.Contains([]string{"info", "warning", "critical"}, r.Labels["severity"]), r.Alert)
		}
	}
	require.NotEmpty(t, names)
}

// TestAlertsFire has promtool play series to the rules, where it is installed.
func TestAlertsFire(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("promtool is not installed")
	}
	require.NoError(t, err)
	c := exec.CommandContext(t.Context(), promtool, "test", "rules", "alerts_test.yml")
	c.Dir = "../../metrics"
	out, err := c.CombinedOutput()
	require.NoError(t, err, string(out))
}
