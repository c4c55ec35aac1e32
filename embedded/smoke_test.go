package embedded

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// The check of the smoke chart runs in a real shell; in the place of agnhost stands a script that notes whom it was to
// reach, and reaches whoever is not named "down".
func TestSmokeCheck(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		me, nodes, peers int
		down             string
		reached          []string
		fails            string
	}{
		"a single node has no peers":      {me: 0, nodes: 1, peers: 10},
		"everyone else, in a ring":        {me: 1, nodes: 4, peers: 10, reached: []string{"2", "3", "0"}},
		"no more than asked for":          {me: 2, nodes: 4, peers: 2, reached: []string{"3", "0"}},
		"a peer that does not answer":     {me: 0, nodes: 4, peers: 10, down: "smoke-node-2.smoke-node.smoke.svc.cluster.local:8080", reached: []string{"1"}, fails: "pod on another node smoke-node-2.smoke-node.smoke.svc.cluster.local:8080: TIMEOUT"},
		"a Service that does not answer":  {me: 0, nodes: 2, peers: 10, down: "smoke-web.smoke.svc.cluster.local:80", fails: "Service smoke-web.smoke.svc.cluster.local:80: TIMEOUT"},
		"an API server that is not there": {me: 0, nodes: 2, peers: 10, down: "kubernetes.default.svc.cluster.local:443", fails: "API server by its Service kubernetes.default.svc.cluster.local:443: TIMEOUT"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			inv := site(t, fmt.Sprintf("components: {smoke: {enabled: true, values: {peers: %d}}}", c.peers))
			manifest, err := named(t, releases(t, inv, inventory.Service), "smoke").Manifest()
			require.NoError(t, err)
			require.Equal(t, "2\n", data(t, manifest, "nodes"), "the shell reads a line")
			require.NoError(t, os.WriteFile(filepath.Join(dir, "nodes"), fmt.Appendln(nil, c.nodes), 0o600))
			agnhost := filepath.Join(dir, "agnhost")
			require.NoError(t, os.WriteFile(agnhost, []byte(`#!/bin/sh
[ "$1 $2" = "connect --timeout=3s" ] || { echo "called with $*"; exit 2; }
[ "$3" != "`+c.down+`" ] || { echo TIMEOUT >&2; exit 1; }
echo "$3" >> `+dir+`/reached
`), 0o700))
			script := strings.NewReplacer("/agnhost", agnhost, "/smoke/nodes", filepath.Join(dir, "nodes")).Replace(data(t, manifest, "check.sh"))
			cmd := exec.Command("/bin/sh", "-c", script)
			cmd.Env = []string{fmt.Sprintf("HOSTNAME=smoke-node-%d", c.me), "PATH=/nonexistent"} // nothing but the shell itself
			out, err := cmd.CombinedOutput()
			assert.Equal(t, c.fails, strings.TrimSpace(string(out)))
			assert.Equal(t, c.fails != "", err != nil, "%v", err)

			want := []string{}
			for _, target := range []string{"kubernetes.default.svc.cluster.local:443", "smoke-web.smoke.svc.cluster.local:80"} {
				if target == c.down {
					break
				}
				want = append(want, target)
			}
			for _, peer := range c.reached {
				want = append(want, "smoke-node-"+peer+".smoke-node.smoke.svc.cluster.local:8080")
			}
			reached, err := os.ReadFile(filepath.Join(dir, "reached"))
			if len(want) > 0 {
				require.NoError(t, err)
			}
			assert.Equal(t, want, strings.Fields(string(reached)))
		})
	}
}
