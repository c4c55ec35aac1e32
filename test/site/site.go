// Package site is an inventory under test: edited as an operator would, handed to the product's own binary, and looked at from outside.
package site

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// Site is an inventory file, and everything the product ever said of it.
type Site struct {
	// Ctx ends every command.
	Ctx context.Context //nolint:containedctx // tests share one, which a signal ends
	// Binary is catamaran, Path the inventory, Env the environment that it is run in.
	Binary, Path string
	Env          []string

	mu   sync.Mutex
	said bytes.Buffer // stdout and stderr of every command
}

// Build compiles a package of this module.
func Build(ctx context.Context, out, pkg string) error {
	c := exec.CommandContext(ctx, "go", "build", "-o", out, "github.com/catamaran-k8s/catamaran/"+pkg)
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	if err := c.Run(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, said.String())
	}
	return nil
}

// At walks a parsed inventory, and makes what is missing.
func At(m map[string]any, path ...string) map[string]any {
	for _, p := range path {
		next, ok := m[p].(map[string]any)
		if !ok {
			next = map[string]any{}
			m[p] = next
		}
		m = next
	}
	return m
}

// Nodes is the list of a cluster in a parsed inventory.
func Nodes(m map[string]any, c inventory.ClusterName) []any {
	list, _ := At(m, "clusters", string(c))["nodes"].([]any)
	return list
}

// Edit reads an inventory, changes it and writes it as the site's.
func (s *Site) Edit(from string, change func(map[string]any)) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	m := map[string]any{}
	if err := yaml.Unmarshal(data, &m); err != nil {
		return err
	}
	change(m)
	if data, err = yaml.Marshal(m); err != nil {
		return err
	}
	return os.WriteFile(s.Path, data, 0o600)
}

// Change edits the site's inventory.
func (s *Site) Change(t *testing.T, change func(map[string]any)) {
	t.Helper()
	require.NoError(t, s.Edit(s.Path, change))
}

// Load reads the inventory.
func (s *Site) Load(t *testing.T) *inventory.Inventory {
	t.Helper()
	inv, err := inventory.Load(s.Path)
	require.NoError(t, err)
	return inv
}

// Command prepares the product; what it says is kept.
func (s *Site) Command(ctx context.Context, args ...string) (*exec.Cmd, *bytes.Buffer) {
	c := exec.CommandContext(ctx, s.Binary, append([]string{"-f", s.Path}, args...)...)
	c.Env = s.Env
	var out bytes.Buffer
	w := io.MultiWriter(&out, &locked{s})
	c.Stdout, c.Stderr = w, w
	return c, &out
}

type locked struct{ s *Site }

func (l *locked) Write(p []byte) (int, error) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	return l.s.said.Write(p)
}

// Said is what all commands printed so far.
func (s *Site) Said() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.said.Bytes())
}

// Run runs the product to its end and returns what it said and its exit code.
func (s *Site) Run(t *testing.T, args ...string) (string, int) {
	t.Helper()
	c, out := s.Command(s.Ctx, args...)
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return out.String(), c.ProcessState.ExitCode()
}

// Must runs the product and expects an exit code.
func (s *Site) Must(t *testing.T, code int, args ...string) string {
	t.Helper()
	out, got := s.Run(t, args...)
	require.Equal(t, code, got, "catamaran %s:\n%s", strings.Join(args, " "), out)
	return out
}

// Journal is the site's whole journal, checked.
func (s *Site) Journal(t *testing.T) []plan.Entry {
	t.Helper()
	f, err := os.Open(filepath.Join(s.Load(t).SiteDir(), plan.JournalName))
	require.NoError(t, err)
	defer f.Close() //nolint:errcheck // only read
	entries, err := plan.ReadJournal(f)
	require.NoError(t, err)
	return entries
}

// Plan is what an apply would do.
func (s *Site) Plan(t *testing.T) plan.Plan {
	t.Helper()
	c := exec.CommandContext(s.Ctx, s.Binary, "-f", s.Path, "plan", "-o", "json")
	c.Env = s.Env
	var said bytes.Buffer
	c.Stderr = &said
	out, err := c.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	var p plan.Plan
	require.NoError(t, json.Unmarshal(out, &p), "%s%s", out, said.String())
	return p
}

// Planned is what a plan would do, by step.
func (s *Site) Planned(t *testing.T) []string {
	t.Helper()
	ids := []string{}
	for _, st := range s.Plan(t).Steps {
		ids = append(ids, st.ID)
	}
	return ids
}

// Client speaks to a cluster's API by the kubeconfig that the product wrote, through its endpoint.
func (s *Site) Client(t *testing.T, c inventory.ClusterName) *kubernetes.Clientset {
	t.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", plan.KubeconfigPath(s.Load(t).SiteDir(), c))
	require.NoError(t, err)
	cfg.Timeout = 20 * time.Second
	cl, err := kubernetes.NewForConfig(cfg)
	require.NoError(t, err)
	return cl
}

// Eventually polls until f holds; the last error is shown when it never does.
func (s *Site) Eventually(t *testing.T, within time.Duration, f func(context.Context) error) {
	t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(s.Ctx, 500*time.Millisecond, within, true, func(ctx context.Context) (bool, error) {
		last = f(ctx)
		return last == nil, nil
	})
	require.NoError(t, err, "after %s: %v", within, last)
}

// Ready says whether a node is.
func Ready(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
