// Command redis uses go-redis over iWARP.
//
//	 client := redis.NewClient(&redis.Options{
//	 	Addr: os.Args[1],
//	+	Dialer: new(iwarp.Dialer).DialContext,
//	+	ConnMaxIdleTime: time.Minute, // less than the server's timeout: see the README, Limits
//	 })
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rdmanet/iwarp"
)

func main() {
	ctx := context.Background()
	client := redis.NewClient(&redis.Options{
		Addr:            os.Args[1],
		Dialer:          new(iwarp.Dialer).DialContext,
		ConnMaxIdleTime: time.Minute,
	})
	defer client.Close()
	if err := client.Set(ctx, "greeting", "hello from redis", 0).Err(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(client.Get(ctx, "greeting").Val())
}
