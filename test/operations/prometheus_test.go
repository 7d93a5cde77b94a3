package operations

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	grafana "github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"

	iwarpprom "github.com/rdmanet/iwarp/metrics/prometheus"
)

// TestDashboardSchema decodes the dashboard into the types of Grafana, which refuses fields that
// there are not.
func TestDashboardSchema(t *testing.T) {
	b, err := os.ReadFile(dashboardFile)
	require.NoError(t, err)
	plugins.RegisterDefaultPlugins()
	var d grafana.Dashboard
	for _, err := range []error{d.UnmarshalJSONStrict(b), d.Validate()} {
		if err != nil { // it may be a list of none
			require.Empty(t, err.Error())
		}
	}
	require.NotEmpty(t, d.Panels)
}

// A server is a Prometheus that runs.
type server struct {
	t   *testing.T
	url string
}

// get asks the API, and returns false while it does not answer.
func (s *server) get(path string, into any) bool {
	r, err := http.Get(s.url + "/api/v1/" + path)
	if err != nil {
		return false
	}
	defer r.Body.Close()
	if r.StatusCode == http.StatusServiceUnavailable { // it starts
		return false
	}
	var answer struct {
		Status, Error string
		Warnings      []string
		Data          json.RawMessage
	}
	require.NoError(s.t, json.NewDecoder(r.Body).Decode(&answer), path)
	require.Equal(s.t, "success", answer.Status, "%s: %s", path, answer.Error)
	require.Empty(s.t, answer.Warnings, path)
	require.NoError(s.t, json.Unmarshal(answer.Data, into), path)
	return true
}

type sample struct {
	Metric map[string]string
	Value  [2]any
}

func (s *server) query(expr string) (list []sample) {
	var data struct{ Result []sample }
	if s.get("query?query="+url.QueryEscape(expr), &data) {
		list = data.Result
	}
	return list
}

// serve starts a Prometheus that scrapes target, with the rules.
func serve(t *testing.T, program, target string) *server {
	dir := t.TempDir()
	rules, err := filepath.Abs(alertsFile)
	require.NoError(t, err)
	config := fmt.Sprintf("global: {scrape_interval: 200ms, evaluation_interval: 200ms}\nrule_files: [%q]\n"+
		"scrape_configs: [{job_name: iwarp, static_configs: [{targets: [%q]}]}]\n", rules, target)
	file := filepath.Join(dir, "prometheus.yml")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	var said bytes.Buffer
	cmd.Stderr = &said
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	return &server{t, "http://" + address}
}

var legendLabel = regexp.MustCompile(`\{\{(\w+)\}\}`)

// TestPrometheus has a real Prometheus scrape a process with connections of many kinds, and
// answer every query of the dashboard and of the rules.
func TestPrometheus(t *testing.T) {
	program, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("prometheus is not installed")
	}
	r := prometheus.NewRegistry()
	r.MustRegister(iwarpprom.NewCollector())
	scraped := httptest.NewServer(promhttp.HandlerFor(r, promhttp.HandlerOpts{}))
	defer scraped.Close()
	s := serve(t, program, strings.TrimPrefix(scraped.URL, "http://"))
	eventually := func(expr string) {
		require.Eventually(t, func() bool { return len(s.query(expr)) > 0 }, time.Minute, 50*time.Millisecond, expr)
	}
	live(t)
	eventually(`sum(iwarp_connections{path="soft"}) >= 7`)
	eventually(`sum(iwarp_setup_failures_total) >= 1`)
	live(t) // so that counters that are there are seen to rise
	eventually(`sum(iwarp_connections{path="soft"}) >= 14`)
	eventually(`sum(iwarp_setup_failures_total) >= 2`)
	var values []string
	require.True(t, s.get("label/job/values?match[]=iwarp_connections", &values))
	require.Equal(t, []string{"iwarp"}, values)

	b, err := os.ReadFile(dashboardFile)
	require.NoError(t, err)
	var d dashboard
	require.NoError(t, json.Unmarshal(b, &d))
	instead := strings.NewReplacer("$job", ".*", "$instance", ".*", "$__rate_interval", "1m")
	var empty []string
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			list := s.query(instead.Replace(target.Expr))
			// Nobody has sent a Terminate, and perhaps no Write had to wait.
			if len(list) == 0 && !strings.Contains(target.Expr, "_terminates_") && !strings.Contains(target.Expr, "_blocked_") {
				empty = append(empty, p.Title+": "+target.LegendFormat)
			}
			for _, v := range list {
				for _, m := range legendLabel.FindAllStringSubmatch(target.LegendFormat, -1) {
					require.Contains(t, v.Metric, m[1], target.Expr)
				}
			}
		}
	}
	require.Empty(t, empty)

	var rules struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	require.Eventually(t, func() bool {
		s.get("rules", &rules)
		for _, g := range rules.Groups {
			for _, r := range g.Rules {
				if r.Health == "unknown" { // it was not evaluated yet
					return false
				}
			}
		}
		return len(rules.Groups) > 0
	}, time.Minute, 50*time.Millisecond)
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			require.Equal(t, "ok", r.Health, "%s: %s", r.Name, r.LastError)
		}
	}
}
