package main

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/bootstrap"
	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

func aChange(v provider.Verb, name string) plan.Change {
	return plan.Change{Cluster: inventory.Workload, Change: provider.Change{Verb: v, Kind: "server", Name: name, Reason: "because"}}
}

func TestAPlanThatOnlyMakesMachinesIsWork(t *testing.T) {
	t.Parallel()
	p := plan.Plan{Site: "umea", Changes: []plan.Change{aChange(provider.Create, "wc-1")}, Pending: []string{"wc-1"}}
	var code *exitCode
	require.ErrorAs(t, planStatus(p), &code)
	assert.Equal(t, exitWork, code.code)
	assert.NoError(t, planStatus(plan.Plan{}))

	var b bytes.Buffer
	require.NoError(t, plan.Render(&b, p, plan.RenderOptions{}))
	assert.Regexp(t, `(?s)workload: machines\n  create +server +wc-1 +because\n.*machines of wc-1 will be made first; their steps are planned once they exist`, b.String())
	assert.NotContains(t, b.String(), "nothing to do")
	assert.Equal(t, 3, events(p), "one cluster, one change, one machine to wait for")
}

func TestDestructionSaysWhatStays(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	d := bootstrap.Destruction{Site: "umea", Changes: []plan.Change{aChange(provider.Delete, "wc-1")}, Adopted: []string{"wc-2"}}
	require.NoError(t, showDestruction(&b, d, false))
	assert.Regexp(t, `workload +delete +server +wc-1 +because`, b.String())
	assert.Contains(t, b.String(), "not touched, because somebody else made them: wc-2; `catamaran reset`")
}

func TestDestroyIsNotAgreedToWithoutATerminal(t *testing.T) {
	t.Parallel()
	in, out, err := os.Pipe()
	require.NoError(t, err)
	defer func() { assert.NoError(t, errors.Join(in.Close(), out.Close())) }()
	_, err = out.WriteString("umea\n")
	require.NoError(t, err)
	ok, err := confirmName(in, "umea")
	assert.False(t, ok)
	assert.ErrorContains(t, err, "say --yes")
}
