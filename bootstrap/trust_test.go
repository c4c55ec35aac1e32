package bootstrap

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/bootstrap/remote"
	"github.com/catamaran-k8s/catamaran/bootstrap/remote/sshdtest"
	"github.com/catamaran-k8s/catamaran/provider"
	"github.com/catamaran-k8s/catamaran/provider/onprem"
)

// trustSite is a site of two nodes behind a jump host: nothing is pinned but what pin adds to the first node.
func trustSite(t *testing.T, jump, machine *sshdtest.Server, pin string) *Site {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "inventory.yaml")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `
apiVersion: catamaran/v1alpha1
kind: Inventory
metadata: {name: here}
kubernetes: {version: 1.37.2}
ssh: {user: plain, port: %d, keyFile: %s, jump: [{address: 127.0.0.1, port: %d, keyFile: %s}]}
clusters:
  service:
    network: {podCIDR: 10.100.0.0/16, serviceCIDR: 10.101.0.0/16}
    nodes:
    - {name: sc-1, role: control-plane, address: 10.77.0.11%s}
    - {name: sc-2, role: worker, address: 10.77.0.12}
`, machine.Port, machine.Client, jump.Port, jump.Client, pin), 0o600))
	s, err := Open(file, Options{Operator: "tester", Providers: provider.Registry{"onprem": onprem.New()}})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	// the file may not say so, because other nodes could not reach them
	nodes := s.Inventory.Cluster("service").Nodes
	nodes[0].Address, nodes[1].Address = "127.0.0.1", "127.0.0.2"
	return s
}

func names(strangers []Stranger) string {
	var out []string
	for _, s := range strangers {
		out = append(out, s.Name)
	}
	return strings.Join(out, ", ")
}

func TestTrust(t *testing.T) {
	t.Parallel()
	jump, machine := sshdtest.Start(t), sshdtest.Start(t)
	s := trustSite(t, jump, machine, "")
	ctx := context.Background()

	found, err := s.Strangers(ctx)
	require.NoError(t, err)
	require.Equal(t, "jump host 127.0.0.1", names(found), "machines behind a stranger are not asked")
	require.True(t, found[0].Jump)
	require.Len(t, found[0].Keys, 3)
	require.NoError(t, s.Trust(found))

	found, err = s.Strangers(ctx, "sc-1")
	require.NoError(t, err)
	require.Equal(t, "sc-1", names(found))
	require.False(t, found[0].Jump)
	for _, k := range found[0].Keys {
		require.Equal(t, ssh.FingerprintSHA256(machine.HostKeys[k.Type].PublicKey()), k.Fingerprint)
	}
	require.NoError(t, s.Trust(found))

	// nobody answers at the second address: it is told, and not trusted
	found, err = s.Strangers(ctx)
	require.NoError(t, err)
	require.Equal(t, "sc-2", names(found))
	require.True(t, remote.IsPassing(found[0].Err), "%v", found[0].Err)
	require.Empty(t, found[0].Keys)
	require.NoError(t, s.Trust(found))
	again, err := s.Strangers(ctx, "sc-2")
	require.NoError(t, err)
	require.Len(t, again, 1)

	_, err = s.Strangers(ctx, "sc-9")
	require.ErrorContains(t, err, "sc-9 is no node of")
	require.ErrorContains(t, err, "choose of sc-1, sc-2")

	lock, err := plan.Acquire(s.Inventory.SiteDir(), s.holder("apply"))
	require.NoError(t, err)
	defer lock.Release()
	require.Error(t, s.Trust(found), "not while somebody else changes the site")
}

func TestTrustLeavesPinnedMachinesAlone(t *testing.T) {
	t.Parallel()
	jump, machine := sshdtest.Start(t), sshdtest.Start(t)
	s := trustSite(t, jump, machine, `, hostKey: "`+ssh.FingerprintSHA256(machine.HostKeys[ssh.KeyAlgoRSA].PublicKey())+`"`)
	found, err := s.Strangers(context.Background())
	require.NoError(t, err)
	require.NoError(t, s.Trust(found))
	found, err = s.Strangers(context.Background(), "sc-1")
	require.NoError(t, err)
	require.Empty(t, found)
}
