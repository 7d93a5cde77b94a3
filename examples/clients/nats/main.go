// Command nats uses NATS over iWARP.
//
//	-nc, err := nats.Connect("nats://" + os.Args[1])
//	+nc, err := nats.Connect("nats://"+os.Args[1], nats.SetCustomDialer(new(iwarp.Dialer)))
package main

import (
	"fmt"
	"log"
	"os"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rdmanet/iwarp"
)

func main() {
	nc, err := nats.Connect("nats://"+os.Args[1], nats.SetCustomDialer(new(iwarp.Dialer)))
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
	_, err = nc.Subscribe("greet", func(m *nats.Msg) { _ = m.Respond([]byte("hello from " + string(m.Data))) })
	if err != nil {
		log.Fatal(err)
	}
	answer, err := nc.Request("greet", []byte("nats"), 10*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(answer.Data))
}
