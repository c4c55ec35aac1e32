// Catamaran turns a list of machines into two Kubernetes clusters. This folder is the command line and holds no logic:
// each command parses its flags, calls one function and renders what it returns.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes. They are part of the interface: scripts depend on them.
const (
	exitOK      = 0
	exitError   = 1
	exitWork    = 2 // plan: there is something to do
	exitPartial = 4 // apply: some nodes could not be reached or some steps failed; the rest is done
	exitBusy    = 5 // another apply holds the lock
)

// version is set by -ldflags "-X main.version=...".
var version = "development"

func main() {
	log.SetOutput(io.Discard) // libraries print notes there; ours come as errors and events
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		stop() // a second signal ends the process at once
	}()
	os.Exit(run(ctx, os.Args[1:]))
}

func run(ctx context.Context, args []string) int {
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var code *exitCode
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		if code.err != nil {
			fmt.Fprintln(os.Stderr, "catamaran:", code.err)
		}
		return code.code
	default:
		fmt.Fprintln(os.Stderr, "catamaran:", err)
		return exitError
	}
}

// exitCode is an error that chooses the process's exit code; without err nothing is printed.
type exitCode struct {
	code int
	err  error
}

func (e *exitCode) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *exitCode) Unwrap() error { return e.err }
