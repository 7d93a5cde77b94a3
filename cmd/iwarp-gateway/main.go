// Iwarp-gateway carries connections between programs that know TCP alone and iWARP. One stands
// beside the client and turns its TCP into iWARP, another beside the server turns it back.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/rdmanet/iwarp/cmd/internal/manual"
	_ "github.com/rdmanet/iwarp/transport/shm"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cmd := command(os.Stderr)
	if err := cmd.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "iwarp-gateway:", err)
		os.Exit(1)
	}
}

// options are what the flags set.
type options struct {
	file, admin, logFormat string
	drain                  time.Duration
	defaults               mapping // of the mappings that are arguments
	check                  bool
}

const long = `Iwarp-gateway takes connections on some addresses and carries each on to another. Each side goes over
plain TCP or over iWARP, so that programs that cannot change use iWARP between two hosts:

  client host   iwarp-gateway tcp://127.0.0.1:6379=iwarp://server:16379
  server host   iwarp-gateway iwarp://:16379=tcp://127.0.0.1:6379

A MAPPING is LISTEN=TARGET, each an address with a scheme before it, which is the policy:

  tcp://     plain TCP alone
  iwarp://   iWARP alone: by a device, by shared memory, or in software
  prefer://  iWARP if the other end has it, else plain TCP (this is the default of targets)
  auto://    iWARP if it is offloaded, else plain TCP; a listener takes clients of both kinds
             (this is the default of listeners)

Where both sides are plain TCP, the kernel carries the bytes from one socket to the other. The end of one
direction is passed on, and a reset, too. A client whose target cannot be reached is reset.

Mappings with more to them, such as TLS or the PROXY protocol, come from a file in TOML:

  [[mapping]]
  listen    = "iwarp://:16379"
  target    = "tcp://127.0.0.1:6379"
  max       = 1000              # connections at once; more wait in the kernel's queue; 0: no limit
  timeout   = "10s"             # for the target to answer
  proxy-in  = true              # clients begin with a PROXY header, version 1 or 2
  proxy-out = true              # the target is told of the client by one of version 2
  [mapping.tls-in]              # clients speak TLS
  cert = "server.pem"
  key  = "server.key"
  ca   = "clients.pem"          # clients need a certificate of one of these
  [mapping.tls-out]             # the target speaks TLS
  name = "redis.example"        # in its certificate; the host of the target if it is left out
  ca   = "servers.pem"          # those of the system if it is left out
  cert = "client.pem"
  key  = "client.key"

SIGTERM lets no more clients in, and ends the program when those that are there are done, or after the time of
--drain. SIGHUP does the same once a new process has taken over the listening sockets, which reads the file
anew: no client is refused. Sockets that systemd passes are used where a mapping listens on their address.

With --admin ADDRESS there are /metrics for Prometheus, /healthz, and a page of all connections, /debug/iwarp.`

const examples = `  iwarp-gateway tcp://127.0.0.1:6379=iwarp://10.0.0.2:16379
  iwarp-gateway --config gateway.toml --admin 127.0.0.1:9180
  iwarp-gateway --config gateway.toml --check`

func command(errs io.Writer) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use: "iwarp-gateway [flags] [MAPPING]...", Short: "Carry TCP connections over iWARP, and back", Long: long, Example: examples,
		Args: cobra.ArbitraryArgs, SilenceUsage: true, SilenceErrors: true, DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), args, errs) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.file, "config", "c", "", "take mappings from this `file`, too")
	f.StringVar(&o.admin, "admin", "", "serve metrics, health and a page of the connections on this `address`")
	f.StringVar(&o.logFormat, "log", "text", "write the log as `text or json`, or none")
	f.DurationVar(&o.drain, "drain", 30*time.Second, "the `time` that connections have to end")
	f.BoolVar(&o.check, "check", false, "check the mappings and end")
	f.IntVar(&o.defaults.Max, "max", 0, "the `number` of connections that each MAPPING carries at once; 0 means no limit")
	f.Var(&o.defaults.Timeout, "timeout", "the `time` that the target of each MAPPING has to answer")
	f.BoolVar(&o.defaults.ProxyIn, "proxy-in", false, "clients of each MAPPING begin with a PROXY header")
	f.BoolVar(&o.defaults.ProxyOut, "proxy-out", false, "tell the target of each MAPPING of the client by a PROXY header")
	_ = cmd.MarkFlagFilename("config", "toml")
	cmd.AddCommand(manual.Command(cmd))
	return cmd
}

var errNoMappings = errors.New("no mapping; give one as LISTEN=TARGET, or a file by --config")

// run is the program.
func (o *options) run(ctx context.Context, args []string, errs io.Writer) error {
	mappings, err := o.mappings(args)
	if err != nil || o.check {
		return err
	}
	log, err := newLogger(o.logFormat, errs)
	if err != nil {
		return err
	}
	hangup := make(chan os.Signal, 1)
	notifyHangup(hangup)
	defer signal.Stop(hangup)
	g, err := newGateway(mappings, o.admin, log)
	if err != nil {
		return err
	}
	return g.serve(ctx, hangup, o)
}

// mappings returns those of the file and of the arguments.
func (o *options) mappings(args []string) (all []*mapping, err error) {
	if o.file != "" {
		if all, err = readFile(o.file); err != nil {
			return nil, err
		}
	}
	for _, arg := range args {
		m := o.defaults
		if err := m.parse(arg); err != nil {
			return nil, err
		}
		all = append(all, &m)
	}
	if len(all) == 0 {
		return nil, errNoMappings
	}
	return all, check(all)
}

func newLogger(format string, w io.Writer) (*slog.Logger, error) {
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, nil)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, nil)), nil
	case "none":
		return slog.New(slog.DiscardHandler), nil
	}
	return nil, fmt.Errorf("log format %q is none of text, json and none", format)
}
