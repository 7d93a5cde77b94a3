// Command pgx uses PostgreSQL over iWARP.
//
//	 config, err := pgx.ParseConfig(os.Args[1])
//	+config.DialFunc = new(iwarp.Dialer).DialContext
//	 conn, err := pgx.ConnectConfig(ctx, config)
//
// For a pool it is the field ConnConfig.DialFunc of pgxpool.Config.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/jackc/pgx/v5"

	"github.com/rdmanet/iwarp"
)

func main() {
	ctx := context.Background()
	config, err := pgx.ParseConfig(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	config.DialFunc = new(iwarp.Dialer).DialContext
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close(ctx)
	var greeting string
	err = conn.QueryRow(ctx, "select 'hello from ' || $1", "postgresql").Scan(&greeting)
	fmt.Println(greeting, err)
}
