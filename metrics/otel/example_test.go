package iwarpotel_test

import (
	"log"

	"go.opentelemetry.io/otel"

	iwarpotel "github.com/rdmanet/iwarp/metrics/otel"
)

func Example() {
	registration, err := iwarpotel.Register(otel.GetMeterProvider())
	if err != nil {
		log.Fatal(err)
	}
	defer registration.Unregister()
}
