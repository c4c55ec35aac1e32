// The ingest gateway is the only way from a workload cluster into the service cluster: it takes logs and metrics, says
// whose they are, and acknowledges only what cannot be changed any more. See README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/buckets"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/config"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/service"
)

// Exit codes.
const (
	exitOK    = 0
	exitError = 1 // it could not start, serve, or finish what it had
	exitUsage = 2 // wrong arguments or configuration
)

// version is set by -ldflags "-X main.version=...".
var version = "development"

const usage = `usage: ingest-gateway serve   --config FILE
       ingest-gateway check   --config FILE
       ingest-gateway buckets --config FILE [--timeout 5m]
       ingest-gateway version
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		stop() // a second signal ends the process at once
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, out, errs io.Writer) int {
	logger := slog.New(slog.NewJSONHandler(errs, nil))
	if len(args) == 0 {
		args = []string{"help"}
	}
	flags := flag.NewFlagSet("ingest-gateway "+args[0], flag.ContinueOnError)
	flags.SetOutput(errs)
	file := flags.String("config", "", "the configuration `FILE`")
	timeout := flags.Duration("timeout", 5*time.Minute, "buckets: how long to wait for the object store")
	if err := flags.Parse(args[1:]); err != nil {
		return exitUsage
	}
	if flags.NArg() > 0 {
		return fail(errs, exitUsage, fmt.Errorf("what is %q?\n%s", flags.Arg(0), usage))
	}
	switch args[0] {
	case "serve", "check":
		cfg, err := config.Read(*file)
		if err != nil {
			return fail(errs, exitUsage, err)
		}
		if args[0] == "check" {
			return exitOK
		}
		g, err := service.New(cfg, version, logger)
		if err == nil {
			err = g.Run(ctx)
		}
		return fail(errs, exitError, err)
	case "buckets":
		f, err := buckets.Read(*file)
		if err != nil {
			return fail(errs, exitUsage, err)
		}
		ctx, cancel := context.WithTimeout(ctx, *timeout)
		defer cancel()
		return fail(errs, exitError, buckets.Ensure(ctx, f, logger))
	case "version":
		_, err := fmt.Fprintln(out, version)
		return fail(errs, exitError, err)
	case "help", "-h", "--help":
		_, err := fmt.Fprint(out, usage)
		return fail(errs, exitError, err)
	default:
		return fail(errs, exitUsage, errors.New(usage))
	}
}

func fail(errs io.Writer, code int, err error) int {
	if err == nil {
		return exitOK
	}
	_, _ = fmt.Fprintln(errs, "ingest-gateway:", err)
	return code
}
