// Package chaos kills and cuts off parts of a live site while records flow, and looks for every record afterwards. `make
// chaos` runs it against the lab, which must be up with the platform in both clusters.
package chaos

import (
	"context"
	"flag"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/test/chaos/flow"
)

var (
	inventory = flag.String("site", "/var/lib/catamaran-lab/site/inventory.yaml", "the inventory of the site")
	rate      = flag.Int("rate", 1000, "records a second, in total")
	duration  = flag.Duration("duration", 10*time.Minute, "how long records flow")
	brief     = flag.Bool("brief", false, "only the faults that the e2e tests make")
	away      = flag.Duration("away", time.Minute, "how long what is taken away stays away")
	only      = flag.String("only", "", "only the faults whose name contains this, such as \"S3: away\"")
)

func start(t *testing.T, o flow.Options) (context.Context, *flow.Flow) {
	t.Helper()
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt, syscall.SIGTERM)
	t.Cleanup(stop)
	site, err := flow.Open(ctx, *inventory)
	require.NoError(t, err, "is a lab up, with the platform? See `make demo`")
	t.Cleanup(site.Close)
	o.Log = t.Logf
	f, err := flow.Start(ctx, site, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return ctx, f
}

// Whatever dies or is cut off: no record is lost, none is there twice but for the death of the agent itself, and the chain is
// whole.
func TestNoRecordIsLost(t *testing.T) {
	ctx, f := start(t, flow.Options{Rate: *rate, Duration: *duration})
	faults := flow.All(f.Nodes(), *away)
	if *brief {
		faults = flow.Brief()
	}
	faults = slices.DeleteFunc(faults, func(x flow.Fault) bool { return !strings.Contains(x.Name, *only) })
	require.NotEmpty(t, faults, "no fault's name contains %q", *only)
	require.NoError(t, f.Run(ctx, faults))
	require.NoError(t, f.Wait(ctx))
	report, err := f.Check(ctx)
	require.NoError(t, err)
	t.Log("\n" + report.String())
	require.NoError(t, report.Problems())
}

// Lines that were really lost are found to be, each of them and no other: without this the test above would prove nothing.
func TestLossIsSeen(t *testing.T) {
	const lines = 3000
	ctx, f := start(t, flow.Options{Rate: 200, Duration: 15 * time.Second, Stall: 90 * time.Second})
	require.NoError(t, f.Lose(ctx))
	require.NoError(t, f.Wait(ctx))
	report, err := f.Check(ctx)
	require.NoError(t, err)
	t.Log("\n" + report.String())

	require.Len(t, report.Missing, 1, "what was printed behind the freezing, in one piece")
	lost := report.Missing[0]
	assert.Equal(t, lines/2, lost.To, "to the last line")
	assert.Greater(t, lost.To-lost.From, 100)
	assert.Equal(t, lines, report.Evidence+lost.To-lost.From+1, "all others are there")
	assert.Equal(t, report.Missing, report.Loki.Missing)
	problems := report.Problems()
	require.Error(t, problems)
	assert.Contains(t, problems.Error(), "lines are not in the evidence: ["+lost.String()+"]")
	assert.Contains(t, problems.Error(), "lines are not in Loki: ["+lost.String()+"]")
}
