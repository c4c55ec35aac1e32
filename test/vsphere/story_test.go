// Package vsphere proves the vSphere provider with the lab's vCenter, whose virtual machines are hosts.
package vsphere

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/test/lab/vsphere"
	"github.com/catamaran-k8s/catamaran/test/site"
	"github.com/catamaran-k8s/catamaran/test/story"
)

var (
	keep  = flag.Bool("keep", false, "leave the vCenter and its machines running at the end")
	kills = flag.Int("kills", story.LeastKills, "at how many different API calls apply is killed")
)

// The lab of the story, beside the others'.
const (
	labDir    = "/var/lib/catamaran-vsphere-e2e"
	labName   = "catv"
	labSubnet = "10.84.0.0/23"
)

func TestStory(t *testing.T) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	t.Cleanup(stop)
	release, err := site.Alone(labDir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, release()) })
	dir := t.TempDir()
	catamaran, lab := filepath.Join(dir, "catamaran"), filepath.Join(dir, "lab")
	require.NoError(t, site.Build(ctx, catamaran, "cmd/catamaran"))
	require.NoError(t, site.Build(ctx, lab, "test/lab"))
	run := func(ctx context.Context, args ...string) error {
		c := exec.CommandContext(ctx, lab, append([]string{"--dir", labDir, "--name", labName, "vsphere"}, args...)...)
		c.Stdout, c.Stderr = os.Stderr, os.Stderr // it may build for minutes: show it
		return c.Run()
	}
	require.NoError(t, run(ctx, "down"), "what an earlier run left")
	if !*keep {
		t.Cleanup(func() {
			// with a context of its own: an interrupted run cleans up too
			down, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Minute)
			defer cancel()
			require.NoError(t, run(down, "down"), "the lab was not taken down cleanly")
		})
	}
	require.NoError(t, run(ctx, "up", "--subnet", labSubnet))
	w, err := newWorld(ctx)
	require.NoError(t, err)
	story.Run(t, story.Options{World: w, Binary: catamaran, Ctx: ctx, Kills: *kills})
}

// newWorld signs in to the lab's vCenter, past the proxy.
func newWorld(ctx context.Context) (*world, error) {
	s, err := vsphere.Open(ctx, labDir)
	if err != nil {
		return nil, err
	}
	password, err := os.ReadFile(s.PasswordFile)
	if err != nil {
		return nil, err
	}
	w := &world{state: s.State, password: string(password)}
	if err := w.signIn(ctx); err != nil {
		return nil, fmt.Errorf("sign in to %s: %w", s.Direct, err)
	}
	return w, nil
}
