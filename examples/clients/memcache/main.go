// Command memcache uses memcached over iWARP.
//
//	 client := memcache.New(os.Args[1])
//	+client.DialContext = new(iwarp.Dialer).DialContext
package main

import (
	"fmt"
	"log"
	"os"

	"github.com/bradfitz/gomemcache/memcache"

	"github.com/rdmanet/iwarp"
)

func main() {
	client := memcache.New(os.Args[1])
	client.DialContext = new(iwarp.Dialer).DialContext
	if err := client.Set(&memcache.Item{Key: "greeting", Value: []byte("hello from memcached")}); err != nil {
		log.Fatal(err)
	}
	item, err := client.Get("greeting")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(item.Value))
}
