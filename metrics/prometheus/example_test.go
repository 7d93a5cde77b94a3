package iwarpprom_test

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	iwarpprom "github.com/rdmanet/iwarp/metrics/prometheus"
)

func Example() {
	prometheus.MustRegister(iwarpprom.NewCollector())
	http.Handle("/metrics", promhttp.Handler())
}
