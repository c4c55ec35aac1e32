// Package e2e runs the product's own binary against real machines, from empty machines to two clusters and back, and
// checks what came of it through the Kubernetes API. By default the machines are the lab's (test/lab); with
// E2E_INVENTORY=FILE they are whatever that inventory lists, such as Vagrant's.
//
// The tests are one story and share its site: each stands on what the one before it left.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	testsite "github.com/catamaran-k8s/catamaran/test/site"
)

var (
	keep  = flag.Bool("keep", false, "leave the machines running at the end")
	kills = flag.Int("kills", 10, "how often apply is killed with SIGKILL before it may end")
	seed  = flag.Uint64("seed", 0, "of the random moments at which apply is killed; 0: by the clock")
)

// suite is what the tests share.
type suite struct {
	ctx      context.Context
	dir      string // scratch
	binary   string // catamaran
	machines machines
	site     *site
	canaries *canaries
}

var s *suite // TestMain has no other way to hand it over

func TestMain(m *testing.M) {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, m)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, m *testing.M) (code int) {
	dir, err := os.MkdirTemp("", "catamaran-e2e-")
	if err != nil {
		return fatal(err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // scratch
	s = &suite{ctx: ctx, dir: dir, binary: filepath.Join(dir, "catamaran")}
	if err := testsite.Build(ctx, s.binary, "cmd/catamaran"); err != nil {
		return fatal(err)
	}
	if s.machines, err = newMachines(ctx, dir); err != nil {
		return fatal(err)
	}
	if err := s.machines.up(ctx); err != nil {
		return fatal(err)
	}
	if !*keep {
		defer func() {
			// with a context of its own: an interrupted run cleans up too
			down, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Minute)
			defer cancel()
			if err := s.machines.down(down); err != nil {
				code = fatal(fmt.Errorf("the machines were not taken down cleanly: %w", err))
			}
		}()
	}
	if s.canaries, err = newCanaries(); err != nil {
		return fatal(err)
	}
	if s.site, err = newSite(ctx, s); err != nil {
		return fatal(err)
	}
	defer s.site.close()
	return m.Run()
}

func fatal(err error) int {
	fmt.Fprintln(os.Stderr, "e2e:", err)
	return 1
}
