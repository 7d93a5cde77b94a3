// Command mysql uses MariaDB or MySQL over iWARP.
//
//	+mysql.RegisterDialContext("iwarp", iwarp.ContextDialer)
//	-db, err := sql.Open("mysql", "root@tcp(server:3306)/")
//	+db, err := sql.Open("mysql", "root@iwarp(server:3306)/")
//	+db.SetConnMaxIdleTime(time.Minute) // less than wait_timeout: see the README, Limits
package main

import (
	"database/sql"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/rdmanet/iwarp"
)

func main() {
	mysql.RegisterDialContext("iwarp", iwarp.ContextDialer)
	db, err := sql.Open("mysql", "root@iwarp("+os.Args[1]+")/")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	db.SetConnMaxIdleTime(time.Minute)
	var greeting string
	err = db.QueryRow("select concat('hello from ', ?)", "mysql").Scan(&greeting)
	fmt.Println(greeting, err)
}
