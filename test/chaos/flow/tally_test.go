package flow

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/bootstrap/verify"
)

const marker = "flow-test"

func writers() []writer { return []writer{{"writer-0", "n0", 10}, {"writer-1", "n1", 10}} }

// epoch is when the first line was printed; the others follow each second.
func epoch() time.Time { return time.Unix(1800000000, 0) }

// text is a record as the gateway stores it.
func text(w, n int) string {
	r, _ := json.Marshal(map[string]string{"namespace": marker, "pod": fmt.Sprintf("writer-%d", w), "message": fmt.Sprintf("%s %d %s", marker, n, padding)})
	return string(r)
}

// object is one as it lies in the store, put together `after` the epoch.
func object(t *testing.T, sequence int, after time.Duration, records ...string) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	head := fmt.Sprintf(`{"sequence":%d,"created":%q}`+"\n", sequence, epoch().Add(after).UTC().Format(time.RFC3339Nano))
	var lines strings.Builder
	for _, r := range records {
		n := 0
		if at := strings.Index(r, marker+" "); at >= 0 {
			_, _ = fmt.Sscanf(r[at:], marker+" %d", &n)
		}
		fmt.Fprintf(&lines, `{"ts":"%d","tag":"kube.containers","stream":0,"record":%s}`+"\n", epoch().Add(time.Duration(n)*time.Second).UnixNano(), r)
	}
	return enc.EncodeAll([]byte(lines.String()), enc.EncodeAll([]byte(head), nil))
}

func all(w int, without ...int) []string {
	var out []string
next:
	for n := 1; n <= 10; n++ {
		for _, x := range without {
			if n == x {
				continue next
			}
		}
		out = append(out, text(w, n))
	}
	return out
}

// reported is the report of a flow with these objects, in Loki too.
func reported(t *testing.T, deeds []deed, objects ...[]byte) Report {
	t.Helper()
	f := &Flow{site: &Site{}, writers: writers(), deeds: deeds, chain: newTally(marker, writers()), watch: &watch{steps: []step{{epoch(), 0}, {epoch().Add(20 * time.Second), 1}, {epoch().Add(25 * time.Second), 9}}}}
	for _, o := range objects {
		require.NoError(t, f.chain.object(o))
	}
	r := f.report()
	r.Loki = Loki{Lines: r.Evidence, Missing: r.Missing, More: r.more()}
	r.Chain.Verdict = verify.Pass
	return r
}

func TestWhatIsMissing(t *testing.T) {
	t.Parallel()
	r := reported(t, nil, object(t, 1, time.Minute, append(all(0), all(1)...)...))
	require.NoError(t, r.Problems())
	assert.Equal(t, 20, r.Evidence)
	assert.Equal(t, 19*time.Second, r.MaxDelay, "line 1 was printed in second 1 and stored in second 20")
	assert.InDelta(t, 20/9., r.Rate, 0.01)

	at := func(s int) time.Time { return epoch().Add(time.Duration(s) * time.Second) }
	deeds := []deed{{Fault: StopLoki(time.Second), from: at(4), to: at(6)}, {Fault: KillStore(), from: at(8), to: at(8)}}
	r = reported(t, deeds, object(t, 1, time.Minute, all(0)...), object(t, 2, time.Minute, all(1, 1, 2, 3, 4, 5, 6)...), object(t, 2, time.Minute, all(1, 7, 8, 9, 10)...))
	assert.Equal(t, []Outcome{
		{Name: "Loki: away for 1s", At: r.Faults[0].At, Lasted: 2 * time.Second, Silence: 8 * time.Second, Recovery: 19 * time.Second, MaxDelay: 21 * time.Second},
		{Name: "S3: SIGKILL", At: r.Faults[1].At, Silence: 20 * time.Second, Recovery: 17 * time.Second, MaxDelay: 17 * time.Second},
	}, r.Faults)

	r = reported(t, nil, object(t, 1, time.Minute, all(0, 3, 4, 5, 10)...), object(t, 2, time.Minute, all(1)...))
	assert.Equal(t, []Lines{{"writer-0", 3, 5}, {"writer-0", 10, 10}}, r.Missing)
	assert.ErrorContains(t, r.Problems(), "4 lines are not in the evidence: [writer-0 3-5 writer-0 10-10]")
	assert.ErrorContains(t, r.Problems(), "4 lines are not in Loki")

	require.Error(t, reported(t, nil).Problems(), "nothing at all")
}

func TestWhatIsNotAsPrinted(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]string{
		"cut":          strings.Replace(text(0, 1), "cdef\"", "cde\"", 1),
		"another pod":  strings.Replace(text(0, 1), "writer-0", "writer-7", 1),
		"never given":  text(0, 11),
		"no number":    strings.Replace(text(0, 1), marker+" 1 ", marker+" x ", 1),
		"not our line": `{"namespace":"` + marker + `","pod":"writer-0","message":"sh: out of memory"}`,
	} {
		r := reported(t, nil, object(t, 1, time.Minute, append(append(all(0), all(1)...), bad)...))
		assert.ErrorContains(t, r.Problems(), "1 records in the evidence are not as they were printed", name)
	}
	// somebody else who names us
	r := reported(t, nil, object(t, 1, time.Minute, append(append(all(0), all(1)...), `{"message":"pod `+marker+`/writer-0 made"}`)...))
	require.NoError(t, r.Problems())
}

func TestWhatIsThereTwice(t *testing.T) {
	t.Parallel()
	whole := object(t, 1, 15*time.Second, append(all(0), all(1)...)...)
	copies := object(t, 2, 30*time.Second, text(1, 4), text(1, 5), text(1, 6))
	at := func(s int) time.Time { return epoch().Add(time.Duration(s) * time.Second) }
	killed := func(node string, s int) []deed { return []deed{{Fault: KillAgent(node), from: at(s), to: at(s)}} }
	for name, c := range map[string]struct {
		deeds   []deed
		objects [][]byte
		problem string
	}{
		"nobody died":                {nil, [][]byte{copies}, "3 lines are in the evidence again, in objects 1 and 2: writer-1 4-6"},
		"the agent died":             {killed("n1", 20), [][]byte{copies}, ""},
		"another node's agent died":  {killed("n0", 20), [][]byte{copies}, "again"},
		"it died before they were":   {killed("n1", 2), [][]byte{copies}, "again"},
		"it died after the copies":   {killed("n1", 40), [][]byte{copies}, "again"},
		"the gateway died":           {[]deed{{Fault: KillGateway(), from: at(20), to: at(20)}}, [][]byte{copies}, "again"},
		"not only what it read last": {killed("n1", 20), [][]byte{copies, object(t, 3, 31*time.Second, text(1, 9))}, "1 lines are in the evidence again, in objects 1 and 3: writer-1 9-9"},
		"three times":                {killed("n1", 20), [][]byte{copies, copies}, "again"},
	} {
		r := reported(t, c.deeds, append([][]byte{whole}, c.objects...)...)
		if c.problem == "" {
			require.NoError(t, r.Problems(), name)
			assert.Equal(t, 3, r.more(), name)
			assert.Contains(t, r.String(), "twice: writer-1 4-6, in objects 1 and 2: log agent of n1: SIGKILL")
			continue
		}
		assert.ErrorContains(t, r.Problems(), c.problem, name)
	}
	r := reported(t, nil, whole)
	r.Loki.More = 2
	assert.ErrorContains(t, r.Problems(), "2 lines are in Loki again, 0 in the evidence")
	r = reported(t, nil, whole)
	r.Chain.Verdict, r.Chain.Findings = verify.Fail, []string{"gap"}
	assert.ErrorContains(t, r.Problems(), "the chain: fail [gap]")
}
