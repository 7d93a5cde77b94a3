// Command ssh runs a command by SSH over iWARP, with a key.
//
//	-client, err := ssh.Dial("tcp", address, config)
//	+conn, err := iwarp.Dial("tcp", address)
//	+c, channels, requests, err := ssh.NewClientConn(conn, address, config)
//	+client := ssh.NewClient(c, channels, requests)
package main

import (
	"log"
	"os"

	"golang.org/x/crypto/ssh"

	"github.com/rdmanet/iwarp"
)

func main() {
	address, user, keyFile, command := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	pem, err := os.ReadFile(keyFile)
	check(err)
	key, err := ssh.ParsePrivateKey(pem)
	check(err)
	// A service checks the host: knownhosts.New in place of InsecureIgnoreHostKey.
	config := &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()}
	conn, err := iwarp.Dial("tcp", address)
	check(err)
	c, channels, requests, err := ssh.NewClientConn(conn, address, config)
	check(err)
	session, err := ssh.NewClient(c, channels, requests).NewSession()
	check(err)
	session.Stdout = os.Stdout
	check(session.Run(command))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
