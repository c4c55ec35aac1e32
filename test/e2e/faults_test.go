package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/test/chaos/flow"
)

// `make chaos` does the same for ten minutes, with more faults.
func testFaults(t *testing.T) {
	t.Setenv("E2E_KEY_PASSPHRASE", s.canaries.passphrase) // the inventory asks for it, in this process too
	site, err := flow.Open(s.ctx, s.site.Path)
	require.NoError(t, err)
	defer site.Close()
	f, err := flow.Start(s.ctx, site, flow.Options{Rate: 1000, Duration: time.Minute, Log: t.Logf})
	require.NoError(t, err)
	defer func() { assert.NoError(t, f.Close()) }()
	require.NoError(t, f.Run(s.ctx, flow.Brief()))
	require.NoError(t, f.Wait(s.ctx))
	report, err := f.Check(s.ctx)
	require.NoError(t, err)
	t.Log("\n" + report.String())
	require.NoError(t, report.Problems())
}
