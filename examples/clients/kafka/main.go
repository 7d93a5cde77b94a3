// Command kafka writes to and reads from a topic of Kafka over iWARP, by kafka-go.
//
//	-writer := &kafka.Writer{Addr: kafka.TCP(address), Topic: topic}
//	+writer := &kafka.Writer{Addr: kafka.TCP(address), Topic: topic,
//	+	Transport: &kafka.Transport{Dial: new(iwarp.Dialer).DialContext}}
//	 reader := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{address}, Topic: topic,
//	+	Dialer: &kafka.Dialer{DialFunc: new(iwarp.Dialer).DialContext},
//	 })
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/segmentio/kafka-go"

	"github.com/rdmanet/iwarp"
)

func main() {
	ctx, dial := context.Background(), new(iwarp.Dialer).DialContext
	writer := &kafka.Writer{Addr: kafka.TCP(os.Args[1]), Topic: "greetings", Transport: &kafka.Transport{Dial: dial}}
	if err := writer.WriteMessages(ctx, kafka.Message{Value: []byte("hello from kafka")}); err != nil {
		log.Fatal(err)
	}
	reader := kafka.NewReader(kafka.ReaderConfig{Brokers: os.Args[1:2], Topic: "greetings", Dialer: &kafka.Dialer{DialFunc: dial}})
	defer reader.Close()
	m, err := reader.ReadMessage(ctx)
	fmt.Println(string(m.Value), err)
}
